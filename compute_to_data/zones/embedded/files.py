"""Keeps vault files and the catalog's rows consistent, even when a process is killed at any moment.

A vault file must exist before a row names it, and may be removed only when no row names it any more.
No transaction covers both. So the table ``garbage`` first lists, and commits, each file that is about
to be made and each file that was given up. Its row means: ``physical_path`` may be removed if
``twin`` is empty or another name of the same file.

To make a replica, the process writes the bytes under a unique name (the *draft*, listed as garbage).
The transaction that adds the replica's row hard-links the draft to its proper name, which is listed as
garbage with the draft as its twin, so that an unrelated file of that name is safe. If the proper name
is taken, the draft becomes the replica. To give a replica up, the transaction that removes the row
lists the file, and the process collects it afterwards.

A process that makes files holds a shared lock from listing to collecting. :meth:`Files.sweep` takes
the lock exclusively: files that are still listed then belong to processes that died. The locks are
flocks, which the kernel frees when a process ends.
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
"""Files are unlinked within a write transaction, and all other writers wait for it. A disk may need
milliseconds for each file, so other writers get a turn after this many rows, or this much time."""

_PATIENCE_SECONDS = 2.0
"""How long a sweep waits for processes that make files, while it keeps new ones waiting."""


@dataclass(frozen=True)
class Draft:
    """A new file under its own unguessable name, and its proper name."""

    physical_path: str
    proper_path: str
    row: int
    proper_row: int


@dataclass(frozen=True)
class Move:
    """A vault file that moves with its data object to another name."""

    physical_path: str
    new_path: str
    row: int


class Stage:
    """The files that one operation makes. At its end it collects all that it has not settled."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.listed: list[int] = []

    def drafts(self, proper_paths: Sequence[str]) -> list[Draft]:
        """List drafts for new files, which are not written yet."""
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
            pass  # let a waiting sweep go first: otherwise a stream of makers could keep it waiting forever
        with _locked(self._makers, fcntl.LOCK_SH):
            stage = Stage(self._database)
            try:
                yield stage
            finally:
                self._collect(stage.listed)

    def sweep(self) -> int:
        """Collect what processes that died left behind; returns how many files were listed.

        Touches no file that the table does not name. While another process copies a large file, it
        cannot collect anything; then it gives up and returns 0.
        """
        with _locked(self._gate, fcntl.LOCK_EX), _opened(self._makers) as makers:
            if not _exclusively(makers, _PATIENCE_SECONDS):
                return 0
            with self._database.reading() as connection:
                listed = [row for (row,) in connection.execute("SELECT id FROM garbage ORDER BY id")]
            return self._collect(listed)

    def _collect(self, listed: Sequence[int]) -> int:
        """Remove the files of those of these rows that still exist."""
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
    """Remove all rows about a file that a replica has from now on.

    They include rows of processes that died, either before they made this file, or after they removed
    it without recording that.
    """
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
    """Try for ``patience`` seconds to take an exclusive lock; returns whether this succeeded."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
