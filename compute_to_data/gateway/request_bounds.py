"""How much a request may bring, and how long that may take.

A body is read only by an endpoint that wants one, with :func:`document` or :func:`content`. Nothing here blocks a
thread: a slow client costs a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import h11
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from compute_to_data.documents.json_text import MAXIMUM_BYTES, read_json
from compute_to_data.gateway.problems import HttpError, response
from compute_to_data.gateway.receiving_bodies import BodyReceivingProtocol
from compute_to_data.plain_text import lines

DOCUMENT_SECONDS = 30.0
"""How long a document may take to arrive."""
PAUSE_SECONDS = 30.0
"""How long a client may send nothing in the middle of a larger body."""
_DRAINED_BYTES, _DRAINED_SECONDS = 8 << 20, 5.0
HEADER_BYTES = 32 * 1024
HEADER_SECONDS = 15.0
"""How long a new connection may take to send its first request's line and headers."""


async def body(request: Request, most_bytes: int = MAXIMUM_BYTES) -> bytes:
    """The whole body of at most ``most_bytes`` bytes. HttpError 413 for more, 408 when it comes too slowly."""
    is_asked = False
    try:
        _need_length(request, most_bytes)
        is_asked = True
        return await asyncio.wait_for(_whole(request, most_bytes), DOCUMENT_SECONDS)
    except asyncio.TimeoutError:
        raise _too_slow(f"did not arrive within {DOCUMENT_SECONDS:g} s") from None
    except HttpError:
        if is_asked or not waits_to_be_asked(request):
            await drain(request)
        raise


def waits_to_be_asked(request: Request) -> bool:
    """Whether a client sends the body only when it is read (``Expect: 100-continue``), unless that has begun."""
    return request.headers.get("expect", "").strip().lower() == "100-continue"


async def drain(request: Request) -> None:
    """Take a part of what is not wanted: a client that is still sending when the connection closes may lose the
    answer."""

    async def drained() -> None:
        count = 0
        async for piece in request.stream():
            count += len(piece)
            if count > _DRAINED_BYTES:
                return

    with contextlib.suppress(asyncio.TimeoutError, ClientDisconnect, RuntimeError):
        await asyncio.wait_for(drained(), _DRAINED_SECONDS)


async def document(request: Request) -> Any:
    """The JSON document in the body. HttpError 415 for another media type; InvalidRequest as for ``read_json``."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise HttpError(415, "the body", f"found {kind[:80]!r}, expected application/json")
    return read_json(await body(request), "the body")


async def content(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    """The body piece by piece. HttpError 413 and 408 as above; ClientDisconnect when the client goes away."""
    _need_length(request, most_bytes)
    pieces, count = request.stream().__aiter__(), 0
    while True:
        piece = b""
        with anyio.move_on_after(PAUSE_SECONDS) as waiting:  # asyncio.wait_for would make a task for each piece
            try:
                piece = await pieces.__anext__()
            except StopAsyncIteration:
                return
        if waiting.cancelled_caught:
            raise _too_slow(f"paused for more than {PAUSE_SECONDS:g} s")
        count += len(piece)
        if count > most_bytes:
            raise _too_large(most_bytes)
        if piece:
            yield piece


def _need_length(request: Request, most_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise _too_large(most_bytes)


async def _whole(request: Request, most_bytes: int) -> bytes:
    found = bytearray()
    try:
        async for piece in request.stream():
            found += piece
            if len(found) > most_bytes:
                raise _too_large(most_bytes)
    except ClientDisconnect:
        raise HttpError(400, "the body", "ended before it was complete") from None
    return bytes(found)


def _too_large(most_bytes: int) -> HttpError:
    return HttpError(413, "the body", f"may hold at most {most_bytes} bytes", headers={"Connection": "close"})


def _too_slow(cause: str) -> HttpError:
    return HttpError(408, "the body", cause, "Send it again", headers={"Connection": "close"})


class AnswerFirst(Response):
    """An answer to a client that may still be sending: it goes out at once, and then the rest of the body is taken.

    Who looks at answers while they send, as curl does, need not send the rest. Who does not look would lose the answer
    with the connection if that closed meanwhile. ``take_the_rest``: without it, nothing is taken.
    """

    def __init__(self, answer: Response, take_the_rest: Callable[[], Awaitable[None]] | None) -> None:
        super().__init__(answer.body, answer.status_code)
        self.raw_headers = [*answer.raw_headers, (b"connection", b"close")]
        self._take_the_rest = take_the_rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, then take the rest."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        if self._take_the_rest is not None:
            await self._take_the_rest()
        await send({"type": "http.response.body", "body": b""})


class BoundedProtocol(BodyReceivingProtocol):
    """Uvicorn's connections, closed when a client takes too long to send a request's line and headers.

    Uvicorn itself has a limit only for the pause between two requests.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Begin to wait for the rest of a request, or end that when the request is there."""
        if self._waiting is None and not self._is_at_work():
            self._wait()
        super().data_received(data)
        if self._is_at_work():
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with a problem document, too. h11 is handling its own error, which says why."""
        error = sys.exc_info()[1]
        cause = str(error) if isinstance(error, h11.RemoteProtocolError) else msg
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        found = response(HttpError(status, "the request", f"is not HTTP/1.1: {lines(cause)[:200]}"))
        head = h11.Response(status_code=status, headers=[*found.raw_headers, (b"connection", b"close")])
        content = bytes(found.body)
        for event in (head, h11.Data(data=content), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _is_at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self._is_at_work():
            self.transport.close()
