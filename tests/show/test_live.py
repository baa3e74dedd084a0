"""The frontier's pages, asked as a server would ask them."""

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atm_search.cli.main import app
from atm_search.search.store import open_store
from atm_search.show import live
from atm_search.show.access import with_token
from atm_search.show.dashboard import dashboard
from atm_search.show.live import Application, LivePages


@pytest.fixture(name="pages")
def _pages(store: Path) -> Iterator[LivePages]:
    storage = open_store(str(store), create=False)
    yield LivePages(storage)
    storage.remove_session()
    storage.engine.dispose()


def ask(
    application: Application, path: str, query: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    said: list[Any] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": query} | {
        f"HTTP_{name}": value for name, value in headers.items()
    }
    body = b"".join(application(environ, lambda *answer: said.extend(answer)))
    return int(said[0].split()[0]), dict(said[1]), body


def test_a_page_brings_all_it_needs(pages: LivePages) -> None:
    status, headers, body = ask(pages, "/frontier", "study=demo")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for address in (part.split('"')[0] for part in body.decode().split('src="')[1:]):
        assert ask(pages, address)[0] == 200
    assert ask(pages, "/frontier/page.css")[0] == 200
    assert json.loads(ask(pages, "/frontier/studies")[2]) == ["demo", "rival"]
    assert ask(pages, "/frontier/elsewhere")[0] == 404


def test_data_is_sent_again_only_when_something_is_new(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LEAST_HOLD_S", 0.0)
    monkeypatch.setattr(live, "HOLD", 0.0)
    copy = tmp_path / "copy.db"
    shutil.copy(store, copy)
    pages = LivePages(open_store(str(copy), create=False))
    status, headers, body = ask(pages, "/frontier/data", "study=demo")
    assert status == 200
    first = json.loads(body)
    assert first["note"][1].startswith("9 of 9 trials")
    version = headers["ETag"]
    status, _, body = ask(pages, "/frontier/data", "study=demo", IF_NONE_MATCH=version)
    assert (status, body) == (304, b"")
    more = ["start", "--model", "demo", "--images", "40", "--study", "demo", "--trials", "10"]
    app([*more, "--storage", str(copy)], standalone_mode=False)
    status, _, body = ask(pages, "/frontier/data", "study=demo", IF_NONE_MATCH=version)
    assert status == 200
    second = json.loads(body)
    assert second["note"][1].startswith("10 of 10 trials")
    assert len(second["summary"]["hypervolume_history"]) == 10


def test_data_is_kept_for_a_while_so_that_readers_cost_little(
    pages: LivePages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LEAST_HOLD_S", 60.0)
    assert ask(pages, "/frontier/data", "study=demo")[0] == 200

    def refuse(*_: object) -> None:
        raise AssertionError("the store was asked again")

    monkeypatch.setattr(live, "_version", refuse)
    started = time.perf_counter()
    assert ask(pages, "/frontier/data", "study=demo")[0] == 200
    assert time.perf_counter() - started < 1.0


def test_token_pictures_are_drawn_when_asked_for_and_kept(pages: LivePages) -> None:
    status, headers, body = ask(pages, "/frontier/tokens", "study=demo&trial=0")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert body.startswith(b"\x89PNG")
    assert ask(pages, "/frontier/tokens", "study=demo&trial=0")[2] is body
    for number in ("99", "-1", "x", ""):
        status, _, body = ask(pages, "/frontier/tokens", f"study=demo&trial={number}")
        assert status == 404
        assert b"has no trial" in body


def test_pictures_say_what_is_missing(pages: LivePages) -> None:
    study = pages._study("demo")
    other = dataclasses.replace(study.identity, weights_digest="00" * 32)
    pages._studies["demo"] = dataclasses.replace(study, identity=other)
    status, _, body = ask(pages, "/frontier/tokens", "study=demo&trial=0")
    assert status == 404
    assert b"Token pictures need the weights and the images of study 'demo'" in body
    assert b"are not those of study 'demo' (00000000)" in body


def test_the_root_leads_to_the_frontier_and_the_stock_dashboard_stays(store: Path) -> None:
    application = dashboard(open_store(str(store), create=False))
    status, headers, _ = ask(application, "/")
    assert (status, headers["Location"]) == (302, "/frontier")


def test_a_token_is_asked_for_once_and_kept_in_a_cookie(pages: LivePages) -> None:
    guarded = with_token(pages, "secret")
    assert ask(guarded, "/frontier")[0] == 401
    assert ask(guarded, "/frontier", "token=wrong")[0] == 401
    status, headers, _ = ask(guarded, "//frontier", "token=secret&study=demo")
    assert (status, headers["Location"]) == (303, "/frontier?study=demo")
    cookie = headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert ask(guarded, "/frontier", COOKIE=cookie.split(";")[0])[0] == 200
    assert ask(guarded, "/frontier", COOKIE="atm_search_token=other")[0] == 401
    assert ask(guarded, "/frontier", AUTHORIZATION="Bearer secret")[0] == 200
