"""Signs of life of a running trial, and what becomes of trials whose worker is dead."""

import threading
import time
from types import TracebackType

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from atm_search.search.history import History
from atm_search.search.owner import OWNER, is_dead
from atm_search.search.steady import LONGEST_PAUSE_S, SteadyStorage
from atm_search.search.study import Study
from atm_search.search.trials import ATTRIBUTE, QUEUED, TrialRecord

INTERVAL_S = 10
GRACE_S = 60
"""A trial without a sign of life for so long is taken for dead; above SQLite's wait for a lock."""

RETRY_S = 1.0
"""Until the next beat after one that failed, if that is sooner."""


class Heartbeat:
    """While entered, tells the store every so often that a trial's worker is alive."""

    def __init__(self, storage: SteadyStorage, trial: optuna.Trial) -> None:
        self._storage = storage
        self._trial_id = trial._trial_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()  # the first beat is written with the trial
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _beat(self) -> None:
        interval_s = float(self._storage.heartbeat_interval or INTERVAL_S)
        pause_s = interval_s
        while not self._stop.wait(pause_s):
            try:
                self._storage.beat_once(self._trial_id)
                pause_s = interval_s
            except Exception:  # a locked or restarting database
                pause_s = min(RETRY_S, interval_s)
        self._storage.remove_session()


class Sweeper:
    """Fails trials whose worker is gone; their configurations are queued again, twice at most.

    A worker is gone if it ran on this machine and its process is no more, or if its trial has
    shown no sign of life for the grace period.
    """

    def __init__(self, study: Study, history: History) -> None:
        self._study = study
        self._history = history
        self._storage = study.storage
        self._interval_s = self._storage.heartbeat_interval or INTERVAL_S
        self._grace_s = self._storage.grace_period or GRACE_S
        self._next = 0.0
        self._first_seen: dict[int, float] = {}

    def sweep(self) -> None:
        """Sweep the trials that the history has read, unless a sweep was made a moment ago.

        A worker that died before its first beat leaves a trial that never gets stale. So a trial
        that has been running under our eyes for longer than the grace period gets one beat from
        us: a live worker does not mind, and a dead one's trial goes stale at last.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._interval_s / 4
        running = self._history.running
        for trial in running:
            if is_dead(trial.system_attrs.get(OWNER)):
                self._fail(trial)
        if not running or now < self._storage.back_at + self._interval_s + LONGEST_PAUSE_S:
            return  # after a restart of the database the living first have to beat again
        for trial in running:
            seen = self._first_seen.setdefault(trial._trial_id, now)
            if seen < now - self._grace_s:
                self._first_seen[trial._trial_id] = float("inf")
                self._storage.record_heartbeat(trial._trial_id)
        stale = set(self._storage._get_stale_trial_ids(self._study.optuna._study_id))
        for trial in running:
            if trial._trial_id in stale:
                self._fail(trial)

    def _fail(self, trial: FrozenTrial) -> None:
        """End a trial and queue its configuration, if it had one and may be measured again."""
        key, identity = self._history.key(trial), self._study.identity
        point = dict(trial.params) if key is None else identity.space.point(key)
        method, params = identity.described(point)
        twin = None
        if key is not None and self._history.may_retry(key):
            twin = create_trial(
                state=TrialState.WAITING,
                system_attrs={"fixed_params": point},
                user_attrs={QUEUED: True},
            )
        record = TrialRecord(
            number=trial.number,
            state=TrialState.FAIL,
            method=method,
            params=params,
            lost=True,
        )
        self._storage.fail_lost(
            trial, self._study.optuna._study_id, record.to_dict(), ATTRIBUTE, twin
        )
