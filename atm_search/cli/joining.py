"""The model and the images of a study that is there already, found on this machine."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from atm_search.cli.prepare import measured_on, prepare
from atm_search.errors import StudyError
from atm_search.measure.evaluator import Evaluator
from atm_search.measure.provenance import device_name
from atm_search.measure.setup import DATA_DIRECTORY
from atm_search.models.zoo import load_model
from atm_search.search.study import Study


def study_evaluator(
    console: Console,
    study: Study,
    *,
    checkpoint: Path | None,
    data: Path | None,
    device: str,
    advice: str,
    timed: bool = False,
) -> Evaluator:
    """The study's model and images as this machine has them.

    They are looked for where the study's first start had them, unless said otherwise.

    Args:
        console: told what is worked with.
        study: says what it has to be.
        checkpoint: weights.
        data: folder of images.
        device: to measure on.
        advice: what to do if they are not the same, a sentence.
        timed: whether latency is to be timed, which asks for the study's device.

    Raises:
        StudyError: they are not the same, or the device is another and latency an objective.
    """
    identity, hints = study.identity, study.plan.hints
    if checkpoint is None:
        checkpoint = _there(hints.get("weights"), Path.is_file)
    if data is None and not os.environ.get(DATA_DIRECTORY):
        data = _there(hints.get("data"), Path.is_dir)
    evaluator = prepare(
        console,
        load_model(
            identity.model,
            checkpoint=checkpoint,
            crop_pct=identity.protocol["preprocessing"]["crop_pct"],
            device=device,
            dtype=identity.protocol["dtype"],
            headless=identity.objectives.headless,
        ),
        data=data,
        images=hints.get("images", identity.images),
        skip_corrupt=hints.get("skip_corrupt", False),
        batch_size=identity.protocol["batch_size"],
        dtype=identity.protocol["dtype"],
        need_labels=identity.objectives.needs_labels,
    )
    latency = identity.protocol.get("latency")
    if latency is not None and timed:
        _check_device(study.name, latency["device"], device_name(evaluator.model.device))
    here = measured_on(evaluator)
    if latency is not None:
        here["protocol"] |= {"latency": latency}
    differences = identity.differences(replace(identity, **here))
    if differences:
        raise StudyError(f"Study '{study.name}' was {'; '.join(differences)}. {advice}")
    return evaluator


def _check_device(study: str, wanted: str, here: str) -> None:
    if wanted != here:
        raise StudyError(
            f"Study '{study}' times latency on {wanted}; this is {here}. Latencies of two devices "
            "do not compare: join with the same device (for a CPU, OMP_NUM_THREADS sets its "
            "threads), or begin another study here."
        )


def _there(hint: str | None, exists: Callable[[Path], bool]) -> Path | None:
    """Where something was on the machine that began the study, if this one has it too."""
    if hint is None or not Path(hint).is_absolute():
        return None
    return Path(hint) if exists(Path(hint)) else None
