"""A study followed from another terminal."""

import io
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from atm_search.cli.main import app
from atm_search.errors import StudyError
from atm_search.search.store import open_store
from atm_search.search.study import PLAN, Study, load
from atm_search.search.trials import TrialRecord
from atm_search.search.worker import run
from atm_search.show import following
from atm_search.show.following import Follower, follow_study
from atm_search.show.status import status

Begin = Callable[..., Study]


def test_a_search_is_followed_to_its_end(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(following, "PAUSE_S", 0.05)
    monkeypatch.setattr(following, "SHARE", 0.0)
    copy = tmp_path / "copy.db"
    shutil.copy(store, copy)
    study = load(open_store(str(copy), create=False), "demo")
    study.optuna.set_user_attr(PLAN, study.plan.to_dict() | {"budget": 12})
    follow = threading.Thread(
        target=follow_study, args=(Follower(study), Console()), kwargs={"as_json": True}
    )
    follow.start()
    more = ["start", "--model", "demo", "--images", "40", "--study", "demo", "--trials", "12"]
    app([*more, "--storage", str(copy)], standalone_mode=False)
    follow.join(timeout=60)
    assert not follow.is_alive()
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[0] == "{"]
    done = [now["done"] for now in said]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (9, 12)
    assert [now["finished"] for now in said] == [False] * (len(said) - 1) + [True]
    assert any(now["running"] == 1 for now in said)
    knee = said[-1]["picks"]["knee"]
    assert knee["gflops"] < knee["dense_gflops"]
    assert knee["delta_ci95"][0] <= knee["delta_top1"] <= knee["delta_ci95"][1]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_finished_study_is_shown_once(
    study: Study, terminal: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    said = io.StringIO()
    console = Console(file=said, force_terminal=terminal, width=100)
    follow_study(Follower(study), console, as_json=False)
    shown = said.getvalue() + capfd.readouterr().out
    assert shown.count("9 of 9 trials") == (2 if terminal else 1)  # drawn again where it stood


def test_a_study_whose_whole_space_is_measured_is_finished(begin: Begin, stub: ModuleType) -> None:
    study = begin(identity=stub.tome_identity(3), budget=50)
    follower = Follower(study)
    assert not follower.is_over(follower.look())
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    seen = follower.look()
    assert status(seen).done < 50
    assert follower.is_over(seen)


def test_a_sweep_is_finished_when_its_grid_is(begin: Begin, stub: ModuleType) -> None:
    study = begin(identity=stub.tome_identity(9), sampler="grid", step=5, budget=4)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    follower = Follower(study)
    assert status(follower.look()).done == 2
    assert follower.is_over(follower.look())


def test_finished_trials_are_read_once(
    begin: Begin, stub: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin(budget=3)
    follower = Follower(study)
    run(study, stub.measure, environment=stub.ENVIRONMENT)
    first = follower.look()

    def refuse(trial: object) -> TrialRecord:
        raise AssertionError("read again")

    monkeypatch.setattr(TrialRecord, "of", refuse)
    assert follower.look().records == first.records


def test_a_study_that_is_deleted_meanwhile_is_said(begin: Begin) -> None:
    study = begin()
    follower = Follower(study)
    follower.look()
    study.storage.delete_study(study.optuna._study_id)
    with pytest.raises(StudyError, match="Study 's' is no longer in the store"):
        follower.look()
