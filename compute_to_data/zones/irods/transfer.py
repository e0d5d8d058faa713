"""Transfers a user's local files to data objects and back, with the user's own connections.

A small file goes in one call, as with ``iput``. A larger one goes over several connections: each
takes the next block of the file, writes it at its offset, and takes another. So the file is read
only once, the checksum is computed in order on the way, and each connection holds one block in
memory. The first connection opens the replica and closes it last. Until then the replica is not
good, and if that connection is lost, the server marks the replica stale.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import JSON_Message, Message

from compute_to_data import local_files
from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.local_files import Digest, Moved, Source
from compute_to_data.model import DataObject, Replica, ReplicaStatus
from compute_to_data.zones.irods import contents, lookup, tree
from compute_to_data.zones.irods.connections import Connections
from compute_to_data.zones.irods.contents import opened
from compute_to_data.zones.irods.failures import about, shown
from compute_to_data.zones.irods.wire import ServerError, about_object, ask, field

WHOLE: Final = 16 * 1024 * 1024
"""The size in bytes up to which a file goes in one call."""
BLOCK: Final = 4 * 1024 * 1024
"""The bytes that a connection takes at a time. A block should still be in the processor's cache when it is
hashed and sent, but be so large that the calls cost little."""
STREAMS: Final = 3 if (os.cpu_count() or 1) > 2 else 2
"""How many connections transfer a large file. Sending and hashing keep two processors busy."""
CLOSE_SECONDS: Final = 24 * 3600.0
"""How long the server may take to compute the checksum when the replica is closed."""
_GET_OPERATION: Final = 2


@dataclass(frozen=True)
class Target:
    """Where a file goes: the data object, the root resource, whether to overwrite."""

    data_object: str
    resource: str = ""
    force: bool = False


def put(connections: Connections, file: str, target: Target, moved: Moved) -> str:
    """As ``ClientCatalog.put``. ServerError when the server refuses a call."""
    with local_files.source(file) as source:
        if source.size <= WHOLE:
            return _put_small(connections, source, target, moved)
        return _Sending(connections, source, target, moved).run()


def _put_small(connections: Connections, source: Source, target: Target, moved: Moved) -> str:
    content = source.read_at(0, memoryview(bytearray(source.size)))
    source.need_unchanged()
    digest = Digest()
    digest.update(content)

    def write(connection: Connection) -> None:
        contents.write(connection, target.data_object, content, target.resource, target.force, digest.text)

    try:
        connections.call(write, again=target.force)
    except ZoneError as error:
        if error.code is Code.USER_CHKSUM_MISMATCH:
            _take_away(connections, target)
        raise
    moved(len(content))
    return digest.text


def _take_away(connections: Connections, target: Target) -> None:
    """Remove a data object that arrived with a wrong checksum. The caller reports that error, not ours."""
    with suppress(ZoneError, ServerError):
        connections.call(lambda connection: tree.remove(connection, target.data_object, False))


class _Streams:
    """Transfers one data object over several connections, each with its own block of the local file."""

    def __init__(self, connections: Connections, logical_path: str, size: int, moved: Moved) -> None:
        self._connections = connections
        self._logical_path = logical_path
        self._size = size
        self._moved = moved
        self._digest = Digest()
        self._next = 0
        self._stopped = False
        self._turn = threading.Condition()

    @property
    def _count(self) -> int:
        return min(STREAMS, -(-self._size // BLOCK))

    def _beside(self, stream: Callable[[Connection], None]) -> None:
        """Run one of the streams. When it fails, the others stop."""
        with self._stopping_all(), about(self._logical_path):
            self._connections.call(stream)

    @contextmanager
    def _stopping_all(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with self._turn:
                self._stopped = True
                self._turn.notify_all()
            raise

    def _claim(self) -> tuple[int, int]:
        """The offset and length of the next block; length 0 when there is none."""
        with self._turn:
            offset = self._next
            self._next = min(self._size, offset + BLOCK)
            return offset, 0 if self._stopped else self._next - offset

    def _take_in(self, block: bytes | memoryview, offset: int) -> None:
        """Add a block to the checksum, in order. The stream with the earliest block never waits."""
        with self._turn:
            self._turn.wait_for(lambda: self._stopped or self._digest.size == offset)
            if not self._stopped:
                self._digest.update(block)
                self._turn.notify_all()


class _Sending(_Streams):
    """Sends one large file to the zone."""

    def __init__(self, connections: Connections, source: Source, target: Target, moved: Moved) -> None:
        super().__init__(connections, target.data_object, source.size, moved)
        self._source = source
        self._target = target

    def run(self) -> str:
        """Send the file; returns its checksum."""
        found = self._connections.call(self._look, again=True)
        if found is not None and not self._target.force:
            code = Code.OVERWRITE_WITHOUT_FORCE_FLAG
            raise zone_error(code, shown(self._logical_path), "a data object of that name is there")
        self._connections.call(self._first, seconds=CLOSE_SECONDS)
        recorded = {replica.checksum for replica in _good(self._connections.call(self._look, again=True))}
        if self._digest.text in recorded:
            return self._digest.text
        _take_away(self._connections, self._target)
        cause = f"{self._digest.text} was sent, and the zone has {' and '.join(sorted(recorded)) or 'nothing good'}"
        raise zone_error(Code.USER_CHKSUM_MISMATCH, shown(self._logical_path), cause, "Send it again")

    def _look(self, connection: Connection) -> DataObject | None:
        return lookup.find_object(connection, self._logical_path)

    def _first(self, connection: Connection) -> None:
        """The stream that opens the replica, and closes it after the other streams have ended."""
        descriptor = contents.create(connection, self._logical_path, self._target.resource, self._size)
        token, hierarchy = _replica_in_use(connection, descriptor)
        options = {"replicaToken": token, "resc_hier": hierarchy}
        request = about_object(self._logical_path, options, flags=os.O_WRONLY)
        with ThreadPoolExecutor(STREAMS, "put") as pool:
            others = [
                pool.submit(self._beside, lambda other: self._another(other, request)) for _ in range(self._count - 1)
            ]
            with self._stopping_all():
                self._write_blocks(connection, descriptor)
        for other in others:
            other.result()
        try:
            self._source.need_unchanged()
        except ZoneError as error:
            raise self._source.changed() from error  # with a cause, as in _write_blocks
        ask(connection, api_number["DATA_OBJ_CLOSE_AN"], opened(descriptor))

    def _another(self, connection: Connection, request: Message) -> None:
        descriptor = ask(connection, api_number["DATA_OBJ_OPEN_AN"], request).info
        self._write_blocks(connection, descriptor)
        way = ("update_size", "update_status", "compute_checksum", "send_notifications")
        closing = {"fd": descriptor, **dict.fromkeys(way, False)}
        ask(connection, api_number["REPLICA_CLOSE_APN"], JSON_Message(closing, connection.server_version))

    def _write_blocks(self, connection: Connection, descriptor: int) -> None:
        room = memoryview(bytearray(BLOCK))
        while True:
            offset, length = self._claim()
            if not length:
                return
            block = self._source.read_at(offset, room[:length])
            if len(block) < length:
                # With a cause, the error makes us close this connection, and the server mark the replica stale.
                raise self._source.changed() from EOFError(f"{length - len(block)} bytes are gone")
            self._take_in(block, offset)
            ask(connection, api_number["DATA_OBJ_LSEEK_AN"], opened(descriptor, offset=offset))
            ask(connection, api_number["DATA_OBJ_WRITE_AN"], opened(descriptor, len(block)), block)
            self._moved(len(block))


def _replica_in_use(connection: Connection, descriptor: int) -> tuple[str, str]:
    """The token that other connections need to write to the same replica, and its resource hierarchy."""
    message = JSON_Message({"fd": descriptor}, connection.server_version)
    answer = ask(connection, api_number["GET_FILE_DESCRIPTOR_INFO_APN"], message)
    facts = json.loads(base64.b64decode(field(answer.body, "buf")).rstrip(b"\0"))
    return facts["replica_token"], facts["data_object_info"]["resource_hierarchy"]


def _good(found: DataObject | None) -> list[Replica]:
    replicas = found.replicas if found is not None else ()
    return [replica for replica in replicas if replica.status is ReplicaStatus.GOOD]


def get(connections: Connections, data_object: str, file: str, moved: Moved) -> str:
    """As ``ClientCatalog.get``. ServerError when the server refuses a call."""
    found = connections.call(lambda connection: contents.need_readable(connection, data_object), again=True)
    with local_files.arriving(file) as target:
        digest = _Fetching(connections, found, target, moved).run()
        recorded = {replica.checksum for replica in _good(found)} - {""}
        if recorded and digest not in recorded:
            cause = f"the catalog has the checksum {' and '.join(sorted(recorded))}, but {digest} arrived"
            raise zone_error(Code.USER_CHKSUM_MISMATCH, shown(data_object), cause, "Try again, or have it repaired")
    return digest


class _Fetching(_Streams):
    """Fetches one data object into a local file."""

    def __init__(self, connections: Connections, found: DataObject, target: BinaryIO, moved: Moved) -> None:
        super().__init__(connections, found.logical_path, found.size, moved)
        self._target = target

    def run(self) -> str:
        """Fetch the data object; returns the checksum of the bytes that arrived."""
        if self._size <= WHOLE:
            self._connections.call(self._whole, again=True)
        else:
            with ThreadPoolExecutor(STREAMS, "get") as pool:
                streams = [pool.submit(self._beside, self._read_blocks) for _ in range(self._count)]
            for stream in streams:
                stream.result()
        return self._digest.text

    def _whole(self, connection: Connection) -> None:
        request = about_object(self._logical_path, operation=_GET_OPERATION, size=self._size)
        content = ask(connection, api_number["DATA_OBJ_GET_AN"], request).content
        self._need(len(content), self._size)
        self._target.write(content)
        self._digest = Digest()
        self._digest.update(content)
        self._moved(len(content))

    def _read_blocks(self, connection: Connection) -> None:
        descriptor = ask(connection, api_number["DATA_OBJ_OPEN_AN"], about_object(self._logical_path)).info
        room = bytearray(BLOCK)
        while True:
            offset, length = self._claim()
            if not length:
                break
            ask(connection, api_number["DATA_OBJ_LSEEK_AN"], opened(descriptor, offset=offset))
            block = ask(connection, api_number["DATA_OBJ_READ_AN"], opened(descriptor, length), room=room).content
            self._need(len(block), length)
            self._put(block, offset)
            self._take_in(block, offset)
            self._moved(length)
        ask(connection, api_number["DATA_OBJ_CLOSE_AN"], opened(descriptor))

    def _put(self, block: bytes | memoryview, offset: int) -> None:
        if hasattr(os, "pwrite"):
            os.pwrite(self._target.fileno(), block, offset)
            return
        with self._turn:  # Windows
            self._target.seek(offset)
            self._target.write(block)

    def _need(self, count: int, expected: int) -> None:
        if count != expected:
            cause = f"{count} bytes arrived, but the catalog has {expected}"
            raise zone_error(Code.SYS_COPY_LEN_ERR, shown(self._logical_path), cause, "Try again, or have it repaired")
