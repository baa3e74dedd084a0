"""`atm-search worker`."""

import os
import secrets
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atm_search.cli import options

if TYPE_CHECKING:
    from rich.console import Console

    from atm_search.measure.evaluator import Evaluator
    from atm_search.search.study import Study

Number = Annotated[int | None, typer.Option("--number", hidden=True)]

OPEN_S = 60.0
"""How long a supervised worker tries to reach the store, which its supervisor has reached."""


def worker(
    storage: options.Storage = None,
    study: options.Study = None,
    checkpoint: options.Checkpoint = None,
    data: options.Data = None,
    device: options.Device = "auto",
    number: Number = None,
) -> None:
    """Join a study from any machine: the store says what to measure, and how.

    Weights and images are looked for where the study's first start had them, unless you say where
    they are here; both must be the same, bit by bit.

    Example: atm-search worker --storage postgresql://me@db/atm --study deit_b
    """
    from atm_search.cli.prepare import work
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.consoles import log_console
    from atm_search.show.trials import trial_progress

    if number is not None:
        _end_with_supervisor()
    address = options.storage_address(storage)
    wait_s = 0.0 if number is None else OPEN_S
    joined = load(open_store(address, create=False, wait_s=wait_s), study)
    console = log_console()
    console.print(f"Study    {joined.name}, {joined.plan.budget} trials", markup=False)
    done, budget = sum(record.measured for record in joined.records()), joined.plan.budget
    if done >= budget:
        console.print("All of its trials are finished.")
        return
    evaluator = _evaluator(console, joined, checkpoint=checkpoint, data=data, device=device)
    # Workers of one supervisor are numbered; whoever joins draws a number that nobody has.
    number = secrets.randbelow(2**31) if number is None else number
    with trial_progress(console, done, budget) as (on_trial, on_wait):
        outcome = work(
            console, joined, evaluator, worker=number, on_trial=on_trial, on_wait=on_wait
        )
    console.print(f"The study has {outcome.done} of {outcome.total} trials.")
    if outcome.interrupted:
        raise typer.Exit(130)


def _evaluator(
    console: "Console", study: "Study", *, checkpoint: Path | None, data: Path | None, device: str
) -> "Evaluator":
    """The study's model and images as this machine has them.

    Raises:
        StudyError: they are not the same.
    """
    from atm_search.cli.prepare import measured_on, prepare
    from atm_search.errors import StudyError
    from atm_search.measure.setup import DATA_DIRECTORY
    from atm_search.models.zoo import load_model

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
        ),
        data=data,
        images=hints.get("images", identity.images),
        skip_corrupt=hints.get("skip_corrupt", False),
        batch_size=identity.protocol["batch_size"],
        dtype=identity.protocol["dtype"],
        need_labels=identity.objectives.needs_labels,
    )
    differences = identity.differences(replace(identity, **measured_on(evaluator)))
    if differences:
        raise StudyError(
            f"Study '{study.name}' was {'; '.join(differences)}. Pass the same to this worker "
            "with --checkpoint and --data."
        )
    return evaluator


def _there(hint: str | None, exists: Callable[[Path], bool]) -> Path | None:
    """Where something was on the machine that began the study, if this one has it too."""
    if hint is None or not Path(hint).is_absolute():
        return None
    return Path(hint) if exists(Path(hint)) else None


def _end_with_supervisor() -> None:
    """Stop as if asked to when the supervisor ends, which closes our standard input."""

    def follow() -> None:
        os.read(0, 1)  # nothing ever comes: it returns at the end of the pipe
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="supervisor", daemon=True).start()
