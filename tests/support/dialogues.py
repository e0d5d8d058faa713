"""What an iRODS client and a server say to each other, as data: read from sockets, kept in files.

A dialogue is what one test says: JSON lines in a gzip file, the first about the zone, each other one
request with its answer, and with the files of the vaults that changed meanwhile. What differs from
zone to zone stands there as ``${host}`` and ``${site}`` (the folder with the vaults); passwords and
what is computed from them do not stand there at all.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import lzma
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from irods.api_number import api_number

_LENGTH_BYTES: Final = 4
_LONGEST_HEAD: Final = 1088
_HEAD: Final = (
    b"<MsgHeader_PI><type>%s</type><msgLen>%d</msgLen><errorLen>%d</errorLen>"
    b"<bsLen>%d</bsLen><intInfo>%d</intInfo></MsgHeader_PI>"
)
_SHORT: Final = 200
"""Bytes of a file's content that are kept as text where they are text."""
_DELTA: Final = [{"id": lzma.FILTER_DELTA, "dist": 8}, {"id": lzma.FILTER_LZMA2, "preset": 6}]
"""Makes next to nothing of numbers of eight bytes that count up, of which the tests' large files are made."""

NUMBER = "a number"
"""The type of a message that is four bytes, without a head: ``Connection.reply`` sends such."""
CONNECT, DISCONNECT, REQUEST = "RODS_CONNECT", "RODS_DISCONNECT", "RODS_API_REQ"

_JSON_BUFFER = re.compile(rb"(.*<BinBytesBuf_PI>\s*<buflen>)\d+(</buflen>\s*<buf>)([\w+/=\s]*)(</buf>.*)", re.DOTALL)
_JSON_SHOWN = re.compile(rb"(.*<BinBytesBuf_PI>\s*<buflen>)(</buflen>\s*<buf>)(.*)(</buf>.*)", re.DOTALL)
_AUTHENTICATING = frozenset({api_number["AUTHENTICATION_APN"]})
_ADMINISTERING = frozenset({api_number["GENERAL_ADMIN_AN"], api_number["USER_ADMIN_AN"]})
WITHIN_A_FILE = frozenset(api_number[f"DATA_OBJ_{name}_AN"] for name in ("CLOSE", "LSEEK", "READ", "WRITE"))
_SECRET_CALLS = frozenset(
    api_number[name]
    for name in ("AUTH_REQUEST_AN", "AUTH_RESPONSE_AN", "AUTH_PLUG_REQ_AN", "PAM_AUTH_REQUEST_AN",
                 "GET_TEMP_PASSWORD_AN", "GET_TEMP_PASSWORD_FOR_OTHER_AN")
)  # fmt: skip
_SECRETS_IN_JSON = re.compile(rb'("(?:digest|request_result|password|a_pw)"\s*:\s*)"[^"]*"')
_NEW_PASSWORD = re.compile(rb"(<arg\d>password</arg\d>\s*)<arg.*</arg9>", re.DOTALL)
_SOURCE_FILE = re.compile(rb"(?:/[\w.+-]+)+/([\w-]+\.[ch]pp)")
_ROOM = re.compile(rb"<reslen>\d+</reslen>")


class NotRecordable(Exception):
    """What would put a secret into a file, or would not come out of it as it was."""


@dataclass(frozen=True)
class Message:
    """One message of the iRODS protocol; ``info`` is the number of an API, of an error, of a descriptor."""

    type: str
    info: int = 0
    body: bytes = b""
    error: bytes = b""
    content: bytes = b""

    def pack(self) -> bytes:
        """The message as it goes over a socket."""
        if self.type == NUMBER:
            return self.info.to_bytes(_LENGTH_BYTES, "big")
        lengths = (len(self.body), len(self.error), len(self.content))
        head = _HEAD % (self.type.encode(), *lengths, self.info)
        return b"".join((len(head).to_bytes(_LENGTH_BYTES, "big"), head, self.body, self.error, self.content))


def receive(connection: socket.socket) -> Message | None:
    """The next message; None at the end of the connection. EOFError in the middle of one."""
    first = connection.recv(_LENGTH_BYTES, socket.MSG_WAITALL)
    if not first:
        return None
    length = int.from_bytes(first, "big")
    if length > _LONGEST_HEAD:
        return Message(NUMBER, length)
    head = _exactly(connection, length)

    def part(name: bytes) -> bytes:
        found = re.search(b"<%s>([^<]*)</" % name, head)
        return found.group(1) if found else b"0"

    body, error, content = (_exactly(connection, int(part(name))) for name in (b"msgLen", b"errorLen", b"bsLen"))
    return Message(part(b"type").decode(), int(part(b"intInfo")), body, error, content)


def _exactly(connection: socket.socket, count: int) -> bytes:
    pieces = []
    while count:
        piece = connection.recv(min(count, 1 << 20), socket.MSG_WAITALL)
        if not piece:
            raise EOFError(f"the connection ended {count} bytes before the end of a message")
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def without_secrets(message: Message, api: int) -> Message:
    """A request, or an answer to one, from which nobody can compute a password, and that does not say
    where the server was built. NotRecordable."""
    message = replace(message, error=_SOURCE_FILE.sub(rb"\1", message.error))
    if api in _SECRET_CALLS:
        cause = f"request {api} carries a password or what is computed from one"
        raise NotRecordable(f"{cause}. Record on a zone of iRODS 4.3 or later, with native authentication")
    if api in _AUTHENTICATING:
        shown, buffer = _show_json(message.body)
        return replace(message, body=_hide_json(_SECRETS_IN_JSON.sub(rb'\1""', shown)) if buffer else message.body)
    if api in _ADMINISTERING:
        return replace(message, body=_NEW_PASSWORD.sub(rb"\1", message.body))
    return message


