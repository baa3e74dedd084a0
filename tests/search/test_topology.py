"""The services of docker-compose.yml as processes: PostgreSQL, search, workers, dashboard."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import FrozenTrial, TrialState

from atm_search.search.owner import OWNER
from atm_search.search.steady import SteadyStorage
from atm_search.search.study import load

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
TRIALS, WORKERS = 30, 4
DEADLINE_S = 300.0

SMALL = ["--images", "60", "--batch-size", "1", "--sampler", "random", "--no-racing"]
"""Added to the search: trials long enough to die in, and short enough for a test."""


class Service:
    """A service of the file as a process, started again as its restart policy says."""

    def __init__(self, name: str, environment: dict[str, str], *more: str) -> None:
        self.restarts = SERVICES[name].get("restart") == "on-failure"
        words = shlex.split(_substituted(SERVICES[name]["command"], environment))
        self.command = [sys.executable, "-m", "atm_search", *words, *more]
        self.environment = environment
        self.said: list[str] = []
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self.process = subprocess.Popen(
            self.command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )
        self.listener = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.listener.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            self.said.extend(lines)

    def is_done(self) -> bool:
        """Whether it ended well; one that failed is started again, if the file says so."""
        code = self.process.poll()
        if code:
            assert self.restarts, "".join(self.said)
            self.start()
        return code == 0

    def has_said(self, words: str) -> Callable[[], bool]:
        def look() -> bool:
            self.is_done()
            return any(words in line for line in self.said)

        return look


@pytest.fixture(name="bring_up")
def _bring_up(postgresql_url: str) -> Iterator[Callable[..., Service]]:
    """Starts services on an empty store; what still runs at the end is killed."""
    environment = os.environ | {"ATM_SEARCH_STORAGE": postgresql_url, "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": "1", "ATM_SEARCH_TRIALS": str(TRIALS)}
    services: list[Service] = []

    def start(name: str, *more: str) -> Service:
        services.append(Service(name, environment, *more))
        return services[-1]

    yield start
    for service in services:
        service.process.kill()
        service.process.wait()
        service.listener.join()


def test_a_search_with_four_workers_of_which_one_is_killed_is_exact_and_can_be_watched(
    bring_up: Callable[..., Service], postgresql_url: str, opened: Callable[..., SteadyStorage]
) -> None:
    search = bring_up("search", *SMALL)
    eventually(search.has_said("Dense"), search)  # the study is there
    workers = [bring_up("worker") for _ in range(WORKERS)]
    port = free_port()
    dashboard = bring_up("dashboard", "--host", "127.0.0.1", "--port", str(port))

    study = load(opened(postgresql_url, create=False), "compose")
    victim = eventually(lambda: busy(study.optuna.get_trials(deepcopy=False), workers), *workers)
    os.kill(victim.process.pid, signal.SIGKILL)
    victim.process.wait()
    everyone = (search, *workers)
    eventually(lambda: not [s for s in everyone if not s.is_done()], *everyone)
    assert victim.starts == 2

    states = Counter(record.state for record in study.records())
    assert states[TrialState.COMPLETE] == TRIALS
    assert not states[TrialState.RUNNING]
    assert not states[TrialState.WAITING]

    base = f"http://127.0.0.1:{port}"
    eventually(dashboard.has_said(f"{base}/frontier"), dashboard)
    assert "atm-search" in answer(f"{base}/frontier?study=compose")
    data = json.loads(answer(f"{base}/frontier/data?study=compose"))
    assert data["summary"]["trials"]["full"] + data["summary"]["trials"]["reused"] == TRIALS
    assert data["summary"]["frontier"]
    assert "<html" in answer(f"{base}/dashboard").lower()
    [listed] = json.loads(answer(f"{base}/api/studies"))["study_summaries"]
    assert listed["study_name"] == "compose"


def busy(trials: list[FrozenTrial], workers: list[Service]) -> Service | None:
    """A worker that runs a trial right now."""
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    owners = {trial.system_attrs.get(OWNER, {}).get("pid") for trial in running}
    return next((worker for worker in workers if worker.process.pid in owners), None)


def eventually(look: Callable[[], Any], *services: Service) -> Any:
    """What a look gives as soon as it is something."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError("\n".join("".join(service.said) for service in services))
        time.sleep(0.05)
    return found


def answer(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as response:
        assert response.status == 200
        return str(response.read().decode())


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _substituted(command: str, environment: dict[str, str]) -> str:
    """Variables of the file as Compose fills them in: `${NAME:-default}`."""
    return re.sub(
        r"\$\{(\w+):-([^}]*)\}", lambda found: environment.get(found[1]) or found[2], command
    )
