"""The frontier's pages of the dashboard, which keep themselves up to date, and what the stock
dashboard shows of ours."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qs

from plotly.offline import get_plotlyjs

from atm_search.errors import AtmSearchError, StudyError
from atm_search.search.steady import SteadyStorage
from atm_search.search.store import store_errors
from atm_search.search.study import Study, load, names
from atm_search.search.trials import CONFIRMED, TrialRecord
from atm_search.show.adorned import adornments
from atm_search.show.gallery import Gallery
from atm_search.show.page import STATIC, page_data
from atm_search.show.view import View, view

T = TypeVar("T")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""

ROOT = "/frontier"

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Content security policy: nothing is loaded from elsewhere, nothing is sent elsewhere."""

LEAST_HOLD_S, HOLD = 1.0, 10.0
"""A page's data is kept for at least that long, and for that many times what it took to make.
However many people look, the workers lose a tenth of one core at most."""


class LivePages:
    """Answers requests below `/frontier`; only reads the store."""

    def __init__(self, storage: SteadyStorage) -> None:
        self._storage = storage
        self._gallery = Gallery()
        self._lock = threading.Lock()
        self._studies: dict[str, Study] = {}
        self._confirmed: dict[str, str | None] = {}
        self._pages: dict[str, _Page] = {}
        self._adorned: dict[int, Mapping[str, Any]] = {}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """A WSGI application."""
        path = environ["PATH_INFO"].rstrip("/").removeprefix(ROOT)
        asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
        try:
            with store_errors(self._storage):
                kind, body, headers = self._answer(path, asked)
        except AtmSearchError as error:
            kind, body, headers = "text/plain; charset=utf-8", f"{error}\n".encode(), {}
            status = HTTPStatus.NOT_FOUND
        else:
            status = HTTPStatus.OK
        if headers.get("ETag") and headers["ETag"] == environ.get("HTTP_IF_NONE_MATCH"):
            status, body = HTTPStatus.NOT_MODIFIED, b""
        always = {"Content-Type": kind, "X-Content-Type-Options": "nosniff"}
        start_response(f"{status.value} {status.phrase}", list((always | headers).items()))
        return [body]

    def warm(self) -> None:
        """Read the newest study before anybody asks: of thousands of trials, that takes seconds."""
        with suppress(AtmSearchError), store_errors(self._storage):
            for name in names(self._storage)[-1:]:
                self._made(name, lambda page: page.body)

    def adorn(self, study_id: int) -> None:
        """Bring up to date what the stock dashboard shows of a study, if it is one of ours."""
        with suppress(AtmSearchError), store_errors(self._storage):
            name = self._name(study_id)
            self._adorned[study_id] = self._made(name, lambda page: page.adornments)

    def adorned(self, study_id: int) -> Mapping[str, Any]:
        """What is added to a study's system attributes, as it was made last."""
        return self._adorned.get(study_id, {})

    def picture(self, study_id: int, number: int) -> bytes:
        """What a trial merges, as a PNG.

        Raises:
            AtmSearchError: there is no such trial, or it cannot be drawn here.
        """
        with store_errors(self._storage):
            return self._picture(self._name(study_id), str(number))

    def _answer(self, path: str, asked: dict[str, str]) -> tuple[str, bytes, dict[str, str]]:
        """Content type, body and headers."""
        if path == "":
            headers = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}
            return "text/html; charset=utf-8", (STATIC / "page.html").read_bytes(), headers
        if path == "/page.js":
            return "text/javascript; charset=utf-8", (STATIC / "page.js").read_bytes(), {}
        if path == "/page.css":
            return "text/css; charset=utf-8", (STATIC / "page.css").read_bytes(), {}
        if path == "/plotly.min.js":
            headers = {"Cache-Control": "max-age=86400"}
            return "text/javascript; charset=utf-8", get_plotlyjs().encode(), headers
        if path == "/studies":
            return "application/json", json.dumps(names(self._storage)).encode(), {}
        if path == "/data":
            name = asked.get("study", "")
            body, version = self._made(name, lambda page: (page.body, page.version))
            return "application/json", body, {"ETag": version, "Cache-Control": "no-cache"}
        if path == "/tokens":
            png = self._picture(asked.get("study", ""), asked.get("trial", ""))
            return "image/png", png, {"Cache-Control": "max-age=3600"}
        raise StudyError(f"There is no page {ROOT}{path}.")

    def _made(self, name: str, make: "Callable[[_Page], T]") -> T:
        """Something of a study's page, which is made by one thread at a time."""
        with self._lock:
            return make(self._page(name))

    def _page(self, name: str) -> "_Page":
        page = self._pages.get(name)
        if page is not None and time.monotonic() < page.good_until:
            return page
        study = self._study(name)
        version = _version(study)
        if page is None or page.version != version:
            started = time.monotonic()
            page = self._pages[name] = _Page(version, view(study, self._others(name)))
            page.hold(time.monotonic() - started)
        return page

    def _others(self, name: str) -> list[Study]:
        others = []
        for other in names(self._storage):
            if other != name:
                with suppress(StudyError):  # another program's
                    others.append(self._study(other))
        return others

    def _name(self, study_id: int) -> str:
        for study in self._storage.get_all_studies():
            if study._study_id == study_id:
                return study.study_name
        raise StudyError(f"There is no study {study_id}.")

    def _study(self, name: str) -> Study:
        """A study that keeps the finished trials it has read, so that only new ones are read."""
        ids = {item.study_name: item._study_id for item in self._storage.get_all_studies()}
        known = self._studies.get(name)
        # Deleted, or made anew under the same name: what was read of it is of no use.
        if known is None or known.optuna._study_id != ids.get(name):
            self._studies.pop(name, None)
            return self._loaded(name)
        # Confirmed: finished trials have changed, as they do at no other time.
        if known.optuna.user_attrs.get(CONFIRMED) != self._confirmed[name]:
            return self._loaded(name)
        return known

    def _loaded(self, name: str) -> Study:
        found = self._studies[name] = load(self._storage, name)
        self._confirmed[name] = found.optuna.user_attrs.get(CONFIRMED)
        return found

    def _picture(self, name: str, number: str) -> bytes:
        study = self._study(name)
        trials = study.optuna.get_trials(deepcopy=False)
        if not number.isdecimal() or int(number) >= len(trials):
            raise StudyError(f"Study '{study.name}' has no trial '{number}'.")
        return self._gallery.png(study, TrialRecord.of(trials[int(number)]))


