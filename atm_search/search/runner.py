"""One trial: asked for, measured or reused, and told to the store whatever becomes of it."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from random import Random
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from atm_search.errors import MeasurementError, ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.measure.racing import Race, RaceRules
from atm_search.merging.method import Method
from atm_search.search.grid import SubGrid
from atm_search.search.heartbeat import Heartbeat
from atm_search.search.history import History
from atm_search.search.interrupts import Interrupts
from atm_search.search.samplers import single_thread
from atm_search.search.space import Key, Point
from atm_search.search.study import Study
from atm_search.search.trials import ATTRIBUTE, QUEUED, Environment, TrialRecord

MAX_REPEATS = 3
"""Repeated configurations in a row, trials at no cost, after which an unseen one is queued."""

Measure = Callable[[Method, Race], Measurement]
"""Measures a configuration, giving the race the outcomes of every batch until that stops it."""


class TrialRunner:
    """Runs a study's next trial, and leaves none RUNNING."""

    def __init__(
        self,
        study: Study,
        history: History,
        measure: Measure,
        *,
        environment: Environment,
        interrupts: Interrupts,
        random: Random,
        rules: RaceRules | None = None,
        grid: SubGrid | None = None,
    ) -> None:
        self._study = study
        self._history = history
        self._measure = measure
        self._environment = environment
        self._interrupts = interrupts
        self._random = random
        self._rules = rules or RaceRules()
        self._grid = grid
        self._repeats = 0
        self._late: dict[Key, TrialRecord] = {}

    def has_next(self) -> bool:
        """Whether there is a trial to begin; a sweep may have to wait for others' last ones."""
        if self._grid is None or self._history.is_queued:
            return True
        return self._grid.next(self._history) is not None

    def run(self, budget: int) -> TrialRecord | None:
        """What became of the next trial; None if its place was taken, or others ended it."""
        if self._repeats >= MAX_REPEATS:
            self._repeats = 0
            self._queue(self._history.unseen(self._random) or {})
        if self._grid is not None and not self._history.is_queued:
            self._queue(self._grid.next(self._history) or {})
        with _expected_warnings():
            trial = self._study.optuna.ask()
        with Heartbeat(self._study.storage, trial):
            record = self._attempt(trial, budget)
            if not self._tell(trial, record):
                # Taken for dead, we were not: the trial that was queued instead gets our figures.
                if record.measured and record.reused_from is None:
                    key = self._study.identity.key(record.method, record.params)
                    self._late[key] = record
                return None
        if record.surplus:
            if self._history.was_queued(trial.number) and self._is_beyond(trial, budget):
                self._queue(self._history.queued_params(trial.number))
            return None
        if record.interrupted:
            self._queue(trial.params)
        if record.reused_from is not None:
            self._repeats += 1
        elif record.measured:
            self._repeats = 0
        return record

    def _attempt(self, trial: optuna.Trial, budget: int) -> TrialRecord:
        """The trial's record; only bugs are raised, and told to the store before."""
        try:
            with _expected_warnings(), single_thread(), self._study.storage.params_together():
                params = self._study.identity.space.suggest(trial)
            return self._measured(trial, params, budget)
        except (MeasurementError, ParameterError) as error:
            return self._record(trial, reason=str(error))
        except UpdateFinishedTrialError:  # taken for dead before it was measured
            return self._record(trial, lost=True)
        except KeyboardInterrupt:
            return self._record(trial, interrupted=True)
        except BaseException as error:
            self._tell(trial, self._record(trial, reason=f"{type(error).__name__}: {error}"))
            raise

    def _measured(self, trial: optuna.Trial, params: Point, budget: int) -> TrialRecord:
        """The finished trial, with its configuration's stored measurement or a new one."""
        key = self._study.identity.space.key(params)
        self._history.refresh()
        taken = self._grid is not None and self._grid.is_taken(trial.number, self._history)
        if taken or self._is_beyond(trial, budget):
            return self._record(trial, surplus=True)
        known = self._history.known(key, partial=self._rules.on != "off")
        # What we queued ourselves needs no second trial; what does the same as another needs one.
        needless = trial.user_attrs.get(QUEUED, False) and key in self._history.measured
        if known is not None and not needless:
            return self._reused(trial, known, params)
        if known is not None or self._is_measured_now(trial, key):
            return self._record(trial, surplus=True)
        if key in self._late:
            return replace(self._late.pop(key), number=trial.number)
        reason = self._history.given_up(key)
        if reason is not None:
            self._repeats = MAX_REPEATS  # a sampler that learns nothing from failures would insist
            raise MeasurementError(f"Failed before and not measured again: {reason}")
        method = self._study.identity.configured(params)
        race = Race(self._history.rivals, self._rules)
        with self._interrupts.admitted():
            measurement = self._measure(method, race)
        self._check(measurement)
        feasible = self._study.identity.constraints.feasible(measurement)
        may_stop_others = (
            feasible is not False
            and race.stopped_by is None
            and len(race.outcomes) == measurement.images
            and self._history.is_best(measurement)
        )
        return self._record(
            trial,
            state=TrialState.COMPLETE,
            params=method.params(),
            measurement=measurement,
            feasible=feasible,
            stopped_by=race.stopped_by,
            stopped_on=None if race.stopped_by is None else self._rules.on,
            outcomes=race.outcomes if may_stop_others else None,
        )

    def _is_beyond(self, trial: optuna.Trial, budget: int) -> bool:
        """Whether the budget is spent without a trial, as the history was read last.

        Others may have asked at the same time. Numbers are unique and only grow, so if the live
        trials before this one fill the budget now, this one can never be needed.
        """
        return self._history.rank(trial.number) >= budget

    def _check(self, measurement: Measurement) -> None:
        for name in dict.fromkeys(("distance", "distance_se", *self._study.objectives.costs)):
            value = getattr(measurement, name)
            if not math.isfinite(value):
                raise MeasurementError(f"The measured {name} is {value}, which cannot be compared.")

    def _reused(
        self, trial: optuna.Trial, known: TrialRecord, params: Mapping[str, Any]
    ) -> TrialRecord:
        """The finished trial with a measurement of the same, or of what does the same."""
        first = known.number if known.reused_from is None else known.reused_from
        _, own = self._study.identity.described(params)
        return replace(known, number=trial.number, params=own, reused_from=first)

    def _is_measured_now(self, trial: optuna.Trial, key: Key) -> bool:
        """Whether another worker measures this configuration, and we should take an unseen one.

        Both have written theirs before they look, so at least one sees the other. A queued point
        is given up only to an earlier trial, or two that meet would both drop it.
        """
        twin = self._history.twin(trial.number, key)
        if twin is None:
            return False
        if self._history.was_queued(trial.number):
            return twin < trial.number
        self._repeats = MAX_REPEATS
        return True

    def _record(self, trial: optuna.Trial, **facts: Any) -> TrialRecord:
        """The record of a failed trial, but for what `facts` say."""
        identity = self._study.identity
        point: Mapping[str, Any] = trial.params
        with suppress(ParameterError):  # not suggested yet, or off the grid: kept as they are
            point = identity.space.canonical(point)
        method, params = identity.described(point)
        common = TrialRecord(
            number=trial.number,
            state=TrialState.FAIL,
            method=method,
            params=params,
            environment=self._environment,
        )
        return replace(common, **facts)

    def _tell(self, trial: optuna.Trial, record: TrialRecord) -> bool:
        """Store how a trial ended; False if others have ended it meanwhile, taking us for dead."""
        values, constraints = None, {}
        if record.state == TrialState.COMPLETE and record.measurement is not None:
            values = self._study.objectives.told(record.measurement, self._study.dense)
            constraints = self._study.identity.constraints.violations(record.measurement)
        return self._study.storage.end_trial(
            trial._trial_id,
            record.state,
            values,
            user_attrs=record.outcome_parts() | {ATTRIBUTE: record.to_dict()},
            constraints=constraints,
        )

    def _queue(self, params: Mapping[str, Any]) -> None:
        if params:
            self._study.optuna.enqueue_trial(dict(params), user_attrs={QUEUED: True})


@contextmanager
def _expected_warnings() -> Iterator[None]:
    """A block in which Optuna does not warn of what is so on purpose."""
    with warnings.catch_warnings():
        # We keep the heartbeat ourselves, and refuse queued values off the grid.
        warnings.filterwarnings("ignore", message="Heartbeat of storage")
        warnings.filterwarnings("ignore", message="Fixed parameter")
        yield
