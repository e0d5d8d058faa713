"""Copies a user's local files to data objects, and back."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import BinaryIO

from compute_to_data import bounds, local_files
from compute_to_data.errors import Code, zone_error
from compute_to_data.local_files import Digest, Moved, silent
from compute_to_data.zones.embedded import disk, nodes, replicas, writing
from compute_to_data.zones.embedded.replicas import Copy
from compute_to_data.zones.embedded.store import Store, Who

_BLOCK = 1024 * 1024
"""Bytes to read at once: memory is taken as content arrives, not as the catalog promises it."""


def put_all(
    store: Store, who: Who, files: Sequence[tuple[str, str]], resource: str, force: bool, moved: Moved
) -> tuple[str, ...]:
    """As ``ClientCatalog.put_all``, in one transaction."""
    wanted = [writing.NewObject(data_object, _Put(file, moved)) for file, data_object in files]
    return tuple(writing.make_objects(store, who, wanted, resource, force))


class _Put:
    """Copies a user's file to a physical path. Calls ``moved`` only for the first replica."""

    def __init__(self, file: str, moved: Moved) -> None:
        self._file = file
        self._moved = moved

    def __call__(self, physical_path: str) -> Digest:
        moved, self._moved = self._moved, silent
        with local_files.source(self._file) as source:
            return disk.copy_in(source, physical_path, moved)


def get(store: Store, who: Who, data_object: str, file: str, moved: Moved) -> str:
    """As ``ClientCatalog.get``."""

    def find(connection: sqlite3.Connection) -> Copy:
        node = nodes.see_object(connection, who(connection), data_object, Code.OBJ_PATH_DOES_NOT_EXIST)
        return replicas.readable(replicas.copies_of(connection, node.id), data_object)

    with local_files.arriving(file) as target, replicas.opened(store.database, find) as (copy, content):
        digest = local_files.copy(content, target, moved)
        if digest.size != copy.shown.size:
            cause = f"the catalog has {copy.shown.size} bytes, the file {digest.size}"
            raise zone_error(Code.SYS_COPY_LEN_ERR, data_object, cause, "Repair the replica, or trim it")
        if copy.shown.checksum and digest.text != copy.shown.checksum:
            raise replicas.mismatch(data_object, copy.shown.checksum, digest.text)
    return digest.text


class OpenFile:
    """An :class:`~compute_to_data.ports.OpenDataObject`: the open file of a replica."""

    def __init__(self, file: BinaryIO, physical_path: str) -> None:
        self._file = file
        self._physical_path = physical_path

    def fileno(self) -> int:
        """The descriptor of the file. Valid as long as the data object is open."""
        return self._file.fileno()

    def read(self, offset: int, size: int) -> bytes:
        """As the port says."""
        try:
            return os.pread(self._file.fileno(), size, offset)
        except OSError as error:
            raise disk.failure(Code.UNIX_FILE_OPEN_ERR, error, self._physical_path) from error

    def whole(self, data_object: str, most_bytes: int) -> bytes:
        """The whole content. TooLarge for more than ``most_bytes`` bytes, of which it reads one more."""
        content = bytearray()
        while block := self.read(len(content), min(_BLOCK, most_bytes + 1 - len(content))):
            content += block
            bounds.check_growing(data_object, len(content), most_bytes)
        return bytes(content)
