"""`atm-search verify`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options
from atm_search.cli.configured import Dtype, File, Force, Images, Place
from atm_search.errors import ParameterError

if TYPE_CHECKING:
    from atm_search.measure.evaluator import Evaluator
    from atm_search.measure.measurement import Measurement
    from atm_search.merging.method import Method

BatchSizes = Annotated[
    str | None,
    typer.Option("--batch-size", help="Measure these too, such as 1,8,32: what they change."),
]
Confirmed = Annotated[
    bool,
    typer.Option("--confirmed", help="The file's confirmed figures, on the images of these."),
]


def verify(
    file: File,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    images: Images = None,
    batch_sizes: BatchSizes = None,
    confirmed: Confirmed = False,
    skip_corrupt: options.SkipCorrupt = False,
    dtype: Dtype = None,
    device: options.Device = "auto",
    force: Force = False,
    as_json: options.Json = False,
) -> None:
    """Measure a configuration file again; exit code 1 if its figures do not hold.

    Example: atm-search verify best.yaml --batch-size 1,8,32,100
    """
    from atm_search.deploy.configuration import Configuration
    from atm_search.deploy.verify import verify as verified
    from atm_search.show.consoles import log_console, result_console
    from atm_search.show.verification import batch_size_table, verification_table

    sizes = _counts(batch_sizes)
    configuration = Configuration.read(file)
    if confirmed:
        configuration = configuration.as_confirmed()
    method = configuration.build_method()
    console = log_console()
    evaluator = Place(checkpoint, data, images, skip_corrupt, dtype, device, force).evaluator(
        console, file, configuration
    )
    own = configuration.protocol.batch_size
    measured = _measured(evaluator, method, own)
    verification = verified(
        configuration,
        measured,
        model=evaluator.model,
        shard_digest=evaluator.shard.digest,
    )
    by_size = {
        size: measured if size == own else _measured(evaluator, method, size) for size in sizes
    }
    if as_json:
        swept = [{"batch_size": size, **found.figures()} for size, found in by_size.items()]
        print(json.dumps(verification.to_dict() | {"batch_sizes": swept}, indent=2))
    else:
        results = result_console()
        verdict = "holds" if verification.holds else "does not hold"
        results.print(verification_table(verification, title=f"{file} {verdict}"))
        for contradiction in verification.contradictions:
            results.print(f"Edited: {contradiction}.", markup=False)
        if by_size:
            results.print(batch_size_table(by_size))
    if not verification.holds:
        raise typer.Exit(1)


def _measured(evaluator: "Evaluator", method: "Method", batch_size: int) -> "Measurement":
    """The measurement of a method in batches of some size, with progress."""
    from atm_search.measure.evaluator import Evaluator
    from atm_search.show.consoles import log_console
    from atm_search.show.progress import progress

    if batch_size != evaluator.batch_size:
        evaluator = Evaluator(evaluator.model, evaluator.shard, batch_size=batch_size)
    with progress(log_console(), f"Measuring, batch size {batch_size}") as step:
        return evaluator.measure(method, step)


def _counts(text: str | None) -> list[int]:
    """Batch sizes as people list them.

    Raises:
        ParameterError: one is no count.
    """
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise ParameterError(f"--batch-size {text}: give counts of 1 or more, such as 1,8,32.")
    return [int(word) for word in words]
