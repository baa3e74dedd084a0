"""The commands that show: status, show, report, and what they say when there is nothing."""

import json
import sys
from pathlib import Path

import optuna
import pytest

from atm_search.cli.main import main
from atm_search.merging.atm import Atm
from atm_search.search.dense import Dense
from atm_search.search.identity import Identity
from atm_search.search.space import Space
from atm_search.search.steady import SteadyStorage
from atm_search.search.store import open_store
from atm_search.search.study import FACTS, SCHEMA, Study, create_or_resume
from atm_search.show.dashboard import dashboard

SEARCH = ["--model", "demo", "--images", "20", "--sampler", "random", "--seed", "1"]


class Cli:
    """Runs a command in this process and keeps what it printed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        self.monkeypatch.setattr(sys, "argv", ["atm-search", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        self.out, self.err = self.capfd.readouterr()
        return int(caught.value.code or 0)


@pytest.fixture(name="cli")
def _cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    for name in ("ATM_SEARCH_STORAGE", "ATM_SEARCH_DATA", "ATM_SEARCH_CHECKPOINTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return Cli(monkeypatch, capfd)


def test_a_finished_search_is_shown_in_every_form(cli: Cli, tmp_path: Path) -> None:
    assert cli("start", *SEARCH, "--trials", 3) == 0
    assert cli("status") == 0
    assert "3 of 3 trials" in cli.out
    assert cli("status", "--json") == 0
    status = json.loads(cli.out)
    assert (status["done"], status["budget"], status["seconds_left"]) == (3, 3, None)

    assert cli("frontier", "--json") == 0
    frontier = json.loads(cli.out)
    best = frontier["frontier"][-1]
    assert cli("show", best["trial"], "-o", "tokens.png", "--json") == 0
    shown = json.loads(cli.out)
    assert shown["params"] == best["params"]
    assert shown["measurement"]["gflops"] == best["gflops"]
    assert shown["standing"].startswith("On the frontier")
    assert (tmp_path / "tokens.png").read_bytes().startswith(b"\x89PNG")
    assert cli("show", best["trial"]) == 0
    assert f"Trial {best['trial']} of demo: atm tau0=" in cli.out
    assert f"{best['gflops']:.4f}" in cli.out

    assert cli("report", "-o", "report.json") == 0
    assert cli.out.strip() == "report.json"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["frontier"] == frontier["frontier"]
    assert report["hypervolume"] == frontier["hypervolume"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status"], "No store at atm-search.db"),
        (["report"], "No store at atm-search.db"),
        (["report", "-o", "frontier.gif"], "no format 'gif' for a report"),
        (["show", "0"], "No store at atm-search.db"),
        (["show", "first"], "TRIAL"),
        (["dashboard"], "No store at atm-search.db"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(
    cli: Cli, arguments: list[str], words: str, tmp_path: Path
) -> None:
    assert cli(*arguments) == 2
    assert words in " ".join(cli.err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_studies_that_cannot_be_shown_are_named(cli: Cli) -> None:
    optuna.create_study(study_name="other", storage="sqlite:///atm-search.db")
    assert cli("start", *SEARCH, "--trials", 1) == 0
    assert cli("status") == 2
    assert "The store holds 2 studies: other, demo. Use --study." in cli.err
    assert cli("status", "--study", "dem") == 2
    assert "No study 'dem' in this store. It holds: demo, other." in cli.err
    assert cli("show", 7, "--study", "demo") == 2
    assert "Study 'demo' has no trial 7: it has trials 0 to 0." in cli.err
    assert cli("show", 0, "--study", "demo", "-o", "tokens.jpg") == 2
    assert "token pictures are written as .png" in cli.err


@pytest.fixture(name="empty")
def _empty(tmp_path: Path, cli: Cli) -> SteadyStorage:
    """A store in the folder that commands run in."""
    return open_store(str(tmp_path / "atm-search.db"), create=True)


def begun(storage: SteadyStorage) -> Study:
    """A study without a trial."""
    identity = Identity(
        model="deit_tiny_patch16_224",
        weights_digest="ab" * 32,
        shard_digest="cd" * 32,
        images=1000,
        protocol={"batch_size": 100, "dtype": "float32", "preprocessing": {"crop_pct": 0.9}},
        method="atm",
        fixed_params={},
        space=Space(Atm.space(12)),
    )
    dense = Dense(images=1000, top1_hits=787, top5_hits=950, gflops=1.254)
    return create_or_resume(storage, "s", identity=identity, dense=lambda: dense, budget=10)


@pytest.mark.parametrize("command", ["status", "report", "frontier", "export"])
def test_a_store_without_a_study_says_what_to_do(
    cli: Cli, empty: SteadyStorage, command: str
) -> None:
    assert cli(command) == 2
    assert "The store holds no study yet: start a search first." in cli.err


def test_a_study_without_a_finished_trial_says_so(cli: Cli, empty: SteadyStorage) -> None:
    begun(empty)
    assert cli("status") == 0
    assert "0 of 10 trials" in cli.out
    assert "no finished trial yet" in cli.out
    assert cli("status", "--json") == 0
    now = json.loads(cli.out)
    assert (now["frontier"], now["picks"], now["finished"]) == (0, {}, False)
    for command in ("report", "export"):
        assert cli(command) == 2
        assert "no finished trial" in cli.err
    assert cli("show", 0) == 2
    assert "it has no trial yet." in cli.err
    page = dashboard(empty)
    said: list[str] = []
    environ = {"PATH_INFO": "/frontier/data", "QUERY_STRING": "study=s", "REQUEST_METHOD": "GET"}
    body = b"".join(page(environ, lambda status, headers: said.append(status)))
    assert said == ["200 OK"]
    assert b"No finished trial yet" in body


@pytest.mark.parametrize("command", ["status", "report", "dashboard", "frontier"])
def test_a_store_of_a_newer_version_is_refused(
    cli: Cli, empty: SteadyStorage, command: str
) -> None:
    with empty.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = 'v9.0.0.a'")
    assert cli(command) == 2
    assert "was made by another version of Optuna" in cli.err
    assert "pip install -U optuna" in cli.err


@pytest.mark.parametrize("command", ["status", "report", "frontier"])
def test_a_study_of_a_newer_version_is_refused(
    cli: Cli, empty: SteadyStorage, command: str
) -> None:
    study = begun(empty).optuna
    study.set_user_attr(FACTS, study.user_attrs[FACTS] | {"schema": SCHEMA + 1})
    assert cli(command) == 2
    assert f"Study 's' has schema version {SCHEMA + 1}" in cli.err
    assert "pip install -U atm-search" in cli.err


def test_status_follows_a_search_to_its_end(cli: Cli) -> None:
    assert cli("start", *SEARCH, "--trials", 2) == 0
    assert cli("status", "--follow") == 0
    assert cli.out.startswith("2 of 2 trials; ")
    assert cli("status", "-f", "--json") == 0
    (line,) = cli.out.splitlines()
    assert json.loads(line)["finished"] is True
