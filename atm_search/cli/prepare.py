"""What `start`, `worker` and `evaluate` do alike."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from atm_search.data.cache import Cache, cache_directory
from atm_search.measure.evaluator import Answers, Evaluator
from atm_search.measure.precision import AUTO, automatic
from atm_search.measure.provenance import device_name, versions
from atm_search.measure.setup import BATCH_SIZE, open_shard
from atm_search.measure.stopwatch import Stopwatch
from atm_search.models.cpu import keep_freed_memory
from atm_search.models.reduction import reads_prefix_only
from atm_search.models.zoo import LoadedModel
from atm_search.show.progress import progress

if TYPE_CHECKING:
    from atm_search.measure.measurement import Measurement
    from atm_search.measure.racing import Race
    from atm_search.merging.method import Method
    from atm_search.search.study import Study
    from atm_search.search.worker import OnTrial, OnWait, Outcome


DRIFT = 1.25
"""Times as slow or as fast as when a study began, from which the dense model's latency is noted."""


def prepare(
    console: Console,
    model: LoadedModel,
    *,
    data: Path | None,
    images: int | None,
    skip_corrupt: bool,
    batch_size: int | None,
    dtype: str,
    need_labels: bool = True,
    skip: int = 0,
) -> Evaluator:
    """An evaluator with its images read, saying on the console what it works with.

    A `dtype` of auto may give it another model than the one here, which is then in float32.
    """

    keep_freed_memory()

    @functools.cache  # the same trouble comes with every entry; one line of it is enough
    def note(trouble: str) -> None:
        console.print(f"Note: {trouble}", markup=False, soft_wrap=True)

    cache = Cache(cache_directory(), note)
    batch_size = BATCH_SIZE if batch_size is None else batch_size
    with progress(console, "Reading images") as step:
        shard = open_shard(
            model,
            data=data,
            images=images,
            skip=skip,
            skip_corrupt=skip_corrupt,
            progress=step,
            cache=cache,
            need_labels=need_labels,
        )
    reason = None
    if dtype == AUTO:
        with progress(console, "Choosing the precision") as step:
            model, reason = automatic(
                model, shard, batch_size=batch_size, cache=cache, on_batch=step
            )
    evaluator = Evaluator(model, shard, batch_size=batch_size, cache=cache)
    console.print(
        f"Model    {model.name}, weights {model.weights_digest[:8]} ({model.weights_source})\n"
        f"Images   {len(shard):,}, shard {shard.digest[:8]} ({shard.source})\n"
        f"Protocol batch size {evaluator.batch_size}, {model.dtype_name}, {model.device}, "
        f"crop {model.preprocessing.crop_pct:g}",
        soft_wrap=True,
    )
    if reason is not None:
        console.print(f"Dtype    {reason}", soft_wrap=True)
    if shard.labels is None:
        console.print(f"Labels   none: {shard.why_unlabelled}", markup=False, soft_wrap=True)
    if shard.skipped:
        console.print(f"Skipped  {len(shard.skipped):,} corrupt images, first {shard.skipped[0]}")
    return evaluator


def measure_dense(console: Console, evaluator: Evaluator) -> Answers:
    """The dense model's answers, with progress if they are not there yet.

    Raises:
        MeasurementError: they cannot be compared with.
    """
    with progress(console, "Measuring the dense model") as step:
        evaluator.dense(step)
    return evaluator.reference


def measured_on(evaluator: Evaluator, *, latency_batch_size: int | None = None) -> dict[str, Any]:
    """What trials are measured on, and how: these fields of a study's identity.

    Latency, if it is timed, fixes the device too: that of another does not compare.
    """
    model = evaluator.model
    timed = {}
    if latency_batch_size is not None:
        timed["latency"] = {"batch_size": latency_batch_size, "device": device_name(model.device)}
    return {
        "model": model.name,
        "weights_digest": model.weights_digest,
        "shard_digest": evaluator.shard.digest,
        "images": len(evaluator.shard),
        "depth": model.depth,
        "prefix_only_head": reads_prefix_only(model.network),
        "protocol": {
            "batch_size": evaluator.batch_size,
            "dtype": model.dtype_name,
            "preprocessing": model.preprocessing.to_dict(),
            **timed,
        },
    }


def work(
    console: Console,
    study: "Study",
    evaluator: Evaluator,
    *,
    worker: int,
    on_trial: "OnTrial",
    on_wait: "OnWait",
) -> "Outcome":
    """Run trials of a study in this process, until its budget is spent."""
    from atm_search.search.trials import Environment
    from atm_search.search.worker import run

    timed = study.identity.protocol.get("latency")
    watch = None
    if timed is not None:
        watch = Stopwatch(evaluator.model, evaluator.shard, batch_size=timed["batch_size"])
        console.print(
            f"Latency  a batch of {watch.batch_size} takes the dense model {watch.dense_ms:.2f} ms "
            f"on {timed['device']}",
            soft_wrap=True,
        )
        _note_drift(console, watch, study)
    answer = functools.cache(lambda: measure_dense(console, evaluator))  # shows its bar once

    def measure(method: "Method", race: "Race") -> "Measurement":
        answer()
        if watch is None:
            return evaluator.measure(method, race=race)
        # First: a rival that answers later does not dominate, and a trial that is raced out has
        # its own latency too, so that samplers see three values of every trial.
        latency = watch.measure(method)
        race.require_latency(latency.median_ms)
        return replace(evaluator.measure(method, race=race), latency=latency)

    model = evaluator.model
    return run(
        study,
        measure,
        environment=Environment(device_name(model.device), model.dtype_name, versions()),
        worker=worker,
        on_trial=on_trial,
        on_wait=on_wait,
    )


def _note_drift(console: Console, watch: Stopwatch, study: "Study") -> None:
    """Say if this device is not as fast as it was when the study began."""
    before = study.dense.latency_ms
    if before is not None and not 1 / DRIFT <= watch.dense_ms / before <= DRIFT:
        console.print(
            f"Note: the dense model takes {watch.dense_ms:.2f} ms now, {before:.2f} ms when the "
            "study began: latencies from both times do not compare. Is the device busy?",
            soft_wrap=True,
        )
