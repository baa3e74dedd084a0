"""`atm-search freeze`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atm_search.cli import options
from atm_search.cli.configured import Dtype, File, Force, Images, Place

if TYPE_CHECKING:
    from atm_search.deploy.configuration import Configuration

Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="The file to write. Default: FILE with -frozen."),
]


def freeze(
    file: File,
    output: Output = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    images: Images = None,
    skip_corrupt: options.SkipCorrupt = False,
    dtype: Dtype = None,
    device: options.Device = "auto",
    force: Force = False,
    as_json: options.Json = False,
) -> None:
    """Turn ATM into a fixed schedule, whose counts no longer depend on the batch, and measure it.

    Example: atm-search freeze best.yaml -o frozen.yaml
    """
    from atm_search.deploy.configuration import Configuration
    from atm_search.deploy.freeze import freeze as frozen
    from atm_search.show.consoles import log_console, result_console
    from atm_search.show.progress import progress
    from atm_search.show.tables import measurement_table

    configuration = Configuration.read(file, refuse_edits=not force)
    console = log_console()
    evaluator = Place(checkpoint, data, images, skip_corrupt, dtype, device, force).evaluator(
        console, file, configuration
    )
    with progress(console, "Comparing both") as step:
        fixed = frozen(configuration, evaluator, step)
    path = output or file.with_name(f"{file.stem}-frozen{file.suffix}")
    fixed.write(path)
    if as_json:
        print(json.dumps(_summary(path, fixed), indent=2))
        return
    results = result_console()
    title = f"{fixed.model.name} {fixed.method.name}"
    results.print(measurement_table(fixed.measurement, title=title))
    results.print(_cost_of_freezing(fixed))
    print(path)


def _cost_of_freezing(fixed: "Configuration") -> str:
    assert fixed.frozen_from is not None
    source, (low, high) = fixed.frozen_from, fixed.frozen_from.delta_ci95
    return (
        f"Freezing changes top-1 by {source.delta_top1:+.2f} points (95 % interval {low:+.2f} to "
        f"{high:+.2f}, paired), GFLOPs from {source.gflops:.4f} to {fixed.measurement.gflops:.4f}."
    )


def _summary(path: Path, fixed: "Configuration") -> dict[str, Any]:
    assert fixed.frozen_from is not None
    return {
        "file": str(path),
        "method": fixed.method.name,
        "params": fixed.method.params,
        **fixed.measurement.figures(),
        "frozen_from": fixed.frozen_from.model_dump(mode="json", exclude_none=True),
    }
