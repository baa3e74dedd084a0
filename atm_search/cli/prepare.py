"""What `start` and `evaluate` do alike before they measure: model, images, dense model."""

from pathlib import Path

from rich.console import Console

from atm_search.measure.evaluator import Evaluator
from atm_search.measure.setup import BATCH_SIZE, open_shard
from atm_search.models.zoo import LoadedModel
from atm_search.show.progress import progress


def prepare(
    console: Console,
    model: LoadedModel,
    *,
    data: Path | None,
    images: int | None,
    skip_corrupt: bool,
    batch_size: int | None,
) -> Evaluator:
    """An evaluator with the dense model measured, saying on the console what it works with."""
    with progress(console, "Reading images") as step:
        shard = open_shard(
            model, data=data, images=images, skip_corrupt=skip_corrupt, progress=step
        )
    if shard.skipped:
        console.print(f"Skipped {len(shard.skipped):,} corrupt images, first {shard.skipped[0]}.")
    evaluator = Evaluator(model, shard, batch_size=BATCH_SIZE if batch_size is None else batch_size)
    console.print(
        f"{model.name} ({model.weights_digest[:8]}, {model.weights_source}) on {len(shard):,} "
        f"images ({shard.digest[:8]}, {shard.source}), batch size {evaluator.batch_size}, "
        f"{str(model.dtype).removeprefix('torch.')}, {model.device}"
    )
    with progress(console, "Measuring the dense model") as step:
        evaluator.dense(step)
    return evaluator
