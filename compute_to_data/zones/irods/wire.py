"""One request to an iRODS server and its answer, on a connection that python-irodsclient opened.

The client library's own ``recv`` parses error texts and rows as XML, and fails on the control
characters that names may hold; here an answer is taken apart by the few patterns it is made of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape

from irods.connection import Connection
from irods.message import FileOpenRequest, Message, StringStringMap, iRODSMessage

_MESSAGE = re.compile(rb"<msg>(.*?)</msg>", re.DOTALL)


class ServerError(Exception):
    """The server answered with an error: ``code`` as it came (with an errno in its last digits),
    ``text`` what it says about it, often nothing."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"iRODS error {code} {text}".strip())
        self.code = code
        self.text = text


def nominal(code: int) -> int:
    """A code without the errno in its last three digits."""
    return -(-code // 1000 * 1000)


@dataclass(frozen=True)
class Answer:
    """What came back: ``info`` is the API's number (a descriptor, a count), ``body`` the message
    as it was sent, ``content`` the bytes of a file."""

    info: int
    body: bytes
    content: bytes


def ask(connection: Connection, api: int, message: Message | None, content: bytes = b"") -> Answer:
    """Send one request and wait for its answer.

    ServerError for a refusal; OSError or NetworkException when the connection does not work.
    """
    connection.send(iRODSMessage("RODS_API_REQ", msg=message, bs=content, int_info=api))
    return receive(connection)


def receive(connection: Connection) -> Answer:
    """The next answer on a connection. Errors as :func:`ask`."""
    raw = iRODSMessage.recv(connection.socket)
    if raw.int_info < 0:
        texts = [to_text(found) for found in _MESSAGE.findall(raw.error or b"")]
        raise ServerError(raw.int_info, "; ".join(texts))
    return Answer(raw.int_info, raw.msg or b"", raw.bs or b"")


def to_text(raw: bytes) -> str:
    """The text of one element, as the server packed it."""
    return unescape(raw.decode("utf-8", "surrogateescape"))


def field(body: bytes, name: str) -> str:
    """The text of the first element of that name; '' when there is none."""
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
    """A request that is about one data object (``DataObjInp``). Numbers of threads are left to
    the server, which is right outside an agent."""
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
