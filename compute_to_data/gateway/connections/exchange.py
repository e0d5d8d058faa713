"""One request and its answer, as an ASGI application receives and sends them."""

from __future__ import annotations

import asyncio
import logging
import re
from http import HTTPStatus
from typing import Protocol

from starlette.types import ASGIApp, Message, Scope

log = logging.getLogger(__name__)
_MOST_WAITING = 1 << 18
"""Bytes of a body that wait for the application before the connection is read no further."""
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_WITHOUT_BODY = frozenset({204, 304})
_FAILED = b"Internal Server Error"


class Line(Protocol):
    """What an exchange needs of its connection."""

    def write(self, content: bytes) -> None:
        """Send bytes, or keep them until the client takes them."""

    async def can_take(self) -> None:
        """Wait until the client has taken most of what was sent."""

    def read_on(self, wanted: bool) -> None:
        """Whether bytes of the client are wanted now."""

    def answered(self, exchange: Exchange) -> None:
        """The answer is complete."""

    def break_off(self) -> None:
        """The answer cannot be completed."""


class Exchange:
    """Only for the event loop."""

    def __init__(
        self, line: Line, scope: Scope, keeps_alive: bool, date: list[tuple[bytes, bytes]], expects_continue: bool
    ) -> None:
        self._line = line
        self.scope = scope
        self.keeps_alive = keeps_alive
        """Whether the connection is used for more requests."""
        self.is_whole = False
        """Whether all of the request has arrived."""
        self.is_answered = False
        self.is_begun = False
        """Whether the answer has begun."""
        self.is_lost = False
        """Whether nobody waits for the answer any more."""
        self.waiting = bytearray()
        """What has arrived of the body, and the application has not received."""
        self.arrived = 0
        """Bytes of the body that have arrived through the event loop."""
        self._date = date
        self._expects_continue = expects_continue
        self._news = asyncio.Event()
        self._is_chunked = False
        self._left = 0  # of an answer with a length
        self._head = b""

    def add(self, content: bytes) -> None:
        """A part of the body has arrived."""
        self.waiting += content
        self.arrived += len(content)
        if len(self.waiting) > _MOST_WAITING:
            self._line.read_on(False)
        self._news.set()

    def end(self) -> None:
        """All of the request has arrived."""
        self.is_whole = True
        self._news.set()

    def lose(self) -> None:
        """Nobody waits for the answer any more."""
        self.is_lost = True
        self._news.set()

    async def run(self, app: ASGIApp) -> None:
        """Let the application answer."""
        try:
            await app(self.scope, self.receive, self.send)
        except Exception:
            log.exception("an answer failed")
            if not self.is_begun:
                await self._say_that_it_failed()
        if not self.is_answered:
            if not self.is_lost:
                log.error("an answer was not completed")
            self._line.break_off()

    async def _say_that_it_failed(self) -> None:
        length = str(len(_FAILED)).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", length), (b"connection", b"close")]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": _FAILED})

    def ask_for_content(self) -> None:
        """Tell a client that waits for it to send the body."""
        if self._expects_continue and not self.is_begun:
            self._line.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects_continue = False

    async def receive(self) -> Message:
        """ASGI: the next part of the body, or that the client is gone."""
        self.ask_for_content()
        if not self.is_lost and not self.is_answered:
            self._line.read_on(True)
            await self._news.wait()
            self._news.clear()
        if self.is_lost or self.is_answered:
            return {"type": "http.disconnect"}
        content, self.waiting = bytes(self.waiting), bytearray()
        return {"type": "http.request", "body": content, "more_body": not self.is_whole}

    async def send(self, message: Message) -> None:
        """ASGI: the head of the answer, or a part of its body."""
        await self._line.can_take()
        if self.is_lost:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.is_begun:
            self._begin(message["status"], list(message.get("headers", ())))
        elif kind == "http.response.body" and self.is_begun and not self.is_answered:
            self._continue(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} was sent out of turn")

    def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        lines, length = [_status_line(status)], None
        closes = False
        for name, value in (*self._date, *headers):
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise RuntimeError(f"a header of the answer is none: {name!r}")
            lines += [name, b": ", value, b"\r\n"]
            lowered = name.lower()
            if lowered == b"content-length":
                length = int(value)
            elif lowered == b"connection" and value.lower() == b"close":
                closes, self.keeps_alive = True, False
        self.is_begun = True
        if self.scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            length = 0
        elif length is None and self.scope["http_version"] == "1.1":
            self._is_chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif length is None:
            self.keeps_alive = False  # the end of the connection is the end of the body
        self._left = -1 if length is None else length
        if not self.keeps_alive and not closes:
            lines.append(b"connection: close\r\n")
        self._head = b"".join([*lines, b"\r\n"])
        if length is None:
            self.flush()  # the first part of a stream may take long

    def flush(self) -> None:
        """Send the head, which otherwise goes with the first part of the body."""
        if self._head:
            self._line.write(self._head)
            self._head = b""

    def _continue(self, content: bytes, more: bool) -> None:
        if self._is_chunked:
            content = (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + (b"" if more else b"0\r\n\r\n")
        elif self.scope["method"] == "HEAD":
            content = b""
        else:
            self.count(len(content))
        content, self._head = self._head + content if self._head else content, b""
        if content:
            self._line.write(content)
        if not more:
            if self._left > 0:
                raise RuntimeError("the answer is shorter than its length")
            self.is_answered = True
            self._news.set()
            self._line.answered(self)

    def count(self, sent: int) -> None:
        """So many bytes of the body have been sent."""
        if self._left >= 0:
            self._left -= sent
            if self._left < 0:
                raise RuntimeError("the answer is longer than its length")


def _status_line(status: int) -> bytes:
    found = _STATUS_LINES.get(status)
    return found if found is not None else b"HTTP/1.1 %d \r\n" % status


_STATUS_LINES: dict[int, bytes] = {one: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus}
