"""Studies between stores of every kind, and out of them."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel
from optuna.trial import TrialState, create_trial

from atm_search.errors import StudyError
from atm_search.search import copying
from atm_search.search.copying import copy_study
from atm_search.search.frontier import frontier
from atm_search.search.owner import OWNER, signature
from atm_search.search.removal import removable, remove
from atm_search.search.study import Study, load, names
from atm_search.search.worker import run

Opened = Callable[..., RDBStorage]


@pytest.fixture(name="searched")
def _searched(
    begin: Callable[..., Study], stub: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Study:
    """A study of several chunks, among others in its store, with a trial in every state."""
    monkeypatch.setattr(copying, "CHUNK", 5)
    begin("another")
    study = begin(budget=12)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    study.optuna.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"odd": ["ü", None]}))
    study.optuna.enqueue_trial({"tau0": 0.95})
    running(study)
    begin("third")
    study.optuna.add_trial(
        create_trial(state=TrialState.COMPLETE, values=[0.1 + 0.2, float("inf")])
    )
    return load(study.storage, "s")


def running(study: Study) -> int:
    """The id of a trial that this process has begun."""
    study_id = study.optuna._study_id
    trial_id: int = study.storage.create_new_trial(study_id, create_trial(state=TrialState.RUNNING))
    return trial_id


def content(storage: RDBStorage, name: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that the tables hold of a study, without ids and signs of life."""
    tables = BaseModel.metadata.tables
    ids = {"study_id", "trial_id"}
    found: dict[str, list[tuple[Any, ...]]] = {}
    with storage.engine.connect() as connection:
        studies, trials = tables["studies"], tables["trials"]
        study_id = connection.execute(
            sqlalchemy.select(studies.c.study_id).where(studies.c.study_name == name)
        ).scalar_one()
        of_study = sqlalchemy.select(trials.c.trial_id, trials.c.number).where(
            trials.c.study_id == study_id
        )
        numbers = {row.trial_id: row.number for row in connection.execute(of_study)}
        assert list(numbers.values()) == [numbers[key] for key in sorted(numbers)]
        assert [numbers[key] for key in sorted(numbers)] == list(range(len(numbers)))
        for table in tables.values():
            if table.name in ("version_info", "trial_heartbeats", "studies"):
                continue
            kept = [c for c in table.c if c.name not in ids and not c.primary_key]
            owner = table.c["trial_id" if "trial_id" in table.c else "study_id"]
            wanted = list(numbers) if owner.name == "trial_id" else [study_id]
            rows = connection.execute(sqlalchemy.select(owner, *kept).where(owner.in_(wanted)))
            found[table.name] = sorted(
                ((numbers[row[0]] if owner.name == "trial_id" else 0, *row[1:]) for row in rows),
                key=repr,
            )
    return found


def test_a_copy_and_the_copy_of_it_hold_the_same(
    searched: Study, store_url: str, opened: Opened, tmp_path: Path
) -> None:
    there = opened(store_url if "sqlite" not in store_url else str(tmp_path / "there.db"))
    told: list[tuple[int, int]] = []
    assert copy_study(searched, there, on_trials=lambda *step: told.append(step)) == 16
    assert told == [(5, 16), (10, 16), (15, 16), (16, 16)]
    assert names(there) == ["s"]
    back = opened(str(tmp_path / "back.db"))
    copy_study(load(there, "s"), back)
    before, after = content(searched.storage, "s"), content(back, "s")
    if "mysql" in store_url:  # which keeps no parts of seconds
        before.pop("trials"), after.pop("trials")
    assert before["trial_values"]
    assert after == before
    again = load(back, "s")
    assert again.records() == searched.records()
    assert frontier(again.records(), again.dense) == frontier(searched.records(), searched.dense)
    assert (again.plan, again.identity) == (searched.plan, searched.identity)


