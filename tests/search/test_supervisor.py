"""Worker processes under supervision: finished, crashed, refused, stopped."""

import json
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage

from atm_search.errors import AtmSearchError, InputError
from atm_search.search import supervisor
from atm_search.search.study import Study
from atm_search.search.supervisor import Command, supervise
from atm_search.search.trials import TrialRecord
from atm_search.search.worker import Outcome

Begin = Callable[..., Study]
STUB = Path(__file__).with_name("stub_worker.py")
REPOSITORY = Path(__file__).resolve().parents[2]


def shell(script: str) -> Command:
    return Command(["sh", "-c", script], {})


def stub_command(storage: RDBStorage, *, before: str = "", **options: object) -> Command:
    """A worker of the stand-in, started by a shell that runs `before`."""
    line = shlex.join([sys.executable, str(STUB), json.dumps({"storage": storage.url, **options})])
    return Command(["sh", "-c", f"{before} exec {line}"], {"PYTHONPATH": str(REPOSITORY)})


def states(study: Study) -> Counter[str]:
    return Counter(record.state.name for record in study.records())


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "POLL_S", 0.1)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.05)


def test_a_crashed_worker_is_started_again_and_the_budget_is_finished(
    begin: Begin, storage: RDBStorage, tmp_path: Path
) -> None:
    study = begin(budget=6)
    flag = tmp_path / "crashed"
    crash = f"if ! test -e {flag}; then touch {flag}; kill -9 $$; fi;"
    command = stub_command(storage, before=crash, budget=6, seconds=0.01)
    told: list[tuple[int, int, int]] = []
    notes: list[str] = []

    def on_trial(record: TrialRecord, done: int, total: int) -> None:
        told.append((record.number, done, total))

    assert supervise(study, [command], on_trial=on_trial, on_note=notes.append) == Outcome(6, 6)
    assert told == [(number, number + 1, 6) for number in range(6)]
    assert notes == ["A worker crashed (killed by SIGKILL) and is started again in 0.05 s."]


def test_a_signal_is_passed_on_and_no_trial_is_left_running(
    begin: Begin, storage: RDBStorage
) -> None:
    study = begin(budget=100)
    stopped_at: list[float] = []

    def stop(record: TrialRecord, done: int, total: int) -> None:
        if not stopped_at:
            stopped_at.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

    commands = [stub_command(storage, budget=100, seconds=0.5, worker=k) for k in (0, 1)]
    outcome = supervise(study, commands, on_trial=stop)
    assert outcome.interrupted
    assert time.monotonic() - stopped_at[0] < 5.0
    assert "RUNNING" not in states(study)


def test_a_second_signal_kills_and_no_trial_is_left_running(
    begin: Begin, storage: RDBStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atm_search.search.interrupts.PATIENCE_S", 0.0)
    study = begin(budget=100)
    stubborn = stub_command(storage, before="trap '' TERM;", budget=100, seconds=0.5)

    def stop(running: int, done: int, total: int) -> None:
        if done:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        supervise(study, [stubborn], on_wait=stop)
    assert "RUNNING" not in states(study)


def test_a_worker_that_cannot_work_says_why_and_is_not_started_again(
    begin: Begin, tmp_path: Path
) -> None:
    refuse = shell(f"echo x >> {tmp_path}/starts; echo 'atm-search: no images' >&2; exit 2")
    notes: list[str] = []
    with pytest.raises(InputError, match="No worker is left for study 's': no images"):
        supervise(begin(), [refuse, refuse], on_note=notes.append)
    assert notes == ["A worker stopped: no images"] * 2
    assert (tmp_path / "starts").read_text() == "x\nx\n"


def test_a_worker_that_keeps_crashing_is_given_up(begin: Begin, tmp_path: Path) -> None:
    crash = shell(f"echo x >> {tmp_path}/starts; echo 'Traceback ...'; echo Boom >&2; exit 3")
    with pytest.raises(AtmSearchError, match="No worker is left for study 's': Boom") as caught:
        supervise(begin(), [crash], max_restarts=2)
    assert not isinstance(caught.value, InputError)
    assert (tmp_path / "starts").read_text() == "x\n" * 3


def test_a_finished_study_needs_no_worker(begin: Begin, tmp_path: Path) -> None:
    study = begin(budget=1)
    study.optuna.add_trial(optuna.trial.create_trial(values=(70.0, 1.0)))
    assert supervise(study, [shell(f"touch {tmp_path}/started")]) == Outcome(1, 1)
    assert not (tmp_path / "started").exists()
