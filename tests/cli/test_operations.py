"""What keeps a store and a cache in order, as a person runs it."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]
START = ["start", "--images", 20, "--batch-size", 10, "--trials", 2, "--sampler", "random"]


def test_a_study_is_copied_with_its_frontier_and_removed(cli: Cli) -> None:
    assert cli(*START)[0] == 0
    code, out, said = cli("copy", "atm-search.db", "other.db")
    assert (code, out) == (0, "Study 'demo' with 2 trials is in sqlite:///other.db.\n"), said
    copied = cli("frontier", "--storage", "other.db", "--json")[1]
    assert copied == cli("frontier", "--json")[1]
    code, _, said = cli("copy", "atm-search.db", "other.db")
    assert (code, "has a study 'demo' already, and nothing was copied" in said) == (2, True)
    assert cli("copy", "missing.db", "other.db")[0] == 2
    assert cli("copy", "atm-search.db", "third.db", "--study", "none")[0] == 2
    assert not Path("third.db").exists()

    code, _, said = cli("rm", "--study", "demo")
    assert (code, "confirm it with --yes" in said) == (2, True)
    assert cli("studies", "--json")[1].count('"name": "demo"') == 1
    code, out, _ = cli("rm", "--study", "demo", "--yes")
    assert (code, out) == (
        0,
        "Removed study 'demo' with 2 trials from sqlite:///atm-search.db.\n",
    )
    assert json.loads(cli("studies", "--json")[1]) == []
    assert cli("rm", "--study", "demo", "--yes")[0] == 2


def test_on_a_terminal_removal_is_asked_for(cli: Cli, tmp_path: Path) -> None:
    assert cli(*START)[0] == 0
    for answer, code in (("n\n", 1), ("y\n", 0)):
        keyboard, terminal = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "atm_search", "rm", "--study", "demo"],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        ) as process:
            os.write(keyboard, answer.encode())
            _, said = process.communicate(timeout=60)
        os.close(terminal)
        os.close(keyboard)
        assert "Remove study 'demo' with 2 trials from sqlite:///atm-search.db for good?" in said
        assert process.returncode == code
    assert json.loads(cli("studies", "--json")[1]) == []


def test_the_cache_is_pruned_and_what_that_frees_is_said(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATM_SEARCH_CACHE", str(tmp_path / "cache"))
    assert cli(*START)[0] == 0
    code, out, _ = cli("prune-cache", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["removed"] == {}
    assert found["left"]["dense"]["entries"] >= 1
    for file in (tmp_path / "cache" / "dense").iterdir():
        os.utime(file, (time.time() - 3 * 86400,) * 2)
    size = found["left"]["dense"]["bytes"]
    code, out, _ = cli("prune-cache", "--older-than", "2d")
    assert code == 0
    assert f"Freed {size / 1e6:,.1f} MB" in out
    assert cli(*START[:-4], "--trials", 3)[0] == 0  # and is made again
    assert json.loads(cli("prune-cache", "--all", "--json")[1])["left"] == {}
    assert cli("prune-cache", "--older-than", "soon")[0] == 2
    assert cli("prune-cache", "--older-than", "2d", "--all")[0] == 2
