"""Files and rows that agree, whatever instant a process is killed at.

A vault file must exist before a row names it and may go only after no row does; yet one
transaction cannot hold both. So every file about to be made, and every file just given up, is
first written down in the table ``garbage`` and committed. A row there says: ``physical_path``
may go, provided that ``twin`` is empty or another name of the same file.

Making a replica: the bytes are written under a name nobody else can have (the *draft*, listed
as garbage), then, inside the transaction that adds the replica's row, hard-linked to their
proper name (listed as garbage with the draft as its twin, so that a stranger's file of that
name is never touched). Where the proper name is taken, the draft becomes the replica.
Giving one up: the transaction that drops the row lists the file; afterwards it is collected.

Whoever makes files holds a shared lock from the listing to the collecting. :meth:`Files.sweep`
takes it exclusively: what is still listed then belongs to a process that died. The locks are
flocks, which the system gives back when a process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from compute_to_data.zones.embedded import disk
from compute_to_data.zones.embedded.database import Database

_CHUNK = 500
_TURN_SECONDS = 0.02
"""Files are unlinked within a write transaction, for which all other writers wait. A disk may
need milliseconds for each file, so they get a turn after so many rows, and so much time."""

_PATIENCE_SECONDS = 2.0
"""How long a sweep keeps new makers of files waiting for those at work."""


@dataclass(frozen=True)
class Draft:
    """A new file under its own unguessable name, and the name it should have."""

    physical_path: str
    proper_path: str
    row: int
    proper_row: int


@dataclass(frozen=True)
class Move:
    """A vault file that follows its data object to another name."""

    physical_path: str
    new_path: str
    row: int


class Stage:
    """The files one operation is making. All that it does not settle is collected at its end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.listed: list[int] = []

    def drafts(self, proper_paths: Sequence[str]) -> list[Draft]:
        """List drafts for new files, not written yet."""
        pairs: list[tuple[str, str | None]] = []
        for proper in proper_paths:
            directory, name = os.path.split(proper)
            # 60 characters are at most 240 bytes: the name stays within the 255 of a file system.
            draft = os.path.join(directory, f"{name[:60]}.{secrets.token_hex(6)}")
            pairs += [(proper, draft), (draft, None)]
        with self._database.writing() as connection:
            rows = _insert(connection, pairs)
        self.listed += rows
        return [Draft(str(pairs[at + 1][0]), pairs[at][0], rows[at + 1], rows[at]) for at in range(0, len(pairs), 2)]

    def moves(self, connection: sqlite3.Connection, renamed: Sequence[tuple[str, str]]) -> list[Move]:
        """List second names for files that are to follow their data objects, if ``connection``
        commits. It must be the transaction that looked where the files are: once another has
        moved them, their new names are those of good replicas, and must not be listed."""
        rows = _insert(connection, [(new, old) for old, new in renamed])
        self.listed += rows
        return [Move(old, new, row) for (old, new), row in zip(renamed, rows)]

    def settle(self, connection: sqlite3.Connection, draft: Draft) -> str:
        """Keep a written draft, if ``connection`` commits; returns its final physical path."""
        if disk.link(draft.physical_path, draft.proper_path):
            _claim(connection, draft.proper_path)
            return draft.proper_path
        _strike(connection, draft.proper_row)
        _claim(connection, draft.physical_path)
        return draft.physical_path

    def follow(self, connection: sqlite3.Connection, move: Move) -> str:
        """Give the file its new name, if ``connection`` commits; returns where it then is."""
        disk.make_directories(os.path.dirname(move.new_path))
        if not disk.link(move.physical_path, move.new_path):
            _strike(connection, move.row)
            return move.physical_path
        _claim(connection, move.new_path)
        self.discard(connection, [move.physical_path])
        return move.new_path

    def discard(self, connection: sqlite3.Connection, physical_paths: Iterable[str]) -> None:
        """Give files up, if ``connection`` commits; they are collected when the stage ends."""
        self.listed += _insert(connection, [(path, None) for path in physical_paths])


