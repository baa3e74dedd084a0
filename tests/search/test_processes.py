"""Real worker processes: they share a budget exactly, are stopped, and are killed."""

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from types import ModuleType

import pytest
from optuna.storages import RDBStorage

from atm_search.search.study import Study, load
from atm_search.search.worker import Outcome, run

Begin = Callable[..., Study]
StartWorker = Callable[..., "subprocess.Popen[str]"]


def states(study: Study) -> Counter[str]:
    return Counter(record.state.name for record in study.records())


def wait_for(worker: "subprocess.Popen[str]", line: str, *, times: int) -> None:
    """Read a worker's lines until one has come so often."""
    assert worker.stdout is not None
    for said in worker.stdout:
        times -= said.startswith(line)
        if times == 0:
            return
    pytest.fail(f"the worker ended before it said '{line}' so often")


def outcomes(worker: "subprocess.Popen[str]") -> list[Outcome]:
    said, _ = worker.communicate(timeout=60)
    lines = [line for line in said.splitlines() if line.startswith("outcome")]
    return [Outcome(**json.loads(line.removeprefix("outcome"))) for line in lines]


def test_three_processes_share_a_budget_exactly(
    store_url: str, start_worker: StartWorker, opened: Callable[..., RDBStorage]
) -> None:
    workers = start_worker(storage=store_url, budget=20, seconds=0.02, processes=3)
    assert outcomes(workers) == [Outcome(20, 20)] * 3
    assert workers.returncode == 0
    records = load(opened(store_url, create=False), "s").records()
    assert sum(record.measured for record in records) == 20
    assert all(record.measured or record.surplus for record in records)


def test_a_stopped_process_leaves_the_store_clean_and_is_resumed(
    begin: Begin,
    stub: ModuleType,
    start_worker: StartWorker,
    storage: RDBStorage,
) -> None:
    worker = start_worker(storage=storage.url, budget=4, seconds=1.0)
    wait_for(worker, "measuring", times=2)
    worker.send_signal(signal.SIGINT)
    assert outcomes(worker) == [Outcome(1, 4, interrupted=True)]
    assert worker.returncode == 130
    study = begin(budget=4)
    assert states(study) == {"COMPLETE": 1, "FAIL": 1, "WAITING": 1}
    assert run(study, stub.measure, environment=stub.ENVIRONMENT) == Outcome(4, 4)
    assert study.records()[2].params == study.records()[1].params


def test_a_killed_process_loses_no_finished_trial_and_repeats_none(
    begin: Begin, stub: ModuleType, start_worker: StartWorker, storage: RDBStorage
) -> None:
    worker = start_worker(storage=storage.url, budget=5, seconds=0.3)
    wait_for(worker, "trial", times=2)
    wait_for(worker, "measuring", times=1)
    worker.kill()
    worker.wait()
    study = begin(budget=5)
    assert states(study) == {"COMPLETE": 2, "RUNNING": 1}
    before = study.records()
    assert run(study, stub.measure, environment=stub.ENVIRONMENT) == Outcome(5, 5)
    assert states(study) == {"COMPLETE": 5, "FAIL": 1}
    records = study.records()
    assert records[:2] == before[:2]
    measured = [dict(record.params) for record in records if record.measured]
    assert len({tuple(params.values()) for params in measured}) == 5
    assert any(before[2].params.items() <= params.items() for params in measured[2:])
