"""What the stock dashboard shows of ours, asked as its page asks."""

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest

from atm_search.cli.main import app
from atm_search.search.store import open_store
from atm_search.search.study import load
from atm_search.show import live
from atm_search.show.dashboard import dashboard
from atm_search.show.live import Application
from atm_search.show.view import View


@pytest.fixture(name="copy")
def _copy(store: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy.db"
    shutil.copy(store, copy)
    return copy


@pytest.fixture(name="pages")
def _pages(copy: Path) -> Iterator[Application]:
    storage = open_store(str(copy), create=False)
    yield dashboard(storage)
    storage.remove_session()
    storage.engine.dispose()


def ask(
    application: Application, path: str, *, method: str = "GET", body: bytes = b""
) -> tuple[int, bytes]:
    said: list[Any] = []
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": ""}
    environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    environ |= {"CONTENT_TYPE": "application/json"}
    setup_testing_defaults(environ)
    parts = application(environ, lambda *answer: said.extend(answer))
    return int(said[0].split()[0]), b"".join(parts)


def detail(application: Application, study: int = 1) -> dict[str, Any]:
    status, body = ask(application, f"/api/studies/{study}")
    assert status == 200
    found: dict[str, Any] = json.loads(body)
    return found


def dump(file: Path) -> list[str]:
    with sqlite3.connect(file) as connection:
        return list(connection.iterdump())


def test_a_study_has_a_note_our_figures_and_units_and_the_store_nothing_of_it(
    pages: Application, copy: Path, seen: View
) -> None:
    before = dump(copy)
    shown = detail(pages)
    assert "ATM in demo" in shown["note"]["body"]
    assert (
        f"Knee (where the frontier bends most): trial {seen.picks['knee'].number}"
        in (shown["note"]["body"])
    )
    assert shown["objective_names"] == ["KL from dense (nats)", "GFLOPs"]
    drawn = {item["id"]: json.loads(item["graph_object"]) for item in shown["plotly_graph_objects"]}
    assert set(drawn) == {"frontier", "tokens", "thresholds", "hypervolume", "importance"}
    line = next(t for t in drawn["frontier"]["data"] if t.get("name", "").startswith("frontier"))
    assert line["customdata"] == [point.number for point in seen.points]
    assert dump(copy) == before


def test_trials_on_the_frontier_have_a_token_picture_others_have_none(
    pages: Application, seen: View
) -> None:
    trials = {trial["number"]: trial for trial in detail(pages)["trials"]}
    frontier = {point.number for point in seen.points}
    assert {number for number, trial in trials.items() if trial["artifacts"]} == frontier
    trial = trials[min(frontier)]
    (artifact,) = trial["artifacts"]
    assert artifact["mimetype"] == "image/png"
    place = f"/artifacts/1/{trial['trial_id']}"
    status, body = ask(pages, f"{place}/{artifact['artifact_id']}")
    assert status == 200
    assert body.startswith(b"\x89PNG")
    assert ask(pages, f"{place}/1-99")[0] == 404


def test_a_picture_that_cannot_be_drawn_here_says_why(copy: Path) -> None:
    with sqlite3.connect(copy) as connection:
        (facts,) = connection.execute(
            "select value_json from study_user_attributes where key = 'atm_search' and study_id = 1"
        ).fetchone()
        identity = json.loads(facts)
        identity["identity"]["weights_digest"] = "00" * 32
        connection.execute(
            "update study_user_attributes set value_json = ? "
            "where key = 'atm_search' and study_id = 1",
            [json.dumps(identity)],
        )
    pages = dashboard(open_store(str(copy), create=False))
    trial = next(trial for trial in detail(pages)["trials"] if trial["artifacts"])
    name = trial["artifacts"][0]["artifact_id"]
    status, body = ask(pages, f"/artifacts/1/{trial['trial_id']}/{name}")
    assert status == 404
    assert b"are not those of study 'demo'" in body


def test_it_follows_the_search(
    pages: Application, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LEAST_HOLD_S", 0.0)
    monkeypatch.setattr(live, "HOLD", 0.0)
    first = detail(pages)["note"]
    assert "9 of 9 trials" in first["body"]
    more = ["start", "--model", "demo", "--images", "40", "--study", "demo", "--trials", "10"]
    app([*more, "--storage", str(copy)], standalone_mode=False)
    second = detail(pages)["note"]
    assert "10 of 10 trials" in second["body"]
    assert second["version"] > first["version"]


def test_a_note_that_somebody_wrote_stays(copy: Path, pages: Application) -> None:
    study = load(open_store(str(copy), create=False), "demo")
    optuna_dashboard.save_note(study.optuna, "Mine.")
    assert detail(pages)["note"]["body"] == "Mine."
    assert len(detail(pages)["plotly_graph_objects"]) == 5


def test_with_editing_our_note_can_be_replaced_and_files_are_refused(copy: Path) -> None:
    pages = dashboard(open_store(str(copy), create=False), allow_edit=True)
    version = detail(pages)["note"]["version"] + 1
    body = json.dumps({"version": version, "body": "Better."}).encode()
    assert ask(pages, "/api/studies/1/note", method="PUT", body=body)[0] == 204
    assert detail(pages)["note"]["body"] == "Better."
    file = json.dumps({"file": "data:text/plain;base64,YQ==", "filename": "a.txt"}).encode()
    status, _ = ask(pages, "/api/artifacts/1", method="POST", body=file)
    assert status >= 400
    assert ask(pages, "/api/studies/1", method="DELETE", body=b"{}")[0] == 204


def test_studies_of_other_programs_stay_as_they_are(pages: Application, copy: Path) -> None:
    other = optuna.create_study(study_name="theirs", storage=f"sqlite:///{copy}")
    other.add_trial(optuna.trial.create_trial(value=1.0))
    shown = detail(pages, other._study_id)
    assert (shown["note"]["body"], shown["plotly_graph_objects"]) == ("", [])
    status, body = ask(pages, "/frontier/data")
    assert status == 404
    assert b"No study ''" in body
    assert "ATM in demo" in detail(pages)["note"]["body"]
