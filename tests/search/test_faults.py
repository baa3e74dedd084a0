"""The kill test in small: benchmarks/faults.py with a few kills, stops and restarts."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def faults(tmp_path: Path, *options: str) -> dict[str, Any]:
    """The report of a run, which the benchmark itself found clean."""
    output = tmp_path / "report.json"
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "faults.py"), *options]
    done = subprocess.run(
        [*command, "--output", str(output)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(output.read_text())
    return report


def test_kills_and_stops_lose_and_repeat_nothing_on_sqlite(tmp_path: Path) -> None:
    report = faults(tmp_path, "--kills", "10", "--stops", "1", "--workers", "6", "--budget", "30")
    assert (report["kills"], report["stops"]) == (10, 1)
    assert report["finished"] == 30 * report["studies"]
    assert report["states"]["finished"] + report["states"].get("reused", 0) == report["finished"]


@pytest.fixture(name="postgres")
def _postgres() -> Iterator[tuple[str, str]]:
    """A PostgreSQL server of our own: its address, and the command that crashes and restarts it."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    on_path = shutil.which("pg_ctl")
    if not (on_path or found):
        pytest.skip("no pg_ctl: PostgreSQL is not installed here")
    binaries = (Path(on_path) if on_path else found[-1]).parent
    as_user: list[str] = []
    if os.geteuid() == 0:  # which PostgreSQL refuses
        if shutil.which("runuser") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no runuser")
        as_user = ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="atm-postgres-"))
    if as_user:
        shutil.chown(folder, "postgres")
    data, log = folder / "data", folder / "log"
    run = [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-l", str(log), "-w"]
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": "/"}
    subprocess.run(
        [*as_user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "me", "-N"],
        **quiet,
    )
    subprocess.run([*run, "-o", f"-p {port} -k {folder}", "start"], **quiet)
    yield f"postgresql://me@127.0.0.1:{port}/postgres", " ".join([*run, "-m immediate restart"])
    subprocess.run([*run, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder)


def test_restarts_of_the_database_lose_and_repeat_nothing(
    postgres: tuple[str, str], tmp_path: Path
) -> None:
    address, restart = postgres
    options = ["--storage", address, "--restarts", "2", "--restart-command", restart]
    options += ["--kills", "2", "--stops", "0", "--workers", "4", "--budget", "25"]
    report = faults(tmp_path, *options)
    assert report["restarts"] == 2
    assert report["finished"] == 25 * report["studies"]
