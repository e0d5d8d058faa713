"""Sends files of this host as answers: the kernel copies their bytes, so that none pass through Python.

ASGI has no message for that which Starlette sends, so a connection puts a function of its own into the scope of each
request. A thread sends until the socket takes no more; then the event loop waits until the client has taken some. So a
slow client costs a connection and no thread, and a slow disk does not stop the event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio.to_thread
from starlette.types import Scope

_EXTENSION = "c2d.send_file"
_AT_ONCE = 1 << 24
"""Bytes that a thread sends at most before the event loop looks whether the client is still there."""
SendFile = Callable[[int, int, int], Awaitable[int]]
"""Sends bytes of a file, by its descriptor, the first byte and their number. Returns how many were sent: fewer when the
file has ended, or the client is gone."""


def sender(scope: Scope) -> SendFile | None:
    """What sends a file as the next part of the body of an answer that says its length; None on a connection that
    cannot, such as one with TLS."""
    found: SendFile | None = scope.get("extensions", {}).get(_EXTENSION)
    return found


class Line(Protocol):
    """What sending a file needs of a connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    async def all_is_sent(self) -> None:
        """Wait until the client has taken all that was sent."""


class Exchange(Protocol):
    """What it needs of a request and its answer."""

    scope: Scope
    is_lost: bool

    def flush(self) -> None:
        """Send the head of the answer."""

    def count(self, sent: int) -> None:
        """So many bytes of the body have been sent."""


def offer(line: Line, exchange: Exchange) -> None:
    """Let the application send files in this exchange. Under TLS the kernel would send them in plain."""
    if exchange.scope["scheme"] == "http":
        exchange.scope["extensions"][_EXTENSION] = _Sender(line, exchange).send


class _Sender:
    def __init__(self, line: Line, exchange: Exchange) -> None:
        self._line = line
        self._exchange = exchange

    async def send(self, descriptor: int, offset: int, count: int) -> int:
        """A :data:`SendFile`."""
        self._exchange.flush()
        await self._line.all_is_sent()  # the head of the answer must go before the file
        if self._exchange.is_lost or self._line.transport.is_closing():
            return 0
        # A number of our own: that of a connection which closes meanwhile may become another one's.
        socket = os.dup(self._line.transport.get_extra_info("socket").fileno())
        try:
            sent = await self._sent(socket, descriptor, offset, count)
        finally:
            os.close(socket)
        if not self._exchange.is_lost:
            self._exchange.count(sent)
        return sent

    async def _sent(self, socket: int, descriptor: int, offset: int, count: int) -> int:
        sent = 0
        while sent < count and not self._line.transport.is_closing():
            try:
                now = await anyio.to_thread.run_sync(
                    os.sendfile, socket, descriptor, offset + sent, min(count - sent, _AT_ONCE)
                )
            except BlockingIOError:
                await _writable(self._line.loop, socket)
                continue
            except (BrokenPipeError, ConnectionResetError):
                break
            if not now:
                break
            sent += now
        return sent


async def _writable(loop: asyncio.AbstractEventLoop, socket: int) -> None:
    """Wait until the socket takes more, or is closed."""
    ready = asyncio.Event()
    loop.add_writer(socket, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(socket)
