"""Sends files of this host as answers: the kernel copies their bytes, so that none pass through Python.

ASGI has no message for that which uvicorn knows, so a connection puts a function of its own into the scope of each
request. A thread sends as long as the client takes the bytes at once; otherwise the event loop waits until it has taken
some. So a slow client costs a connection and no thread, and a slow disk does not stop the event loop.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from typing import Any

import anyio.to_thread
import h11
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_EXTENSION = "c2d.send_file"
_AT_ONCE = 1 << 24
"""Bytes that a thread sends at most before the event loop looks whether the client is still there."""
_AT_ONCE_MILLISECONDS = 2
"""How long a thread waits for a client: less than it costs to come back later from the event loop, many times."""
SendFile = Callable[[int, int, int], Awaitable[int]]
"""Sends bytes of a file, by its descriptor, the first byte and their number. Returns how many were sent: fewer when the
file has ended, or the client is gone."""


def sender(scope: Scope) -> SendFile | None:
    """What sends a file as the next part of the body of an answer that says its length; None on a connection that
    cannot, such as one with TLS."""
    found: SendFile | None = scope.get("extensions", {}).get(_EXTENSION)
    return found


class FileSendingProtocol(H11Protocol):
    """Uvicorn's connections, which also send files."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        served = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and self.transport.get_extra_info("sslcontext") is None:
                scope.setdefault("extensions", {})[_EXTENSION] = self._send_file
            await served(scope, receive, send)

        self.app = app

    async def _send_file(self, descriptor: int, offset: int, count: int) -> int:
        await self._all_is_sent()
        # A number of our own: that of a connection which closes meanwhile may become another one's.
        socket = os.dup(self.transport.get_extra_info("socket").fileno())
        try:
            sent = await self._sent(socket, descriptor, offset, count)
        finally:
            os.close(socket)
        if self.conn.our_state is h11.SEND_BODY:  # and not lost meanwhile
            self.conn.send_with_data_passthrough(h11.Data(data=_Sent(sent)))  # type: ignore[arg-type]
        return sent

    async def _all_is_sent(self) -> None:
        """The head of the answer must go before the file."""
        low, high = self.transport.get_write_buffer_limits()
        self.transport.set_write_buffer_limits(0)
        try:
            await self.flow.drain()
        finally:
            self.transport.set_write_buffer_limits(high, low)

    async def _sent(self, socket: int, descriptor: int, offset: int, count: int) -> int:
        sent = 0
        while sent < count and not self.transport.is_closing():
            most = min(count - sent, _AT_ONCE)
            now, is_over = await anyio.to_thread.run_sync(_sent_at_once, socket, descriptor, offset + sent, most)
            sent += now
            if is_over:
                break
            if now < most:
                await _writable(self.loop, socket)
        return sent


def _sent_at_once(socket: int, descriptor: int, offset: int, count: int) -> tuple[int, bool]:
    """How many of ``count`` bytes the client took without making this thread wait; and whether no more can be sent."""
    room = select.poll()
    room.register(socket, select.POLLOUT)
    sent = 0
    while sent < count:
        try:
            now = os.sendfile(socket, descriptor, offset + sent, count - sent)
        except BlockingIOError:
            if not room.poll(_AT_ONCE_MILLISECONDS):
                return sent, False
            continue
        except (BrokenPipeError, ConnectionResetError):
            return sent, True
        if not now:
            return sent, True
        sent += now
    return sent, False


class _Sent:
    """Bytes of which h11 need only know how many there were."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count


async def _writable(loop: asyncio.AbstractEventLoop, socket: int) -> None:
    """Wait until the socket takes more, or is closed."""
    ready = asyncio.Event()
    loop.add_writer(socket, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(socket)
