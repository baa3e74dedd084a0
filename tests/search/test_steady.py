"""The store when connections are lost, and when two processes want the same trial."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from atm_search.search import steady
from atm_search.search.owner import OWNER
from atm_search.search.steady import SteadyStorage, is_passing
from atm_search.search.study import Study

Begin = Callable[..., Study]
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


def lost_connection() -> OperationalError:
    return OperationalError("UPDATE", {}, Exception("server closed the connection unexpectedly"))


@pytest.fixture
def lose_answers(
    storage: SteadyStorage, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], list[int]]:
    """Makes the next transactions that write succeed without an answer; counts them."""

    def lose(count: int) -> list[int]:
        left, done = [count], [0]

        def lossy(transaction: Callable[[], AbstractContextManager[Any]]) -> Any:
            @contextmanager
            def losing() -> Iterator[Any]:
                with transaction() as writer:
                    yield writer
                done[0] += 1
                if left[0]:
                    left[0] -= 1
                    raise lost_connection()

            return losing

        monkeypatch.setattr(storage, "_written", lossy(storage._written))
        monkeypatch.setattr(storage, "_transaction", lossy(storage._transaction))
        return done

    return lose


def test_a_trial_asked_for_is_made_once_though_its_answer_was_lost(
    begin: Begin, lose_answers: Callable[[int], list[int]]
) -> None:
    study = begin()
    done = lose_answers(2)
    trial = study.optuna.ask()
    assert done == [3]
    assert [t.number for t in study.optuna.trials] == [trial.number]


def test_a_study_is_begun_once_though_the_answer_was_lost(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, lost = RDBStorage.create_new_study, [True]

    def lossy(self: RDBStorage, *args: Any) -> int:
        made = create(self, *args)
        if lost:
            lost.clear()
            raise lost_connection()
        return made

    monkeypatch.setattr(RDBStorage, "create_new_study", lossy)
    study = begin()
    assert not lost
    assert study.plan.budget == 10
    monkeypatch.undo()
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        study.storage.create_new_study([StudyDirection.MINIMIZE], study.name)


def test_a_queued_trial_is_taken_once_though_the_answer_was_lost(
    begin: Begin, lose_answers: Callable[[int], list[int]]
) -> None:
    study = begin()
    study.optuna.enqueue_trial(study.identity.space.at(5))
    lose_answers(1)
    trial = study.optuna.ask()
    assert study.identity.space.suggest(trial) == study.identity.space.at(5)
    assert [t.state for t in study.optuna.trials] == [TrialState.RUNNING]


def test_a_trial_is_told_once_though_the_answer_was_lost(
    begin: Begin, lose_answers: Callable[[int], list[int]]
) -> None:
    study = begin()
    trial = study.optuna.ask()
    lose_answers(1)
    study.optuna.tell(trial, (70.0, 1.0))
    assert [t.values for t in study.optuna.trials] == [[70.0, 1.0]]


def test_a_trial_that_others_ended_is_not_taken_for_ours(
    begin: Begin, storage: SteadyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin()
    trial = study.optuna.ask()
    written, left = storage._written, [1]

    @contextmanager
    def lose_request() -> Iterator[Any]:
        if left[0]:
            left[0] = 0
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            raise lost_connection()
        with written() as session:
            yield session

    monkeypatch.setattr(storage, "_written", lose_request)
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [70.0, 1.0])


def test_a_database_that_stays_away_is_waited_for_and_then_reported(
    storage: SteadyStorage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    attempts = []

    def fail(again: bool) -> None:
        attempts.append(again)
        raise StorageInternalError("lost") from lost_connection()

    monkeypatch.setattr(storage, "patience_s", 1.0)
    with pytest.raises(StorageInternalError):
        storage._steadily(fail)
    assert attempts[0] is False
    assert all(attempts[1:])
    assert len(attempts) > 3
    assert capfd.readouterr().err == "The store does not answer; waiting for it.\n"


def test_whoever_was_asked_to_stop_does_not_wait_long(
    storage: SteadyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steady, "HURRY_S", 0.0)
    monkeypatch.setattr(storage, "hurried", lambda: True)
    attempts = []

    def fail(again: bool) -> None:
        attempts.append(again)
        raise lost_connection()

    with pytest.raises(OperationalError):
        storage._steadily(fail)
    assert attempts == [False]


def test_only_what_may_pass_is_waited_for(storage: SteadyStorage) -> None:
    assert is_passing(lost_connection())
    assert not is_passing(ValueError("a bug"))
    with storage.engine.connect() as connection, pytest.raises(OperationalError) as caught:
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert not is_passing(caught.value)


def test_of_many_that_want_a_queued_trial_one_gets_it(
    begin: Begin, storage: SteadyStorage, opened: Callable[..., SteadyStorage]
) -> None:
    study = begin()
    for index in range(20):
        study.optuna.enqueue_trial(study.identity.space.at(index))
    ids = [trial._trial_id for trial in study.optuna.trials]
    barrier, won = threading.Barrier(4), []

    def take(store: SteadyStorage) -> None:
        for number in ids:
            barrier.wait()
            if store.set_trial_state_values(number, TrialState.RUNNING):
                won.append(number)
        store.remove_session()

    threads = [threading.Thread(target=take, args=(opened(storage.url),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == ids


def test_a_trial_knows_its_owner(begin: Begin) -> None:
    study = begin()
    study.optuna.enqueue_trial(study.identity.space.at(5))
    study.optuna.ask()
    study.optuna.ask()
    owners = [trial.system_attrs[OWNER] for trial in study.optuna.trials]
    assert owners[0]["pid"] == owners[1]["pid"]
    assert owners[0]["token"] != owners[1]["token"]
