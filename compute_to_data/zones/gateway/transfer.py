"""Content to a gateway and back, streamed, with its checksum.

What is sent ends with the 32 bytes of its SHA-256: without them the gateway stores nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import urllib3

from compute_to_data import bounds, local_files
from compute_to_data.errors import AlreadyExists, Code, NotFound, zone_error
from compute_to_data.irods_names import shown
from compute_to_data.local_files import Digest, Moved, Source
from compute_to_data.zones.gateway.wire import PREFIX, Wire

_BLOCK = 1 << 20
_PIECE = 1 << 18
"""The kernel takes longer to write a whole block, which is not in the processor's cache any more."""
_LARGE = 1 << 22
"""Before a larger file is sent, the zone is asked whether its name is free."""
_CONTENT = f"{PREFIX}/catalog/content"


def write(wire: Wire, data_object: str, content: bytes, resource: str, force: bool) -> None:
    """As ``Catalog.write``."""
    _send(wire, data_object, content + hashlib.sha256(content).digest(), len(content), resource, force)


def put(wire: Wire, file: str, data_object: str, resource: str, force: bool, moved: Moved) -> str:
    """As ``ClientCatalog.put``."""
    with local_files.source(file) as source:
        if source.size > _LARGE and not force:
            _need_free(wire, data_object)
        digest = Digest()
        recorded = _send(wire, data_object, _pieces(source, digest, moved), source.size, resource, force)
    if recorded != digest.text:
        cause = f"{digest.text} was sent, and the zone has {recorded}"
        raise zone_error(Code.USER_CHKSUM_MISMATCH, shown(data_object), cause, "Send it again")
    return digest.text


def _need_free(wire: Wire, data_object: str) -> None:
    try:
        wire.call("stat", {"logical_path": data_object}, again=True)
    except NotFound:
        return
    code = Code.OVERWRITE_WITHOUT_FORCE_FLAG
    raise AlreadyExists(shown(data_object), "a data object or collection of that name is there", code=code)


def _pieces(source: Source, digest: Digest, moved: Moved) -> Iterator[bytes | memoryview]:
    """The content, and then its SHA-256. When the file has changed, an error breaks the request off before that."""
    room, offset = memoryview(bytearray(_BLOCK)), 0
    while offset < source.size:
        block = source.read_at(offset, room[: source.size - offset])
        if not block:
            raise source.changed()
        digest.update(block)
        offset += len(block)
        yield block
        moved(len(block))
    source.need_unchanged()
    yield digest.digest


def _send(wire: Wire, data_object: str, body: Any, size: int, resource: str, force: bool) -> str:
    headers = {"Content-Length": str(size + 32), "Content-Type": "application/octet-stream"}
    parameters = {"path": _encodable(data_object), "resource": resource, "force": "true" if force else "false"}
    return str(wire.result("PUT", _CONTENT, body=body, parameters=parameters, headers=headers))


def _encodable(logical_path: str) -> str:
    """ZoneError -317000 for half of a surrogate pair, which no address can hold."""
    try:
        quote(logical_path)
    except UnicodeEncodeError:
        cause = "characters that UTF-8 cannot encode (a lone surrogate)"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause) from None
    return logical_path


@contextmanager
def _arriving(wire: Wire, data_object: str) -> Iterator[tuple[urllib3.BaseHTTPResponse, int, list[str]]]:
    """The answer with the content; the size and the checksums in the catalog."""
    answer = wire.answer("GET", _CONTENT, parameters={"path": _encodable(data_object)}, again=True)
    try:
        size = int(answer.headers.get("C2d-Size", "0"))
        yield answer, size, list(json.loads(answer.headers.get("C2d-Checksums", "[]")))
    except urllib3.exceptions.HTTPError as error:
        raise wire.lost(error) from error
    except BaseException:
        answer.close()  # the rest of the content is not wanted
        raise
    answer.release_conn()


def _blocks(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    return iter(lambda: answer.read(_BLOCK, decode_content=False), b"")  # no copies: nothing is encoded


def read(wire: Wire, data_object: str, most_bytes: int) -> bytes:
    """As ``Catalog.read``."""
    content = bytearray()
    with _arriving(wire, data_object) as (answer, size, _):
        bounds.check_size(data_object, size, most_bytes)
        for block in _blocks(answer):
            content += block
            bounds.check_growing(data_object, len(content), most_bytes)
    return bytes(content)


def get(wire: Wire, data_object: str, file: str, moved: Callable[[int], None]) -> str:
    """As ``ClientCatalog.get``."""
    digest = Digest()
    with (
        local_files.arriving(file) as target,
        _arriving(wire, data_object) as (answer, size, checksums),
        ThreadPoolExecutor(1, "checksum") as hasher,
    ):
        hashed: Future[None] | None = None
        for block in _blocks(answer):
            if hashed is not None:
                hashed.result()
            hashed = hasher.submit(digest.update, block)  # while we write it, and receive the next one
            for start in range(0, len(block), _PIECE):
                target.write(memoryview(block)[start : start + _PIECE])
            moved(len(block))
        if hashed is not None:
            hashed.result()
        if digest.size != size:
            cause = f"the catalog has {size} bytes, and {digest.size} arrived"
            raise zone_error(Code.SYS_COPY_LEN_ERR, shown(data_object), cause, "Try again, or have it repaired")
        if checksums and digest.text not in checksums:
            cause = f"the catalog has the checksum {' and '.join(checksums)}, but {digest.text} arrived"
            raise zone_error(Code.USER_CHKSUM_MISMATCH, shown(data_object), cause, "Try again, or have it repaired")
    return digest.text


class OpenObject:
    """An :class:`~compute_to_data.ports.OpenDataObject` that the gateway keeps open."""

    def __init__(self, wire: Wire, name: str) -> None:
        self._wire = wire
        self._name = name

    def read(self, offset: int, size: int) -> bytes:
        """As the port says; at most 4 MiB at a time."""
        parameters = {"offset": offset, "size": size}
        answer = self._wire.answer("GET", f"{PREFIX}/catalog/open/{self._name}", parameters=parameters, again=True)
        try:
            content = bytes(answer.read())
        except urllib3.exceptions.HTTPError as error:
            raise self._wire.lost(error) from error
        answer.release_conn()
        return content