def _show_json(body: bytes) -> tuple[bytes, bool]:
    """JSON travels in base64: instead of it the JSON itself, for people to read and for names to be changed."""
    found = _JSON_BUFFER.fullmatch(body)
    if not found:
        return body, False
    before, between, buffer, after = found.groups()
    return b"".join((before, between, base64.b64decode(buffer), after)), True


def _hide_json(shown: bytes) -> bytes:
    found = _JSON_SHOWN.fullmatch(shown)
    if not found:
        return shown
    before, between, plain, after = found.groups()
    return b"".join((before, str(len(plain)).encode(), between, base64.b64encode(plain), after))


@dataclass(frozen=True)
class Surroundings:
    """Where a zone runs: the name of its host, and the folder in which its vaults lie."""

    host: str
    site: str

    def take_out(self, text: str) -> str:
        """The text with placeholders instead of these names."""
        host = re.compile(rf'(?<=[>"]){re.escape(self.host)}(?=[<":])')  # a short one is part of other words
        return host.sub("${host}", text.replace(self.site, "${site}"))

    def put_in(self, text: str) -> str:
        """The text with these names instead of placeholders."""
        return text.replace("${site}", self.site).replace("${host}", self.host)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_json(message: Message, surroundings: Surroundings, *, whole: bool) -> dict[str, Any]:
    """A message as it stands in a file: ``whole``, or with no more than the checksum of a long content."""
    shown = {
        "type": message.type,
        "info": message.info,
        "body": surroundings.take_out(_text(_show_json(message.body)[0])),
        "error": surroundings.take_out(_text(message.error)),
        "content": pack_content(message.content) if whole else _digest(message.content),
    }
    return {name: value for name, value in shown.items() if value}


def from_json(shown: Mapping[str, Any], surroundings: Surroundings) -> Message:
    """The message that :func:`to_json` showed, whole, in other surroundings."""
    body, error = (_raw(surroundings.put_in(shown.get(name, ""))) for name in ("body", "error"))
    content = unpack_content(shown.get("content", ""))
    return Message(shown["type"], shown.get("info", 0), _hide_json(body), error, content)


def pack_content(content: bytes) -> Any:
    """The bytes of a file, for JSON: short text as it is, all else compressed."""
    if len(content) <= _SHORT and content.isascii():
        return content.decode("ascii")
    return {"xz": base64.b64encode(lzma.compress(content, filters=_DELTA)).decode()}


def unpack_content(packed: Any) -> bytes:
    """What :func:`pack_content` was given."""
    if isinstance(packed, str):
        return packed.encode("ascii")
    return lzma.decompress(base64.b64decode(packed["xz"]))


def _digest(content: bytes) -> Any:
    if len(content) <= _SHORT:
        return pack_content(content)
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


class Conversation:
    """One connection: whose it is, and which data object it has open, where. So far the same request
    on two connections is not the same."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._account = ""
        self._open = ""
        self._offset = "0"

    def key(self, request: Message) -> str:
        """What must be equal for the next request to be the recorded one: all but passwords, the client
        library's version, and the room that a value takes, which depends on where the vaults lie."""
        if request.type == CONNECT:
            proxy, zone, client, home = (
                _element(request, name) for name in ("proxyUser", "proxyRcatZone", "clientUser", "clientRcatZone")
            )
            self._account = f"{proxy}#{zone} for {client}#{home}"
            return f"{self._account}\n{CONNECT}"
        shown = to_json(without_secrets(request, request.info), self._surroundings, whole=False)
        if "body" in shown:
            shown["body"] = _text(_ROOM.sub(b"<reslen></reslen>", _raw(shown["body"]))).replace("><", ">\n<")
        content = json.dumps(shown.pop("content", ""))
        return "\n".join((self._account + self._where(request), *(str(value) for value in shown.values()), content))

    def _where(self, request: Message) -> str:
        if request.type == REQUEST and request.info == api_number["DATA_OBJ_OPEN_AN"]:
            self._open, self._offset = _element(request, "objPath").replace("\n", "\\n"), "0"
        if request.type != REQUEST or request.info not in WITHIN_A_FILE:
            return ""
        if request.info == api_number["DATA_OBJ_LSEEK_AN"]:
            self._offset = _element(request, "offset")
        if request.info == api_number["DATA_OBJ_CLOSE_AN"]:
            return f", in {self._open}"
        return f", in {self._open} at {self._offset}"


def _element(request: Message, name: str) -> str:
    found = re.search(f"<{name}>([^<]*)</".encode(), request.body)
    return _text(found.group(1)) if found else ""


def is_login(key: str) -> bool:
    """Whether a request opens a connection: how many a client keeps is not what a test asks."""
    _, *about = key.split("\n")[:3]
    return about in ([CONNECT], [REQUEST, str(api_number["AUTHENTICATION_APN"])])


@dataclass
class Exchange:
    """A request (its key), the answer (None: the server ended the connection), the files changed."""

    key: str
    answer: Any
    files: dict[str, Any] = field(default_factory=dict)


@dataclass
class Dialogue:
    """All exchanges of a test, in the order of the answers; ``zone``: its account, name and default resource,
    how all names begin that the test makes there, and the seed of what it chooses at random."""

    zone: dict[str, str]
    exchanges: list[Exchange]

    def save(self, file: Path) -> None:
        """Write it, the same bytes for the same dialogue."""
        lines = [self.zone, *([each.key, each.answer, each.files] for each in self.exchanges)]
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(text.encode(), mtime=0))

    @classmethod
    def load(cls, file: Path) -> Dialogue:
        """Read what :meth:`save` wrote. OSError."""
        zone, *exchanges = (json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines())
        return cls(zone, [Exchange(*each) for each in exchanges])
