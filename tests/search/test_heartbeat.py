"""Signs of life through trouble, and patience after a restart of the database."""

import time
from collections.abc import Callable

import pytest

from atm_search.search import heartbeat
from atm_search.search.heartbeat import Heartbeat, Sweeper
from atm_search.search.history import History
from atm_search.search.steady import SteadyStorage
from atm_search.search.study import Study

Begin = Callable[..., Study]
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


def test_a_heart_goes_on_after_a_beat_that_failed(
    begin: Begin, storage: SteadyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "RETRY_S", 0.05)
    beats: list[int] = []

    def beat(trial_id: int) -> None:
        beats.append(trial_id)
        if len(beats) < 3:
            raise RuntimeError("database is locked")

    monkeypatch.setattr(storage, "beat_once", beat)
    trial = begin().optuna.ask()
    with Heartbeat(storage, trial):
        time.sleep(1.5)  # the first beat comes after a second, the others are retries
    assert beats == [trial._trial_id] * 3


def test_after_a_restart_of_the_database_the_living_may_beat_first(
    begin: Begin, storage: SteadyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin()
    trial = study.optuna.ask()
    monkeypatch.setattr(storage, "_get_stale_trial_ids", lambda study_id: [trial._trial_id])
    history = History(study)
    history.refresh()
    storage.back_at = time.monotonic()
    Sweeper(study, history).sweep()
    assert [record.lost for record in study.records()] == [False]
    storage.back_at = float("-inf")
    Sweeper(study, history).sweep()
    assert [record.lost for record in study.records()] == [True]
