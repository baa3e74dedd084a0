"""A worker: takes trials from a study's budget until it is spent."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from atm_search.errors import AtmSearchError
from atm_search.measure.racing import RaceRules
from atm_search.search.grid import SubGrid
from atm_search.search.heartbeat import Sweeper
from atm_search.search.history import History
from atm_search.search.interrupts import Interrupts
from atm_search.search.runner import Measure, TrialRunner
from atm_search.search.samplers import make_sampler, mixed_seed
from atm_search.search.store import store_errors
from atm_search.search.study import Study
from atm_search.search.trials import Environment, TrialRecord

MAX_FAILURES_IN_A_ROW = 5
"""Failed trials in a row, with no success between, after which the worker gives up."""

POLL_S = 0.5
"""Between looks at the store while other workers run the last trials."""

OnTrial = Callable[[TrialRecord, int, int], None]
"""Told of every trial that ended here: its record, trials done, trials in all."""

OnWait = Callable[[int, int, int], None]
"""Told while others run the last trials: trials running, trials done, trials in all."""


@dataclass(frozen=True)
class Outcome:
    """How a worker ended."""

    done: int
    """Finished trials of the study, over all workers."""
    total: int
    """Its budget."""
    interrupted: bool = False
    exhausted: bool = False
    """All of the space, or of a sweep's sub-grid, is measured or given up before the budget."""


def run(
    study: Study,
    measure: Measure,
    *,
    environment: Environment,
    worker: int = 0,
    on_trial: OnTrial | None = None,
    on_wait: OnWait | None = None,
) -> Outcome:
    """Run trials until the study has exactly as many finished ones as its budget says.

    Any number of processes may do so at once, and may die at any moment: nothing but the trial
    that they run is lost, and its configuration is queued again. A failed trial is stored with its
    cause and does not count. SIGINT and SIGTERM hand the running trial back.

    Args:
        study: from `create_or_resume` or `load`.
        measure: measures one configuration, to its end or until the race that it is given says
            that another point dominates it; may raise MeasurementError or ParameterError.
        environment: where it measures; stored with every trial.
        worker: number of this worker among those of the study; each draws its own points.
        on_trial: told of every trial that ended here, failed and interrupted ones included.
        on_wait: told, twice a second, that there is nothing to do but wait for other workers.

    Returns:
        How it ended; the budget is spent unless it says otherwise.

    Raises:
        AtmSearchError: several trials in a row failed.
        StoreError: the database stopped working, and did not come back within minutes.
    """
    with store_errors(study.storage), Interrupts() as interrupts:
        study.storage.hurried = lambda: interrupts.requested
        history = History(study)
        history.refresh()
        plan, started = study.plan, len(history.trials)
        study.optuna.sampler = make_sampler(
            plan.sampler,
            seed=plan.seed,
            budget=plan.budget,
            worker=worker,
            started=started,
            conditional=study.identity.is_conditional,
        )
        runner = TrialRunner(
            study,
            history,
            measure,
            environment=environment,
            interrupts=interrupts,
            random=Random(mixed_seed(plan.seed, worker, started)),
            rules=RaceRules(**plan.racing),
            grid=_grid(study, worker),
        )
        return _loop(study, history, runner, interrupts, on_trial, on_wait)


def _loop(
    study: Study,
    history: History,
    runner: TrialRunner,
    interrupts: Interrupts,
    on_trial: OnTrial | None,
    on_wait: OnWait | None,
) -> Outcome:
    sweeper = Sweeper(study, history)
    ended: TrialRecord | None = None
    failures = 0
    budget, look_again = 0, 0.0
    while True:
        sweeper.sweep()
        history.refresh()
        done, running = history.done, len(history.running)
        if done >= budget or time.monotonic() >= look_again:  # any start may have raised it
            budget, look_again = study.plan.budget, time.monotonic() + POLL_S
        if ended is not None:
            failures = _failures(failures, ended)
            if on_trial is not None:
                on_trial(ended, done, budget)
        if done >= budget:
            return Outcome(done, budget)
        if interrupts.requested:
            return Outcome(done, budget, interrupted=True)
        may_begin = done + running < budget and runner.has_next()
        if history.is_exhausted or (done + running < budget and not (running or may_begin)):
            return Outcome(done, budget, exhausted=True)
        if ended is not None and failures >= MAX_FAILURES_IN_A_ROW:
            raise AtmSearchError(
                f"{failures} trials in a row failed, so the search of study '{study.name}' was "
                f"stopped. The last, trial {ended.number}: {ended.reason}"
            )
        if may_begin and not (running and history.is_taken):
            ended = runner.run(budget)
            continue
        ended = None
        if on_wait is not None:
            on_wait(running, done, budget)
        with suppress(KeyboardInterrupt), interrupts.admitted():
            time.sleep(POLL_S)


def _grid(study: Study, worker: int) -> SubGrid | None:
    plan = study.plan
    if plan.sampler != "grid":
        return None
    return SubGrid(study.identity.space, plan.step, worker=worker)


def _failures(before: int, ended: TrialRecord) -> int:
    """Failed trials in a row; a reused measurement is neither a success nor a failure."""
    if ended.reason is not None:
        return before + 1
    return 0 if ended.measured and ended.reused_from is None else before
