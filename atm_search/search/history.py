"""What the trials of a study tell its next one: what is measured, what fails, what is left."""

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from atm_search.errors import ParameterError
from atm_search.measure.measurement import Measurement
from atm_search.measure.racing import Rival
from atm_search.search.space import Key, Point, Space
from atm_search.search.study import Study
from atm_search.search.trials import TrialRecord

MAX_FAILURES = 2
"""A configuration that failed so often is not measured again."""

MAX_RETRIES = 2
"""How often the configuration of a dead worker's trial is queued again."""


class History:
    """The trials of a study, by configuration; every finished trial is read once."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._read: set[int] = set()
        self._failures: Counter[Key] = Counter()
        self._deaths: Counter[Key] = Counter()
        self._reasons: dict[Key, str] = {}
        self.trials: list[FrozenTrial] = []
        self.measured: dict[Key, TrialRecord] = {}
        """The first measurement of every configuration; a full one rather than a raced one."""
        self.rivals: list[Rival] = []
        """Points that may stop others."""
        self._effective: dict[tuple[Any, ...], TrialRecord] = {}
        self._full: list[Measurement] = []

    def refresh(self) -> None:
        """Read what happened in the store since the last time."""
        self.trials = self._study.optuna.get_trials(deepcopy=False)
        for trial in self.trials:
            if trial.state.is_finished() and trial.number not in self._read:
                self._read.add(trial.number)
                self._learn(TrialRecord.of(trial))

    def known(self, key: Key, *, partial: bool) -> TrialRecord | None:
        """The measurement of a configuration, or of another one that does exactly the same.

        Args:
            key: of the configuration.
            partial: whether one that was stopped early will do.
        """
        found = self._effective.get(self._effective_key(key))
        return None if found is None or (found.raced and not partial) else found

    def is_best(self, measurement: Measurement) -> bool:
        """Whether none in full is better in top-1, or nearer to dense, for no more cost."""
        no_dearer = self._study.objectives.costs_no_more
        cheaper = [other for other in self._full if no_dearer(other, measurement)]
        return all(other.distance > measurement.distance for other in cheaper) or all(
            other.top1 < measurement.top1 for other in cheaper
        )

    @property
    def done(self) -> int:
        """Number of finished trials, as the budget counts them."""
        return sum(trial.state == TrialState.COMPLETE for trial in self.trials)

    @property
    def space(self) -> Space:
        """That of the study."""
        return self._study.identity.space

    @property
    def held(self) -> dict[Key, int]:
        """Configurations queued or running, each with the first trial that has it."""
        held: dict[Key, int] = {}
        for trial in self.trials:
            if trial.state in (TrialState.WAITING, TrialState.RUNNING):
                params = _queued_params(trial)
                if self.space.has(params):
                    held.setdefault(self.space.key(params), trial.number)
        return held

    @property
    def is_queued(self) -> bool:
        """Whether a configuration waits for a worker."""
        return any(trial.state == TrialState.WAITING for trial in self.trials)

    @property
    def running(self) -> list[FrozenTrial]:
        """Trials that some worker, dead or alive, has begun."""
        return [trial for trial in self.trials if trial.state == TrialState.RUNNING]

    def rank(self, number: int) -> int:
        """Number of trials before this one that are finished, or may still be."""
        live = (TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
        return sum(trial.number < number and trial.state in live for trial in self.trials)

    def queued_params(self, number: int) -> Mapping[str, Any]:
        """What a trial was queued with; empty if it was not queued."""
        return _queued_params(self._trial(number))

    def was_queued(self, number: int) -> bool:
        """Whether somebody queued a trial, so that no sampler chose it."""
        return "fixed_params" in self._trial(number).system_attrs

    def key(self, trial: FrozenTrial) -> Key | None:
        """The configuration of any trial, queued, running or ended; None while it has none."""
        try:
            return self._space.key(trial.system_attrs.get("fixed_params", {}) | trial.params)
        except ParameterError:
            return None

    def given_up(self, key: Key) -> str | None:
        """Why a configuration is not to be measured again; None if it may be."""
        if self._deaths[key] > MAX_RETRIES:
            return f"{self._deaths[key]} workers died while they measured it."
        return self._reasons.get(key) if self._failures[key] >= MAX_FAILURES else None

    def may_retry(self, key: Key) -> bool:
        """Whether to queue a configuration again whose worker has just died."""
        return key not in self.measured and self._deaths[key] < MAX_RETRIES

    def twin(self, number: int, key: Key) -> int | None:
        """Number of another trial that measures a configuration now; the first if several."""
        others = (trial for trial in self.running if trial.number != number)
        return next((trial.number for trial in others if self.key(trial) == key), None)

    @property
    def is_exhausted(self) -> bool:
        """Whether every configuration of the space is measured or given up."""
        return len(self._ended()) >= self._space.size

    @property
    def is_taken(self) -> bool:
        """The same, or being measured now."""
        now = {self.key(trial) for trial in self.running} - {None}
        return len(self._ended() | now) >= self._space.size

    def unseen(self, random: Random) -> Point | None:
        """A configuration that nobody measured, measures, queued or gave up; None without one.

        It is the next one after a random one.
        """
        live = {self.key(trial) for trial in self.trials if not trial.state.is_finished()}
        start = self._space.random_index(random)
        for step in range(self._space.size):
            params = self._space.at((start + step) % self._space.size)
            key = self._space.key(params)
            if key in live or self.given_up(key) is not None:
                continue
            if self.known(key, partial=True) is None:
                return params
        return None

    def _trial(self, number: int) -> FrozenTrial:
        return next(trial for trial in self.trials if trial.number == number)

    @property
    def _space(self) -> Space:
        return self._study.identity.space

    def _ended(self) -> set[Key]:
        counted = {*self._failures, *self._deaths}
        return {*self.measured, *(key for key in counted if self.given_up(key) is not None)}

    def _learn(self, record: TrialRecord) -> None:
        try:
            key = self._study.identity.key(record.method, record.params)
        except ParameterError:  # another program's trial, or one queued off the grid
            return
        if record.measured:
            self._keep(self.measured, key, record)
            self._keep(self._effective, self._effective_key(key), record)
            self._judge(record)
        elif record.lost:
            self._deaths[key] += 1
        elif record.state == TrialState.FAIL and record.reason is not None:
            self._failures[key] += 1
            self._reasons.setdefault(key, record.reason)

    def _effective_key(self, key: Key) -> tuple[Any, ...]:
        try:
            return self._study.identity.effective_key(self._space.point(key))
        except ParameterError:  # refused by the method, whenever somebody measures it
            return key

    @staticmethod
    def _keep(known: dict[Any, TrialRecord], key: tuple[Any, ...], record: TrialRecord) -> None:
        if key not in known or (known[key].raced and not record.raced):
            known[key] = record

    def _judge(self, record: TrialRecord) -> None:
        """Remember a full measurement, and whether it may stop others."""
        if record.measurement is None or record.raced or record.reused_from is not None:
            return
        if record.feasible is False:
            return
        self._full.append(record.measurement)
        if record.outcomes is not None and len(record.outcomes) == record.measurement.images:
            self.rivals.append(Rival(record.number, record.outcomes, record.measurement.latency_ms))


def _queued_params(trial: FrozenTrial) -> Mapping[str, Any]:
    # The queue's own first: a trial that is just being suggested has only some of its parameters.
    return trial.system_attrs.get("fixed_params") or trial.params
