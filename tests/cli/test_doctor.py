"""What doctor finds, on whole and on broken things."""

import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from atm_search.cli import checks
from atm_search.cli.main import main
from atm_search.search.store import open_store

Looked = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture(name="doctor")
def _doctor(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Looked:
    """Runs the command in this process: its exit code, and its checks by name."""
    for name in ("ATM_SEARCH_STORAGE", "ATM_SEARCH_DATA", "ATM_SEARCH_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, dict[str, dict[str, Any]]]:
        monkeypatch.setattr(sys, "argv", ["atm-search", "doctor", "--json", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        found = json.loads(capfd.readouterr().out)
        code = int(caught.value.code or 0)
        assert found["ok"] == (code == 0)
        return code, {check["name"]: check for check in found["checks"]}

    return run


def test_all_is_well_with_the_demo_and_nothing_is_left_behind(
    doctor: Looked, tmp_path: Path
) -> None:
    code, found = doctor("--device", "cpu")
    assert code == 0
    assert not any(check["status"] == "broken" for check in found.values())
    assert "not there yet" in found["store"]["found"]
    assert "of the first 16 are classified right" in found["images"]["found"]
    assert "float" in found["dtype"]["found"]
    assert not any(tmp_path.iterdir())
    open_store("atm-search.db", create=True).engine.dispose()
    assert "0 studies, schema v3" in doctor("--device", "cpu")[1]["store"]["found"]


def test_a_store_that_cannot_be_used_is_broken_and_shows_no_password(
    doctor: Looked, tmp_path: Path
) -> None:
    code, found = doctor("--storage", "postgresql://me:s3cret@127.0.0.1:1/atm")
    assert (code, found["store"]["status"]) == (1, "broken")
    assert "cannot be used: " in found["store"]["todo"]
    assert "s3cret" not in str(found)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE songs (name)")
    connection.close()
    code, found = doctor("--storage", "other.db")
    assert (code, "another program" in found["store"]["todo"]) == (1, True)
    open_store("old.db", create=True).engine.dispose()
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
    connection.close()
    code, found = doctor("--storage", "old.db")
    assert (code, "another version of Optuna" in found["store"]["todo"]) == (1, True)


def test_weights_and_images_that_cannot_be_used_are_broken(
    doctor: Looked, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    code, found = doctor("--model", "test_vit", "--checkpoint", "none.pth")
    assert (code, found["weights"]["status"], found["images"]["status"]) == (1, "broken", "warning")
    model = ["--model", "test_vit", "--checkpoint", tiny_checkpoint, "--device", "cpu"]
    code, found = doctor(*model)
    assert (code, found["images"]["status"]) == (0, "warning")
    assert "--data" in found["images"]["todo"]
    code, found = doctor(*model, "--data", tmp_path / "none")
    assert (code, found["images"]["status"]) == (1, "broken")
    for number in range(10):
        file = tmp_path / "images" / str(number) / "grey.png"
        file.parent.mkdir(parents=True)
        Image.new("RGB", (160, 160), (128, 128, 120 + number)).save(file)
    code, found = doctor(*model, "--data", tmp_path / "images")
    assert code == 0
    assert "10 in 10 classes; 1 of the first 10" in found["images"]["found"]
    file.write_bytes(b"no image")
    code, found = doctor(*model, "--data", tmp_path / "images")
    assert (code, "grey.png (not an image)" in found["images"]["todo"]) == (1, True)


def test_a_disk_that_is_nearly_full_is_said(
    doctor: Looked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LITTLE", 1e30)
    code, found = doctor("--device", "cpu")
    assert (code, found["cache disk"]["status"]) == (0, "warning")
    assert "prune-cache" in found["cache disk"]["todo"]
    monkeypatch.setattr(checks, "SCARCE", 1e30)
    code, found = doctor("--device", "cpu")
    assert (code, found["store disk"]["status"]) == (1, "broken")


def test_people_get_a_table(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["atm-search", "doctor", "--storage", "nowhere/atm.db"])
    with pytest.raises(SystemExit, match="1"):
        main()
    out = " ".join(capfd.readouterr().out.split())
    assert "broken" in out
    assert "create it, or name another" in out
