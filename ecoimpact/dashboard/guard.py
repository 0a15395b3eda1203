"""Who may ask, and what a browser may do with the answer.

Rules that hold in this file: a name that is not on the list of hosts gets nothing, so that no page elsewhere can reach
the dashboard by pointing its own name at this machine; beyond loopback everybody shows the token; nothing is changed by
anybody.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
COOKIE: Final = "ecoimpact_token"

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
        "connect-src 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""On every answer. plotly sets styles, hence ``unsafe-inline`` for them; its pictures are ``blob:`` and ``data:``."""


class Guard:
    """The middleware around the application.

    ``hosts`` are the names in a ``Host`` header that are answered; where ``addresses`` is true, so is any numeric address,
    as no name can be pointed at the machine by it. ``token`` is asked for where there is one: as a bearer, or once in the
    address, which sets a cookie.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = LOOPBACK, addresses: bool = False, token: str | None = None):
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)
        self._addresses = addresses
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refused = self._refused(scope)
        await (self._app if refused is None else refused)(scope, receive, guarded)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if not self._knows(headers.getlist("host")):
            return PlainTextResponse("This is not a name of the dashboard.", 400)
        if scope["method"] not in ("GET", "HEAD"):
            if not _is_own(headers):
                return PlainTextResponse("Nothing is taken from other pages.", 403)
            return PlainTextResponse("There is nothing here to change.", 405, {"Allow": "GET, HEAD"})
        if scope["path"] != "/" and headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Nothing is given to other pages.", 403)  # a link to the page itself is fine
        return self._without_token(scope, headers)

    def _knows(self, given: list[str]) -> bool:
        host = _host(given[0]) if len(given) == 1 else None
        return host is not None and (host in self._hosts or (self._addresses and _is_address(host)))

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        if self._token is None:
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if any(name == "token" and self._fits(value) for name, value in query):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            answer = RedirectResponse(scope["path"] + (f"?{rest}" if rest else ""), 303)
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="lax", path="/")  # so that a link leads in
            return answer
        if self._fits(headers.get("authorization", "").removeprefix("Bearer ")) or self._fits(_cookie(headers)):
            return None
        return PlainTextResponse("The address that was printed when the dashboard started has a token; it is needed.", 401)

    def _fits(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), (self._token or "").encode())


def _host(header: str) -> str | None:
    """The name in a ``Host`` header, without the port; ``None`` where it is no such header.

    >>> _host("LocalHost:8377"), _host("[::1]:8377"), _host("a@127.0.0.1"), _host("")
    ('localhost', '::1', None, None)
    """
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.netloc == header and "@" not in header else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_own(headers: Headers) -> bool:
    """Whether a request comes from the dashboard's own page, or from no page at all."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _cookie(headers: Headers) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel is not None else ""
