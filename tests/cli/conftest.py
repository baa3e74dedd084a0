"""A command run in the test's own process."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from atm_search.cli.main import main


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in an empty folder; its exit code, stdout, and stderr in one line."""
    for name in ("ATM_SEARCH_STORAGE", "ATM_SEARCH_DATA", "ATM_SEARCH_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atm-search", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capfd.readouterr()
        return int(caught.value.code or 0), said.out, " ".join(said.err.split())

    return run