class _Page:
    """A study as it was looked at last, and what is shown of it, made when it is asked for."""

    def __init__(self, version: str, seen: View) -> None:
        self.version, self._seen = version, seen
        self.good_until = 0.0

    @cached_property
    def body(self) -> bytes:
        """Of our page."""
        return self._timed(lambda: page_data(self._seen).encode())

    @cached_property
    def adornments(self) -> Mapping[str, Any]:
        """Of the stock dashboard."""
        return self._timed(lambda: adornments(self._seen))

    def hold(self, seconds: float) -> None:
        """Keep it for a while, given how long it took to make."""
        held = time.monotonic() + max(LEAST_HOLD_S, HOLD * seconds)
        self.good_until = max(self.good_until, held)

    def _timed(self, make: Callable[[], T]) -> T:
        started = time.monotonic()
        made = make()
        self.hold(time.monotonic() - started)
        return made


def _version(study: Study) -> str:
    """Another text whenever a trial began, ended or was confirmed, or the plan was changed."""
    states = [trial.state.value for trial in study.optuna.get_trials(deepcopy=False)]
    confirmed = study.optuna.user_attrs.get(CONFIRMED)
    facts = json.dumps([study.name, states, study.plan.to_dict(), confirmed], sort_keys=True)
    return f'"{hashlib.sha256(facts.encode()).hexdigest()[:16]}"'