class Files:
    """The vault files of one zone."""

    def __init__(self, database: Database, directory: str) -> None:
        self._database = database
        self._gate = os.path.join(directory, "sweep.lock")
        self._makers = os.path.join(directory, "files.lock")

    @contextmanager
    def stage(self) -> Iterator[Stage]:
        """For one operation that makes or gives up files."""
        with _locked(self._gate, fcntl.LOCK_SH):
            pass  # wait for a waiting sweep, which a stream of makers would keep out for good
        with _locked(self._makers, fcntl.LOCK_SH):
            stage = Stage(self._database)
            try:
                yield stage
            finally:
                self._collect(stage.listed)

    def sweep(self) -> int:
        """Collect what processes that died left behind; returns how many files were listed.

        Nothing else is touched: a file the table does not name is somebody's. While somebody
        copies a large file nothing can be collected; then this gives up, and returns 0.
        """
        with _locked(self._gate, fcntl.LOCK_EX), _opened(self._makers) as makers:
            if not _exclusively(makers, _PATIENCE_SECONDS):
                return 0
            with self._database.reading() as connection:
                listed = [row for (row,) in connection.execute("SELECT id FROM garbage ORDER BY id")]
            return self._collect(listed)

    def _collect(self, listed: Sequence[int]) -> int:
        """Take away the files of these rows, as far as the rows are (still) there."""
        collected = 0
        for start in range(0, len(listed), _CHUNK):
            pending = listed[start : start + _CHUNK]
            while pending:
                # Inside the transaction: a name that is listed no more may be in use again.
                with self._database.writing() as connection:
                    rows = _listed_with_twins(connection, pending)
                    tried, gone = _unlink_for_a_while(rows)
                    connection.executemany("DELETE FROM garbage WHERE id = ?", [(row,) for row in gone])
                collected += len(gone)
                pending = [row for row, _, _ in rows[tried:]]
        return collected


def _unlink_for_a_while(rows: Sequence[tuple[int, str, str | None]]) -> tuple[int, list[int]]:
    """Take files away until the turn is over; how many were tried, and the rows now settled."""
    gone: list[int] = []
    deadline = time.monotonic() + _TURN_SECONDS
    for tried, (row, path, twin) in enumerate(rows, 1):
        if _collected(path, twin):
            gone.append(row)
        if time.monotonic() > deadline:
            return tried, gone
    return len(rows), gone


def _collected(physical_path: str, twin: str | None) -> bool:
    if twin is not None and not disk.same_file(physical_path, twin):
        return True
    return disk.unlink(physical_path)


def _listed_with_twins(connection: sqlite3.Connection, listed: Sequence[int]) -> list[tuple[int, str, str | None]]:
    """The rows, and before them those that would lose their twin by the first ones going."""
    chosen = f"SELECT id FROM garbage WHERE id IN ({','.join('?' * len(listed))})"
    query = f"""
        SELECT id, physical_path, twin FROM garbage
        WHERE id IN ({chosen})
           OR twin IN (SELECT physical_path FROM garbage WHERE id IN ({chosen}))
        ORDER BY twin IS NULL, id
    """
    return connection.execute(query, [*listed, *listed]).fetchall()


def _insert(connection: sqlite3.Connection, pairs: Sequence[tuple[str, str | None]]) -> list[int]:
    statement = "INSERT INTO garbage (physical_path, twin) VALUES (?, ?)"
    return [int(connection.execute(statement, pair).lastrowid or 0) for pair in pairs]


def _claim(connection: sqlite3.Connection, physical_path: str) -> None:
    """A replica has this file from now on: no listing holds, nor any that a process which died
    left, with the same intention or after an unlinking that it could not record."""
    connection.execute("DELETE FROM garbage WHERE physical_path = ?", (physical_path,))


def _strike(connection: sqlite3.Connection, row: int) -> None:
    connection.execute("DELETE FROM garbage WHERE id = ?", (row,))


@contextmanager
def _opened(file: str) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _locked(file: str, how: int) -> Iterator[None]:
    with _opened(file) as descriptor:
        fcntl.flock(descriptor, how)
        yield


def _exclusively(descriptor: int, patience: float) -> bool:
    """Take an exclusive lock within so many seconds; whether that succeeded."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