def test_a_search_goes_on_in_the_copy(
    begin: Callable[..., Study], stub: ModuleType, opened: Opened, tmp_path: Path
) -> None:
    study = begin(budget=3)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    there = opened(str(tmp_path / "there.db"))
    copy_study(study, there)
    copied = load(there, "s")
    copied.optuna.set_user_attr("atm_search:plan", copied.plan.to_dict() | {"budget": 6})
    assert run(copied, stub.measure, environment=stub.ENVIRONMENT).done == 6
    assert len(study.records()) == 3


def test_a_name_that_is_taken_is_refused(searched: Study) -> None:
    with pytest.raises(StudyError, match="The target has a study 's' already"):
        copy_study(searched, searched.storage)


KILLED = """
import os, signal, sys
from atm_search.search import copying
from atm_search.search.store import open_store
from atm_search.search.study import load
copying.CHUNK = 2
def stop(done, total):
    if done >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
copying.copy_study(load(open_store(sys.argv[1], create=False), "s"),
                   open_store(sys.argv[2], create=True), on_trials=stop)
"""


def test_a_copy_that_is_killed_half_way_leaves_no_study(
    searched: Study, store_url: str, opened: Opened, tmp_path: Path
) -> None:
    target = store_url if "sqlite" not in store_url else str(tmp_path / "there.db")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "atm.db"), target], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    there = opened(target)
    assert names(there) == []
    assert copy_study(searched, there) == 16  # and nothing of it is in the way


def test_a_study_is_removed_with_all_that_is_its(
    begin: Callable[..., Study], stub: ModuleType, storage: RDBStorage
) -> None:
    for name in ("s", "stays"):
        run(begin(name, budget=3), stub.measure, environment=stub.ENVIRONMENT)
    before = content(storage, "stays")
    assert removable(storage, "s") == 3
    remove(storage, "s")
    assert names(storage) == ["stays"]
    assert content(storage, "stays") == before
    with storage.engine.connect() as connection:
        for table in BaseModel.metadata.tables.values():
            if "trial_id" in table.c:
                count = sqlalchemy.func.count(table.c.trial_id.distinct())
                assert connection.execute(sqlalchemy.select(count)).scalar_one() <= 3


def test_a_study_with_running_trials_is_not_removed_unless_forced(
    begin: Callable[..., Study], storage: RDBStorage
) -> None:
    study = begin()
    trial_id = running(study)
    with pytest.raises(StudyError, match="'s' has 1 running trial: stop its workers first"):
        removable(storage, "s")
    assert removable(storage, "s", force=True) == 1
    dead = signature() | {"pid": 2**30}
    storage.set_trial_system_attr(trial_id, OWNER, dead)
    assert removable(storage, "s") == 1


def test_a_trial_that_is_silent_for_long_does_not_keep_its_study(
    begin: Callable[..., Study], storage: RDBStorage
) -> None:
    running(begin())
    deadline = time.monotonic() + 20
    while True:  # the grace period of this store is 2 s
        try:
            assert removable(storage, "s") == 1
            return
        except StudyError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_a_study_of_another_program_is_removed_only_by_force(storage: RDBStorage) -> None:
    optuna.create_study(storage=storage, study_name="theirs").add_trial(create_trial(value=1.0))
    with pytest.raises(StudyError, match="was not made by atm-search"):
        removable(storage, "theirs")
    with pytest.raises(StudyError, match="No study 'other'"):
        removable(storage, "other", force=True)
    assert removable(storage, "theirs", force=True) == 1


def test_an_attribute_can_be_set_on_a_finished_trial(store_url: str, opened: Opened) -> None:
    storage: Any = opened(store_url)
    study = optuna.create_study(storage=storage, study_name="s")
    study.add_trial(create_trial(value=1.0, user_attrs={"kept": 1}))
    for value in ({"x": 1}, {"x": "ü" * 9}):
        storage.annotate(study.trials[0]._trial_id, "note", value)
        assert optuna.load_study(storage=storage, study_name="s").trials[0].user_attrs == {
            "kept": 1,
            "note": value,
        }
