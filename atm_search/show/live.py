"""The frontier's pages of the dashboard, which keep themselves up to date."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from plotly.offline import get_plotlyjs

from atm_search.errors import AtmSearchError, StudyError
from atm_search.search.steady import SteadyStorage
from atm_search.search.store import store_errors
from atm_search.search.study import Study, load, names
from atm_search.search.trials import CONFIRMED, TrialRecord
from atm_search.show.gallery import Gallery
from atm_search.show.page import STATIC, page_data
from atm_search.show.view import view

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
                self._page(name)

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
            page = self._page(asked.get("study", ""))
            return (
                "application/json",
                page.body,
                {"ETag": page.version, "Cache-Control": "no-cache"},
            )
        if path == "/tokens":
            return "image/png", self._tokens(asked), {"Cache-Control": "max-age=3600"}
        raise StudyError(f"There is no page {ROOT}{path}.")

    def _page(self, name: str) -> "_Page":
        with self._lock:
            page = self._pages.get(name)
            if page is not None and time.monotonic() < page.good_until:
                return page
            study = self._study(name)
            version = _version(study)
            if page is None or page.version != version:
                started = time.monotonic()
                others = [self._study(other) for other in names(self._storage) if other != name]
                page = _Page(version, page_data(view(study, others)).encode())
                page.hold(time.monotonic() - started)
                self._pages[name] = page
            return page

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

    def _tokens(self, asked: dict[str, str]) -> bytes:
        study = self._study(asked.get("study", ""))
        number = asked.get("trial", "")
        trials = study.optuna.get_trials(deepcopy=False)
        if not number.isdecimal() or int(number) >= len(trials):
            raise StudyError(f"Study '{study.name}' has no trial '{number}'.")
        return self._gallery.png(study, TrialRecord.of(trials[int(number)]))


class _Page:
    """A study's data as it was sent last."""

    def __init__(self, version: str, body: bytes) -> None:
        self.version, self.body = version, body
        self.good_until = 0.0

    def hold(self, seconds: float) -> None:
        """Keep it for a while, given how long it took to make."""
        self.good_until = time.monotonic() + max(LEAST_HOLD_S, HOLD * seconds)


def _version(study: Study) -> str:
    """Another text whenever a trial began, ended or was confirmed, or the plan was changed."""
    states = [trial.state.value for trial in study.optuna.get_trials(deepcopy=False)]
    confirmed = study.optuna.user_attrs.get(CONFIRMED)
    facts = json.dumps([study.name, states, study.plan.to_dict(), confirmed], sort_keys=True)
    return f'"{hashlib.sha256(facts.encode()).hexdigest()[:16]}"'
