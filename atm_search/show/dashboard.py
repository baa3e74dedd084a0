"""The Optuna dashboard over a study store, so that looking cannot change anything.

The stock dashboard has no accounts and lets whoever reaches it delete studies. Here it answers
only requests that read, unless editing is allowed, and listens on this machine alone, unless told
otherwise.
"""

import ipaddress
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna_dashboard
from optuna.storages import RDBStorage

from atm_search.errors import InputError

READING = ("GET", "HEAD", "OPTIONS")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A WSGI application."""


def dashboard(storage: RDBStorage, *, allow_edit: bool = False) -> Application:
    """The dashboard as a WSGI application; it refuses what would change the store (405).

    Args:
        storage: from `open_store`.
        allow_edit: let anybody who reaches it rename, note, tell and delete.
    """
    stock: Application = optuna_dashboard.wsgi(storage)
    if allow_edit:
        return stock

    def read_only(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING:
            return stock(environ, start_response)
        status = HTTPStatus.METHOD_NOT_ALLOWED
        headers = [("Content-Type", "text/plain"), ("Allow", ", ".join(READING))]
        start_response(f"{status.value} {status.phrase}", headers)
        return [b"This dashboard is read-only. Start it with --allow-edit to change studies.\n"]

    return read_only


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
