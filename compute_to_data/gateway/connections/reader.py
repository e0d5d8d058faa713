"""Reads requests out of the bytes of a connection, with llhttp (the parser of Node.js) as strict as it can be.

What two programs could read differently is refused here or in ``answers.py``, and ends the connection.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

import httptools

log = logging.getLogger(__name__)
_VERSIONS = ("1.0", "1.1")


class Unreadable(Exception):
    """The bytes are no request that could be read in one way only."""


@dataclass
class Head:
    """A request's line and headers, whose names are in lower case."""

    method: str = ""
    target: bytes = b""
    version: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    keeps_alive: bool = False
    """Whether the client allows more requests on the connection."""

    @property
    def length(self) -> int | None:
        """The length of the body as the client gives it, if it does."""
        return next((int(value) for name, value in self.headers if name == b"content-length"), None)


class Receiver(Protocol):
    """Gets what the reader finds."""

    def on_head(self, head: Head) -> None:
        """A request has begun."""

    def on_content(self, content: bytes) -> None:
        """More of its body."""

    def on_end(self) -> None:
        """All of it has arrived."""


class Reader:
    """Reads one connection. Use :meth:`feed`; the methods that begin with ``on_`` are called by the parser."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self._head: Head | None = None
        self._keeps_alive = False
        self.idle_bytes = 0
        """Bytes since the last ones that were of use: those of a head or of a chunk's frame that is not over."""

    def feed(self, content: bytes) -> None:
        """Read the next bytes. Raises Unreadable; after that, use the reader no more."""
        self.idle_bytes += len(content)
        try:
            self._parser.feed_data(content)
        except httptools.HttpParserUpgrade as upgrade:
            # The request is answered as if the client had not asked for another protocol.
            rest = content[upgrade.args[0] :]
            if rest:
                self.feed(rest)
        except httptools.HttpParserError as error:
            if error.__context__ is not None and not isinstance(error.__context__, Unreadable):
                log.error("a request could not be begun", exc_info=error.__context__)
            raise Unreadable(str(error)) from error

    def skip_to_last(self, left: int) -> None:
        """So many bytes of the body of a known length are to come still; those before them came on another way."""
        ending = "" if self._keeps_alive else "Connection: close\r\n"
        head = f"POST / HTTP/1.1\r\nHost: x\r\n{ending}Content-Length: {left}\r\n\r\n"
        receiver, self._receiver = self._receiver, _Nobody()
        try:
            self._parser = httptools.HttpRequestParser(self)
            self._parser.feed_data(head.encode())
        finally:
            self._receiver = receiver
        self.idle_bytes = 0

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._head = Head()
        self.idle_bytes = 0

    def on_url(self, part: bytes) -> None:
        """A part of the request's target."""
        self._found().target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those after the last chunk are of no use to anybody here."""
        if self._head is not None:
            self._head.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The end of the head. An error in here makes the parser fail."""
        head = self._found()
        head.version = self._parser.get_http_version()
        head.method = self._parser.get_method().decode("ascii")
        if head.version not in _VERSIONS or head.method == "CONNECT" or not head.target.isascii():
            raise Unreadable("another protocol")
        head.keeps_alive = self._keeps_alive = head.version == "1.1" and self._parser.should_keep_alive()
        self._head = None
        self._receiver.on_head(head)

    def on_body(self, content: bytes) -> None:
        """A part of the body."""
        self.idle_bytes = 0
        self._receiver.on_content(content)

    def on_message_complete(self) -> None:
        """The end of the request."""
        self.idle_bytes = 0
        self._receiver.on_end()

    def _found(self) -> Head:
        assert self._head is not None, "the parser tells the beginning first"
        return self._head


class _Nobody:
    """Gets the head that a reader writes for itself."""

    def on_head(self, head: Head) -> None:
        """Of no use."""

    def on_content(self, content: bytes) -> None:
        """Of no use."""

    def on_end(self) -> None:
        """Of no use."""
