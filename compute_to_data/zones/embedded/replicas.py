"""The replicas of a data object: which exist, which may be read, and why others may not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.model import Replica, ReplicaStatus
from compute_to_data.zones.embedded import disk
from compute_to_data.zones.embedded.database import Database
from compute_to_data.zones.embedded.nodes import BELOW

_LOCKED = (ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED)


@dataclass(frozen=True)
class Copy:
    """A replica's row: the value of the ports, and the ids for joins."""

    node: int
    resource: int
    shown: Replica
    is_up: bool

    @property
    def is_good(self) -> bool:
        return self.shown.status is ReplicaStatus.GOOD


def copies_of(connection: sqlite3.Connection, node: int) -> list[Copy]:
    """A data object's replicas, by number."""
    query = """
        SELECT r.number, r.resource, r.status, r.size, r.physical_path, r.checksum, leaf.name, root.name,
               leaf.status NOT IN ('down', 'auto-down')
               AND coalesce(root.status, '') NOT IN ('down', 'auto-down')
        FROM replica r
        JOIN resource leaf ON leaf.id = r.resource LEFT JOIN resource root ON root.id = leaf.parent
        WHERE r.node = ? ORDER BY r.number
    """
    found = []
    for number, resource, status, size, path, checksum, leaf, root, is_up in connection.execute(query, (node,)):
        hierarchy = f"{root};{leaf}" if root else leaf
        shown = Replica(number, hierarchy, ReplicaStatus(status), size, path, checksum)
        found.append(Copy(node, resource, shown, bool(is_up)))
    return found


def numbered(copies: list[Copy], number: int, logical_path: str) -> Copy:
    """The replica of that number. ZoneError -164000."""
    for copy in copies:
        if copy.shown.number == number:
            return copy
    raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, logical_path, f"there is no replica {number}")


def readable(copies: list[Copy], logical_path: str) -> Copy:
    """The good replica to read: the lowest number on a resource that is up.

    ZoneError -1803000 when good ones are on resources that are down; -406000, -405000 or -164000
    when none is good because of a lock, of a write that has not ended, or of being stale.
    """
    good = [copy for copy in copies if copy.is_good]
    for copy in good:
        if copy.is_up:
            return copy
    if good:
        cause = "its good replicas are on resources that are down"
        raise zone_error(Code.HIERARCHY_ERROR, logical_path, cause)
    need_at_rest(copies, logical_path)
    cause = "it has no good replica, only stale ones"
    raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, logical_path, cause, "Write it again, or repair a replica")


def need_at_rest(copies: list[Copy], logical_path: str) -> None:
    """ZoneError -406000 when a replica is locked, -405000 when one is intermediate."""
    for copy in copies:
        if copy.shown.status in _LOCKED:
            cause = f"replica {copy.shown.number} is locked by a session that has it open"
            raise zone_error(Code.LOCKED_DATA_OBJECT_ACCESS, logical_path, cause, "Try again later")
    for copy in copies:
        if copy.shown.status is ReplicaStatus.INTERMEDIATE:
            cause = f"replica {copy.shown.number} is still being written"
            raise zone_error(Code.INTERMEDIATE_REPLICA_ACCESS, logical_path, cause, "Try again later")


def need_another_good(copies: list[Copy], dropped: list[Copy], logical_path: str) -> None:
    """ZoneError -402000 when dropping those would leave the data object without a good replica."""
    if not any(copy.is_good and copy not in dropped for copy in copies):
        cause = "the last good replica cannot be trimmed"
        raise zone_error(Code.USER_INCOMPATIBLE_PARAMS, logical_path, cause, "Replicate it first, or remove it")


@contextmanager
def opened(database: Database, find: Callable[[sqlite3.Connection], Copy]) -> Iterator[tuple[Copy, BinaryIO]]:
    """The replica that ``find`` chooses, its file open for reading.

    After the query and before the file is opened, another session may have replaced the file. Then
    this function queries the catalog again. ZoneError -510000 when the file is really missing.
    """
    before: Copy | None = None
    while True:
        with database.reading() as connection:
            copy = find(connection)
        try:
            file = _open(copy.shown.physical_path)
        except OSError as error:
            if copy == before or not isinstance(error, FileNotFoundError):
                raise disk.failure(Code.UNIX_FILE_OPEN_ERR, error, copy.shown.physical_path) from error
            before = copy
            continue
        with file:
            yield copy, file
        return


@dataclass(frozen=True)
class VaultFile:
    """The file of one replica."""

    node: int
    number: int
    physical_path: str


def files_below(connection: sqlite3.Connection, node: int, logical_path: str) -> list[VaultFile]:
    """The files of a data object, or of all data objects below a collection.

    ZoneError -406000 or -405000 when one of them is in use.
    """
    query = f"""
        {BELOW} SELECT r.node, r.number, r.physical_path, r.status
        FROM below JOIN replica r ON r.node = below.id ORDER BY r.node, r.number
    """
    found = []
    for identity, number, path, status in connection.execute(query, {"top": node}):
        if status not in (ReplicaStatus.GOOD, ReplicaStatus.STALE):
            need_at_rest(copies_of(connection, identity), logical_path)
        found.append(VaultFile(identity, number, path))
    return found


def _open(physical_path: str) -> BinaryIO:
    """Open a file without following links: a link in a vault leads to an unregistered file."""
    return open(os.open(physical_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)


def insert(connection: sqlite3.Connection, node: int, resource: int, replica: Replica) -> None:
    """Add a replica's row."""
    connection.execute(
        "INSERT INTO replica VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            node,
            replica.number,
            resource,
            int(replica.status),
            replica.size,
            replica.physical_path,
            replica.checksum,
        ),
    )


def update(connection: sqlite3.Connection, node: int, replica: Replica) -> None:
    """Change status, size, physical path or checksum in a replica's row."""
    connection.execute(
        """
        UPDATE replica SET status = ?, size = ?, physical_path = ?, checksum = ?
        WHERE node = ? AND number = ?
        """,
        (int(replica.status), replica.size, replica.physical_path, replica.checksum, node, replica.number),
    )


def relocate(connection: sqlite3.Connection, file: VaultFile, physical_path: str) -> None:
    """Record that the file of a replica has another physical path."""
    statement = "UPDATE replica SET physical_path = ? WHERE node = ? AND number = ?"
    connection.execute(statement, (physical_path, file.node, file.number))


def mismatch(logical_path: str, expected: str, found: str) -> ZoneError:
    """The error -314000 for a file whose checksum differs from the catalog's."""
    cause = f"the catalog has checksum {expected}, the file {found}"
    return zone_error(Code.USER_CHKSUM_MISMATCH, logical_path, cause, "Trim that replica and replicate a good one")
