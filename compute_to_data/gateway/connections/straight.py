"""Gives a large body to the application straight from the socket: a thread receives its bytes and works on them.

Otherwise each piece would pass through the event loop and the parser, which takes as long as all that is done with it.
The thread receives until there is nothing; then the event loop waits for more. So a slow client costs no thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, Union

import anyio.to_thread
from starlette.types import Scope

from compute_to_data.gateway.connections.exchange import Exchange
from compute_to_data.gateway.connections.reader import Head, Reader

_EXTENSION = "c2d.receive"
_PIECE = 1 << 18
_TOGETHER = 8
"""Pieces that are worked on at a time."""
_TURN = 1 << 25
"""Bytes that a thread receives at most before the event loop looks whether the gateway ends."""
Take = Callable[[Sequence[Union[bytes, memoryview]]], None]
"""Works on pieces of the body, in a thread."""
Give = Callable[[Take, int, float], Awaitable[int]]
"""Gives the next bytes of the body to a function: how many, fewer than are left of the body; and after how many seconds
without a byte it raises asyncio.TimeoutError. Returns how many it gave: fewer when the client is gone."""


def giver(scope: Scope) -> Give | None:
    """What gives a body straight from the socket; None where that cannot be: under TLS, or for chunks."""
    found: Give | None = scope.get("extensions", {}).get(_EXTENSION)
    return found


class Line(Protocol):
    """What this needs of a connection."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    reader: Reader


def offer(line: Line, exchange: Exchange, head: Head) -> None:
    """Let the application take the body of an exchange in this way."""
    length = head.length
    if length is not None and exchange.scope["scheme"] == "http":
        exchange.scope["extensions"][_EXTENSION] = _Giver(line, exchange, length).give


class _Giver:
    def __init__(self, line: Line, exchange: Exchange, length: int) -> None:
        self._line = line
        self._exchange = exchange
        self._length = length
        self._received = 0  # from the socket
        self._is_over = False  # the client is gone

    async def give(self, take: Take, count: int, patience: float) -> int:
        """A :data:`Give`."""
        self._exchange.ask_for_content()
        self._line.transport.pause_reading()
        waiting = self._exchange.waiting
        first, self._exchange.waiting = bytes(waiting[:count]), waiting[count:]
        if first:
            await anyio.to_thread.run_sync(take, [first])
        if len(first) < count:
            await self._give_more(take, count - len(first), patience)
        return len(first) + self._received

    async def _give_more(self, take: Take, count: int, patience: float) -> None:
        if self._line.transport.is_closing():
            return
        # A number of our own: that of a connection which closes meanwhile may become another one's.
        with socket.socket(fileno=os.dup(self._line.transport.get_extra_info("socket").fileno())) as own:
            own.setblocking(False)
            try:
                while self._received < count and not self._is_over and not self._exchange.is_lost:
                    before = self._received
                    await anyio.to_thread.run_sync(self._receive, own, take, min(count, before + _TURN))
                    if self._received == before and not self._is_over:
                        await _readable(self._line.loop, own, patience)
            finally:
                if self._received:
                    self._line.reader.skip_to_last(self._length - self._exchange.arrived - self._received)

    def _receive(self, own: socket.socket, take: Take, until: int) -> None:
        """In a thread: give what is there."""
        pieces: list[bytes | memoryview] = []
        while self._received < until and not self._is_over:
            try:
                piece = own.recv(min(until - self._received, _PIECE))
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                piece = b""
            self._is_over = not piece
            self._received += len(piece)
            pieces.append(piece)
            if len(pieces) == _TOGETHER:
                take(pieces)
                pieces = []
        if pieces:
            take(pieces)


async def _readable(loop: asyncio.AbstractEventLoop, own: socket.socket, patience: float) -> None:
    """Wait for bytes, or the end. TimeoutError when nothing comes for so many seconds."""
    ready = asyncio.Event()
    loop.add_reader(own, ready.set)
    try:
        await asyncio.wait_for(ready.wait(), patience)
    finally:
        loop.remove_reader(own)
