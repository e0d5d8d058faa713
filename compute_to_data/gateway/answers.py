"""What every answer of the gateway has in common: headers that protect browsers, and a line in the log."""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute_to_data.gateway import problems
from compute_to_data.gateway.metrics import Metrics
from compute_to_data.gateway.request_bounds import HEADER_BYTES
from compute_to_data.gateway.shares import Shares
from compute_to_data.plain_text import one_line

log = logging.getLogger(__name__)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_ONCE = (b"authorization", b"origin", b"sec-fetch-site", b"content-type")
"""Headers that decide about rights; h11 itself refuses a second Host."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Each answer has these, unless its endpoint sets another value."""


class Answers:
    """ASGI middleware. It refuses changes that a page of another site asks for with a browser's own credentials."""

    def __init__(self, app: ASGIApp, metrics: Metrics, shares: Shares) -> None:
        self._app = app
        self._metrics = metrics
        self._shares = shares

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["scheme"] == "https":
                    headers.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        try:
            refusal = _refusal(scope)
            await (self._app if refusal is None else problems.response(refusal))(scope, receive, answer)
        finally:
            self._shares.end(scope)
            seconds = time.perf_counter() - begun
            self._metrics.answered(scope, status, seconds)
            log.info("%s", _line(scope, status, seconds))


def _refusal(scope: Scope) -> problems.HttpError | None:
    """Why the request is not looked at, if it is not."""
    size = len(scope["raw_path"]) + len(scope["query_string"])
    if size + sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
        # h11 bounds what comes in several pieces, not what comes in one.
        return problems.HttpError(431, "the request", f"has more than {HEADER_BYTES} bytes of address and headers")
    ambiguous = _ambiguous(scope)
    if ambiguous:
        return problems.HttpError(400, "the request", ambiguous, headers={"Connection": "close"})
    if is_cross_site(scope):
        return problems.HttpError(403, "the request", "a page of another site asks for this change")
    return None


def _ambiguous(scope: Scope) -> str:
    """Why a proxy could read the request differently, or '' (RFC 9112, 6.3: request smuggling)."""
    names = [name for name, _ in scope["headers"]]
    if b"content-length" in names and b"transfer-encoding" in names:
        return "has both Content-Length and Transfer-Encoding"
    twice = next((name for name in _ONCE if names.count(name) > 1), b"")
    return f"has the header {twice.decode()} twice" if twice else ""


def is_cross_site(scope: Scope) -> bool:
    """Whether a browser sends a change on behalf of a page of another site (cross-site request forgery)."""
    if scope["method"] in _SAFE_METHODS:
        return False
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def _line(scope: Scope, status: int, seconds: float) -> str:
    """Without the query, which may hold a token."""
    who = scope.get("state", {}).get("user", "-")
    address = (scope.get("client") or ("-", 0))[0]
    return one_line(f"{address} {who} {scope['method']} {scope['path']} {status} {seconds * 1000:.0f} ms")
