"""What `start` and `evaluate` do alike before they measure."""

from pathlib import Path

from rich.console import Console

from atm_search.measure.evaluator import Answers, Evaluator
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
    """An evaluator with its images read, saying on the console what it works with."""
    with progress(console, "Reading images") as step:
        shard = open_shard(
            model, data=data, images=images, skip_corrupt=skip_corrupt, progress=step
        )
    evaluator = Evaluator(model, shard, batch_size=BATCH_SIZE if batch_size is None else batch_size)
    console.print(
        f"Model    {model.name}, weights {model.weights_digest[:8]} ({model.weights_source})\n"
        f"Images   {len(shard):,}, shard {shard.digest[:8]} ({shard.source})\n"
        f"Protocol batch size {evaluator.batch_size}, {model.dtype_name}, {model.device}, "
        f"crop {model.preprocessing.crop_pct:g}",
        soft_wrap=True,
    )
    if shard.skipped:
        console.print(f"Skipped  {len(shard.skipped):,} corrupt images, first {shard.skipped[0]}")
    return evaluator


def measure_dense(console: Console, evaluator: Evaluator) -> Answers:
    """The dense model's answers, with progress if they are not there yet."""
    with progress(console, "Measuring the dense model") as step:
        return evaluator.dense(step)
