"""What every answer of the gateway has in common: headers that protect browsers, and a line in the log."""

from __future__ import annotations

import logging
import re
import time
from urllib.parse import unquote

import anyio
import anyio.lowlevel
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from compute_to_data.gateway import problems
from compute_to_data.gateway.metrics import Metrics
from compute_to_data.gateway.refusals import refusal
from compute_to_data.gateway.shares import Shares
from compute_to_data.plain_text import one_line

log = logging.getLogger(__name__)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Each answer has these, unless its endpoint sets another value."""
_WHOLE_URL = re.compile(rb"https?://([^/?#]+)(/.*)?", re.IGNORECASE | re.DOTALL)


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
        scope = _in_origin_form(scope)
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

        # HEAD is answered as GET is (RFC 9110, 9.3.2), and nothing but the server itself need know it.
        is_head = scope["method"] == "HEAD"
        scope = {**scope, "method": "GET"} if is_head else scope
        try:
            why = refusal(scope)
            app = self._app if why is None else problems.response(why)
            await (_head_of(app, scope, receive, answer) if is_head else app(scope, receive, answer))
        finally:
            self._shares.end(scope)
            seconds = time.perf_counter() - begun
            self._metrics.answered(scope, status, seconds)
            log.info("%s", _line(scope, status, seconds))


def _in_origin_form(scope: Scope) -> Scope:
    """A request may name the whole URL, whose host then stands above the header (RFC 9112, 3.2.2)."""
    found = _WHOLE_URL.fullmatch(scope["raw_path"])
    if found is None:
        return scope
    host, path = found[1], found[2] or b"/"
    headers = [(name, host if name == b"host" else value) for name, value in scope["headers"]]
    return {**scope, "raw_path": path, "path": unquote(path.decode("ascii")), "headers": headers}


async def _head_of(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the application answer until it has said the status and the headers."""
    with anyio.CancelScope() as asked:

        async def head(message: Message) -> None:
            await send(message)
            await send({"type": "http.response.body", "body": b""})
            asked.cancel()
            await anyio.lowlevel.checkpoint()

        await app(scope, receive, head)


def _line(scope: Scope, status: int, seconds: float) -> str:
    """Without the query, which may hold a token."""
    who = scope.get("state", {}).get("user", "-")
    address = (scope.get("client") or ("-", 0))[0]
    return one_line(f"{address} {who} {scope['method']} {scope['path']} {status} {seconds * 1000:.0f} ms")
