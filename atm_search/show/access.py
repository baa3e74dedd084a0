"""Who may see the dashboard, and who may change what it shows."""

import hmac
import ipaddress
from collections.abc import Callable, Iterable
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from atm_search.show.live import Application

READING = ("GET", "HEAD", "OPTIONS")

COOKIE = "atm_search_token"


def read_only(inner: Application) -> Application:
    """The application without what would change something (405)."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in READING:
            return inner(environ, start_response)
        return _refusal(
            start_response,
            HTTPStatus.METHOD_NOT_ALLOWED,
            "This dashboard is read-only. Start it with --allow-edit to change studies.\n",
            ("Allow", ", ".join(READING)),
        )

    return application


def with_token(inner: Application, token: str) -> Application:
    """The application for those who know a token (401 for others).

    It is taken from the address once, as `?token=...`, and then kept in a cookie, so that it stays
    neither in the address bar nor in the history; programs may send it as a bearer.
    """

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = parse_qs(environ.get("QUERY_STRING", ""))
        if _same(asked.pop("token", [""])[0], token):
            query = urlencode(asked, doseq=True)
            place = quote(environ["PATH_INFO"]) + (f"?{query}" if query else "")
            cookie = f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
            # Never "//elsewhere", which a browser takes for another host.
            headers = [("Location", "/" + place.lstrip("/")), ("Set-Cookie", cookie)]
            start_response("303 See Other", headers)
            return [b""]
        bearer = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        if _same(_cookie(environ), token) or _same(bearer, token):
            return inner(environ, start_response)
        return _refusal(
            start_response,
            HTTPStatus.UNAUTHORIZED,
            "This dashboard asks for a token: open the address that its start has printed.\n",
            ("WWW-Authenticate", "Bearer"),
        )

    return application


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _cookie(environ: dict[str, Any]) -> str:
    try:
        cookies = SimpleCookie(environ.get("HTTP_COOKIE", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""


def _refusal(
    start_response: Callable[..., Any], status: HTTPStatus, text: str, header: tuple[str, str]
) -> Iterable[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8"), header]
    start_response(f"{status.value} {status.phrase}", headers)
    return [text.encode()]
