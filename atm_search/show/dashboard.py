"""A study store in the browser, so that looking cannot change anything.

The frontier's pages and the Optuna dashboard, in one process. The stock dashboard has no accounts,
lets whoever reaches it delete studies, and cannot see Optuna 5's constraints; here it answers only
requests that read, unless editing is allowed, and shows our note, figures and token pictures.
"""

import re
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard

from atm_search.errors import InputError
from atm_search.search.steady import SteadyStorage
from atm_search.show.access import read_only, with_token
from atm_search.show.adorned import AdornedStorage, TokenPictures
from atm_search.show.live import ROOT, Application, LivePages

OF_STUDY = re.compile(r"/(?:api/studies|artifacts)/(\d+)(?:/.*)?")
"""What the stock dashboard asks of one study."""


def dashboard(
    storage: SteadyStorage, *, allow_edit: bool = False, token: str | None = None
) -> Application:
    """The pages and the dashboard as a WSGI application; `/` leads to the frontier.

    Args:
        storage: from `open_store`.
        allow_edit: let anybody who reaches it rename, note, tell and delete.
        token: what to know to see anything; None lets everybody in.
    """
    live = LivePages(storage)
    threading.Thread(target=live.warm, name="warm-up", daemon=True).start()
    stock: Application = optuna_dashboard.wsgi(
        AdornedStorage(storage, live.adorned), TokenPictures(live.picture)
    )

    def both(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path in ("", "/"):
            start_response("302 Found", [("Location", ROOT)])
            return [b""]
        if path == ROOT or path.startswith(f"{ROOT}/"):
            return live(environ, start_response)
        if of_study := OF_STUDY.fullmatch(path):
            live.adorn(int(of_study[1]))
        return stock(environ, start_response)

    application: Application = both if allow_edit else read_only(both)
    return application if token is None else with_token(application, token)


def server(application: Application, *, host: str, port: int) -> WSGIServer:
    """A server that listens at an address; `serve_forever` starts it. Port 0 takes a free one.

    Raises:
        InputError: the address cannot be had.
    """
    try:
        return make_server(
            host, port, application, server_class=_ThreadingServer, handler_class=_QuietHandler
        )
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"The dashboard cannot listen on {host}:{port}: {reason}. Choose another --port."
        ) from error


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    """A page asks for several things at once."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """A line per request would bury what the terminal has to say."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
