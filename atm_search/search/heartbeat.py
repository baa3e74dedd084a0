"""Signs of life of a running trial, and what becomes of trials whose worker is dead."""

import threading
import time
import warnings
from collections.abc import Iterable
from types import TracebackType

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

INTERVAL_S = 10
GRACE_S = 60
"""A trial without a sign of life for so long is taken for dead; above SQLite's wait for a lock."""


class Heartbeat:
    """While entered, tells the store every so often that a trial's worker is alive."""

    def __init__(self, storage: RDBStorage, trial: optuna.Trial) -> None:
        self._storage = storage
        self._trial_id = trial._trial_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._storage.record_heartbeat(self._trial_id)
        self._thread.start()
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
        while not self._stop.wait(self._storage.heartbeat_interval):
            try:
                self._storage.record_heartbeat(self._trial_id)
            except Exception:  # a locked or restarting database; the next beat tries again
                continue
        self._storage.remove_session()


class Sweeper:
    """Fails trials whose heart stopped; their configurations are queued again, twice at most."""

    def __init__(self, study: optuna.Study, storage: RDBStorage) -> None:
        self._study = study
        self._storage = storage
        self._interval_s = storage.heartbeat_interval or INTERVAL_S
        self._grace_s = storage.grace_period or GRACE_S
        self._next = 0.0
        self._first_seen: dict[int, float] = {}

    def sweep(self, running: Iterable[FrozenTrial]) -> None:
        """Sweep now, unless a sweep was made a moment ago.

        A worker that died before its first beat leaves a trial that never gets stale. So a trial
        that has been running under our eyes for longer than the grace period gets one beat from
        us: a live worker does not mind, and a dead one's trial goes stale at last.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._interval_s / 4
        for trial in running:
            seen = self._first_seen.setdefault(trial._trial_id, now)
            if seen < now - self._grace_s:
                self._first_seen[trial._trial_id] = float("inf")
                self._storage.record_heartbeat(trial._trial_id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._study)
