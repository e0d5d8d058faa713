"""Sends one request to an iRODS server and reads the answer, on a connection of python-irodsclient.

The client library's own ``recv`` parses error texts and rows as XML, and fails on the control
characters that names may hold. This module matches the few patterns of an answer instead. The
library also copies megabytes of content several times, which this module avoids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape

from irods.connection import Connection
from irods.exception import NetworkException
from irods.message import FileOpenRequest, Message, StringStringMap, iRODSMessage

_NUMBERS = (b"msgLen", b"errorLen", b"bsLen", b"intInfo")
_NUMBER = re.compile(rb"<(%s)>(-?\d+)</" % b"|".join(_NUMBERS))
_LENGTH_BYTES = 4
_LONGEST_HEAD = 1088
"""The most bytes of an answer's first part; the server's own limit (MAX_NAME_LEN)."""
_MESSAGE = re.compile(rb"<msg>(.*?)</msg>", re.DOTALL)


class ServerError(Exception):
    """The server answered with an error.

    ``code``: as received, perhaps with an errno in its last digits. ``text``: the server's message,
    often empty.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"iRODS error {code} {text}".strip())
        self.code = code
        self.text = text


def nominal(code: int) -> int:
    """A code without the errno in its last three digits."""
    return -(-code // 1000 * 1000)


@dataclass(frozen=True)
class Answer:
    """An answer. ``info``: the call's result (a descriptor, a count). ``body``: the packed message.
    ``content``: the bytes of a file."""

    info: int
    body: bytes
    content: memoryview


def ask(
    connection: Connection,
    api: int,
    message: Message | None,
    content: bytes | memoryview = b"",
    room: bytearray | None = None,
) -> Answer:
    """Send one request and wait for the answer.

    The content of the answer goes into ``room`` if it is large enough, since allocating memory costs
    more than reading into it. ServerError when the server refuses the call; OSError or
    NetworkException when the connection does not work.
    """
    body = message.pack().encode() if message else b""
    head = iRODSMessage.pack_header("RODS_API_REQ", len(body), 0, len(content), api)
    connection.socket.sendall(head + body)
    if content:
        connection.socket.sendall(content)  # separate, to avoid copying megabytes
    return receive(connection, room)


def receive(connection: Connection, room: bytearray | None = None) -> Answer:
    """The next answer on a connection. Errors and ``room`` as for :func:`ask`."""
    length = int.from_bytes(_read(connection, _LENGTH_BYTES), "big")
    head = bytes(_read(connection, min(length, _LONGEST_HEAD)))
    numbers = {name: int(value) for name, value in _NUMBER.findall(head)}
    if len(numbers) != len(_NUMBERS):
        raise NetworkException(f"the answer begins with {head[:40]!r}, so it is not from an iRODS server")
    body = bytes(_read(connection, numbers[b"msgLen"]))
    error = bytes(_read(connection, numbers[b"errorLen"]))
    content = _read(connection, numbers[b"bsLen"], room)
    if numbers[b"intInfo"] < 0:
        texts = [to_text(found) for found in _MESSAGE.findall(error)]
        raise ServerError(numbers[b"intInfo"], "; ".join(texts))
    return Answer(numbers[b"intInfo"], body, content)


def _read(connection: Connection, length: int, room: bytearray | None = None) -> memoryview:
    """Read ``length`` bytes. The client library would copy all earlier bytes for each packet."""
    content = memoryview(room if room is not None and len(room) >= length else bytearray(length))[:length]
    free = content
    while free:
        count = connection.socket.recv_into(free)
        if not count:
            raise NetworkException("the server closed the connection")
        free = free[count:]
    return content


def to_text(raw: bytes) -> str:
    """The text of one element, unescaped."""
    return unescape(raw.decode("utf-8", "surrogateescape"))


def field(body: bytes, name: str) -> str:
    """The text of the first element called ``name``; '' when there is none."""
    found = re.search(rb"<%s>(.*?)</%s>" % (name.encode(), name.encode()), body, re.DOTALL)
    return to_text(found.group(1)) if found else ""


def about_object(
    logical_path: str,
    options: Mapping[str, str] | None = None,
    *,
    operation: int = 0,
    flags: int = 0,
    size: int = -1,
    mode: int = 0,
) -> FileOpenRequest:
    """A request about one data object (``DataObjInp``). Leaves the number of threads to the server."""
    return FileOpenRequest(
        objPath=logical_path,
        createMode=mode,
        openFlags=flags,
        offset=0,
        dataSize=size,
        numThreads=0,
        oprType=operation,
        KeyValPair_PI=StringStringMap(dict(options or {})),
    )
