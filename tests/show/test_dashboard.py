"""The dashboard as a process, asked over HTTP."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from atm_search.show.access import is_loopback


@pytest.fixture(name="foreign")
def _foreign(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="seen", storage=url, directions=["maximize", "minimize"])
    study.optimize(lambda trial: (trial.suggest_int("r", 0, 9), 1.0), n_trials=3)
    return url


def started(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "atm_search", "dashboard", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


@pytest.fixture(name="address")
def _address(foreign: str, request: pytest.FixtureRequest) -> Iterator[str]:
    extra = getattr(request, "param", [])
    with started("--storage", foreign, "--port", "0", *extra) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip().removesuffix("/frontier")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0


def ask(url: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_dashboard_shows_studies_and_refuses_to_change_them(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    assert ask(f"{address}/dashboard/")[0] == 200
    status, text = ask(f"{address}/api/studies")
    assert status == 200
    (study,) = json.loads(text)["study_summaries"]
    assert study["study_name"] == "seen"
    status, text = ask(f"{address}/api/studies/{study['study_id']}", method="DELETE")
    assert status == 405
    assert "read-only" in text
    assert ask(f"{address}/api/studies", method="POST")[0] == 405
    assert ask(f"{address}/frontier/studies") == (200, '["seen"]')
    status, text = ask(f"{address}/frontier/data?study=seen")
    assert status == 404
    assert "Study 'seen' was not made by atm-search" in text
    assert "It holds: seen" in ask(f"{address}/frontier/data?study=unseen")[1]
    assert len(json.loads(ask(f"{address}/api/studies")[1])["study_summaries"]) == 1


@pytest.mark.parametrize("address", [["--allow-edit"]], indirect=True)
def test_editing_has_to_be_allowed(address: str) -> None:
    (study,) = json.loads(ask(f"{address}/api/studies")[1])["study_summaries"]
    assert ask(f"{address}/api/studies/{study['study_id']}", method="DELETE")[0] == 204


def test_a_port_in_use_is_said(address: str, foreign: str) -> None:
    port = address.rsplit(":", 1)[1]
    with started("--storage", foreign, "--port", port) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "--port" in said


def test_loopback_addresses_are_told_from_others() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.2", "example.org", "")))
