"""`atm-search worker`."""

import os
import secrets
import signal
import threading
from typing import Annotated

import typer

from atm_search.cli import options

Number = Annotated[int | None, typer.Option("--number", hidden=True)]

ADVICE = "Pass the same to this worker with --checkpoint and --data."

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
    from atm_search.cli.joining import study_evaluator
    from atm_search.cli.prepare import work
    from atm_search.search.store import open_store
    from atm_search.search.study import load
    from atm_search.show.board import trial_progress
    from atm_search.show.consoles import log_console

    if number is not None:
        _end_with_supervisor()
    address = options.storage_address(storage)
    wait_s = 0.0 if number is None else OPEN_S
    joined = load(open_store(address, create=False, wait_s=wait_s), study)
    console = log_console()
    console.print(f"Study    {joined.name}, {joined.plan.budget} trials", markup=False)
    if sum(record.measured for record in joined.records()) >= joined.plan.budget:
        console.print("All of its trials are finished.")
        return
    evaluator = study_evaluator(
        console,
        joined,
        checkpoint=checkpoint,
        data=data,
        device=device,
        advice=ADVICE,
        timed=True,
    )
    # Workers of one supervisor are numbered; whoever joins draws a number that nobody has.
    number = secrets.randbelow(2**31) if number is None else number
    with trial_progress(console, joined) as (on_trial, on_wait):
        outcome = work(
            console, joined, evaluator, worker=number, on_trial=on_trial, on_wait=on_wait
        )
    console.print(f"The study has {outcome.done} of {outcome.total} trials.")
    if outcome.interrupted:
        raise typer.Exit(130)


def _end_with_supervisor() -> None:
    """Stop as if asked to when the supervisor ends, which closes our standard input."""

    def follow() -> None:
        os.read(0, 1)  # nothing ever comes: it returns at the end of the pipe
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="supervisor", daemon=True).start()
