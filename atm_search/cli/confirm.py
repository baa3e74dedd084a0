"""`atm-search confirm`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from atm_search.data.cache import Cache
    from atm_search.data.shard import Shard
    from atm_search.measure.evaluator import Evaluator
    from atm_search.search.study import Study
    from atm_search.show.progress import Step

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Other images, a folder per class. Default: those that the search left over."
    ),
]
Images = Annotated[
    int | None, typer.Option("--images", help="How many of them. Default: all; demo: 1000.")
]

ADVICE = (
    "What the search measured is needed here, to be sure that other images are others: name its "
    "weights with --checkpoint and its images with ATM_SEARCH_DATA."
)


def confirm(
    storage: options.Storage = None,
    study: options.Study = None,
    checkpoint: options.Checkpoint = None,
    data: Data = None,
    images: Images = None,
    skip_corrupt: options.SkipCorrupt = False,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Measure the frontier again on images that the search did not choose it by.

    Both figures are shown, and kept in the study; an interrupted confirmation continues.

    Example: atm-search confirm --study deit_t --images 5000
    """
    from atm_search.cli.joining import study_evaluator
    from atm_search.data.unseen import require_unseen
    from atm_search.errors import StudyError
    from atm_search.measure.provenance import device_name, versions
    from atm_search.search import confirmation
    from atm_search.search.frontier import frontier
    from atm_search.search.store import open_store, store_errors
    from atm_search.search.study import load
    from atm_search.search.trials import Environment
    from atm_search.show.confirmation import confirmation_summary, confirmation_table
    from atm_search.show.consoles import log_console, result_console
    from atm_search.show.progress import progress

    console = log_console()
    found = load(open_store(options.storage_address(storage), create=False), study)
    if not frontier(found.records(), found.dense, found.objectives):
        raise StudyError(f"Study '{found.name}' has no frontier to confirm yet: search first.")
    searched = study_evaluator(
        console, found, checkpoint=checkpoint, data=None, device=device, advice=ADVICE
    )
    fresh, after = _fresh(console, found, searched, data, images, skip_corrupt)
    require_unseen(fresh.shard, searched.shard)
    model = searched.model
    with progress(console, "Measuring the dense model") as step:
        fresh.dense(step)
    with store_errors(found.storage), progress(console, "Confirming (points)") as step:
        points = confirmation.confirm(
            found,
            fresh.measure,
            shard_digest=fresh.shard.digest,
            source=fresh.shard.source,
            after=after,
            environment=Environment(device_name(model.device), model.dtype_name, versions()),
            on_point=step,
        )
    if as_json:
        print(json.dumps(confirmation_summary(found, points), indent=2))
    else:
        result_console().print(confirmation_table(found, points))


def _fresh(
    console: "Console",
    study: "Study",
    searched: "Evaluator",
    data: Path | None,
    images: int | None,
    skip_corrupt: bool,
) -> "tuple[Evaluator, int]":
    """What measures as the search did, on other images; and how many come before these."""
    from atm_search.data.cache import Cache, cache_directory
    from atm_search.measure.evaluator import Evaluator
    from atm_search.show.progress import progress

    cache = Cache(cache_directory(), lambda note: console.print(note, markup=False, soft_wrap=True))
    with progress(console, "Reading images") as step:
        shard, after = _other_images(study, searched, cache, data, images, skip_corrupt, step)
    console.print(
        f"Confirm  {len(shard):,} images, shard {shard.digest[:8]} ({shard.source})",
        soft_wrap=True,
    )
    fresh = Evaluator(searched.model, shard, batch_size=searched.batch_size, cache=cache)
    return fresh, after


def _as_searched(searched: "Evaluator", own: "Shard") -> "Shard":
    """The demo's own images, with labels if the search had them."""
    known, why = searched.shard.labels, searched.shard.why_unlabelled
    return own if known is not None else own.unlabelled(why)


def _other_images(
    study: "Study",
    searched: "Evaluator",
    cache: "Cache",
    data: Path | None,
    images: int | None,
    skip_corrupt: bool,
    step: "Step",
) -> "tuple[Shard, int]":
    """Those of the folder given; else those that the search left over, in the same order.

    And how many of that order come before them.
    """
    from atm_search.data.embedded import EMBEDDED, embedded_shard
    from atm_search.data.folder import read_folder
    from atm_search.errors import DataError

    model, source = searched.model, searched.shard.source
    if data is None and source == EMBEDDED:
        own = embedded_shard(images, skip=len(searched.shard))
        return _as_searched(searched, own), len(searched.shard)
    root = Path(source) if data is None else data.resolve()
    skip = 0
    if str(root) == source:
        # As many as were asked for: corrupt ones, which are not in the shard, count.
        taken = study.plan.hints.get("images")
        if taken is None:
            raise DataError(
                f"The search measured on all images of {root}, so none is left to confirm on: "
                "give other images with --data."
            )
        skip = int(taken)
        skip_corrupt = skip_corrupt or study.plan.hints.get("skip_corrupt", False)
    shard = read_folder(
        root,
        need_labels=searched.shard.labels is not None,
        transform=model.preprocessing.pixels,
        num_classes=model.num_classes,
        images=images,
        skip=skip,
        skip_corrupt=skip_corrupt,
        progress=step,
        cache=cache,
        transform_name=str(model.preprocessing),
    )
    return shard, skip
