"""Trials are read as Optuna itself reads them, over every kind of store."""

import math
from collections.abc import Callable

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState, create_trial

from atm_search.search import reading
from atm_search.search.steady import SteadyStorage

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # ours beats by itself


def _second_opinion(storage: SteadyStorage, study_id: int) -> list[optuna.trial.FrozenTrial]:
    return RDBStorage._get_trials(storage, study_id, None, set(), -1)


@pytest.fixture
def study(store_url: str, opened: Callable[..., SteadyStorage]) -> optuna.Study:
    """A study with trials of every state and all that a trial can have."""
    study = optuna.create_study(storage=opened(store_url), directions=["minimize", "maximize"])
    steps = {"split_depth": optuna.distributions.IntDistribution(0, 12)}
    kinds = {"tau0": optuna.distributions.FloatDistribution(0.9, 1.0, step=0.005)}
    study.add_trial(
        create_trial(
            values=[1.5, -math.inf],
            params={"tau0": 0.945, "split_depth": 7},
            distributions=kinds | steps,
            user_attrs={"a": {"b": [1, None, "ä"]}},
            system_attrs={"c": 0.1},
            intermediate_values={0: math.nan, 3: 2.5, 4: math.inf},
        )
    )
    running = study.ask()
    running.suggest_categorical("method", ("atm", "tome"))
    study.enqueue_trial({"tau0": 0.95}, user_attrs={"queued": True})
    study.add_trial(create_trial(state=TrialState.FAIL))
    return study


@pytest.mark.parametrize("most", [500, 1])
def test_trials_are_read_as_optuna_reads_them(
    study: optuna.Study, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_IDS", most)
    storage = study._storage._backend
    expected = _second_opinion(storage, study._study_id)
    found = storage._get_trials(study._study_id, None, set(), -1)

    assert [repr(trial) for trial in found] == [repr(trial) for trial in expected]  # NaN != NaN
    assert [list(trial.params) for trial in found] == [list(trial.params) for trial in expected]
    ids = {trial._trial_id for trial in expected}
    newest = max(ids)
    assert [
        trial._trial_id for trial in storage._get_trials(study._study_id, None, ids, newest)
    ] == (sorted(ids))
    waiting = storage._get_trials(study._study_id, (TrialState.WAITING,), set(), -1)
    assert [trial.state for trial in waiting] == [TrialState.WAITING]


def test_a_write_is_seen_by_the_reading_after_it(storage: SteadyStorage) -> None:
    study = optuna.create_study(storage=storage)
    for number in range(3):
        study.get_trials()
        trial = study.ask()
        assert [item.state.name for item in study.get_trials()][number] == "RUNNING"
        storage.end_trial(
            trial._trial_id, TrialState.COMPLETE, [1.0], user_attrs={}, constraints={}
        )
        assert [item.state.name for item in study.get_trials()][number] == "COMPLETE"


def test_whoever_has_not_read_yet_is_told_all(storage: SteadyStorage) -> None:
    study = optuna.create_study(storage=storage, study_name="s")
    other = optuna.load_study(storage=storage, study_name="s")
    other.get_trials()
    trial = study.ask()
    study.get_trials()
    assert [item.number for item in other.get_trials()] == [trial.number]


def test_a_trial_ends_once(storage: SteadyStorage) -> None:
    study = optuna.create_study(storage=storage)
    trial = study.ask()

    def end(value: float) -> bool:
        facts = {"user_attrs": {"record": value}, "constraints": {"drop": value}}
        return storage.end_trial(trial._trial_id, TrialState.COMPLETE, [value], **facts)

    assert end(1.0)
    assert not end(2.0)
    (stored,) = study.get_trials()
    assert (stored.values, stored.user_attrs) == ([1.0], {"record": 1.0})
    assert stored.constraints == {"drop": 1.0}
    with pytest.raises(ValueError, match="nan"):
        end(math.nan)
