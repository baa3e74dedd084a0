"""`atm-search compare` as a person runs it, on the built-in model."""

import json
import sys
from pathlib import Path

import pytest

from atm_search.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["atm-search", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_two_methods_of_two_stores_are_compared(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    stores: list[object] = []
    for method in ("mctf", "tome"):
        stores += ["--storage", tmp_path / f"{method}.db"]
        search = ["start", "--method", method, "--images", 50, "--trials", 2, "--seed", 1]
        assert run(monkeypatch, *search, *stores[-2:]) == 0
    capsys.readouterr()
    assert run(monkeypatch, "compare", *stores, "--at", "0.1", "0.02", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["at"] == [0.1, 0.02]
    assert [each["method"] for each in found["methods"]] == ["mctf", "tome"] * 2
    assert [each["last_block"] for each in found["methods"]] == [
        *["class token"] * 2,
        *["all tokens"] * 2,
    ]
    best = found["methods"][1]["at"][0]
    assert best is None or best["gflops"] <= 0.1
    assert run(monkeypatch, "compare", *stores) == 0
    shown = capsys.readouterr().out
    assert "GFLOPs without loss" in shown
    assert "mctf" in shown
    assert run(monkeypatch, "compare", *stores, "--study", "none") == 2
    assert "No study 'none' here" in capsys.readouterr().err
