"""The SQLite file: a connection for each thread, and transactions.

With write-ahead logging, readers continue while one writer writes. With ``synchronous = NORMAL``, no
commit is lost when a process is killed, and the file stays intact when the power fails.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from compute_to_data.errors import Code, zone_error

_BUSY_SECONDS = 60.0
_ROWS_A_TURN = 500
TURN_SECONDS = 0.02
"""About how long one of several transactions of a long change takes."""
PAUSE_SECONDS = 0.01
"""A process that waits for the write lock asks for it at intervals, and must find it free at times."""
_PRAGMAS = ("PRAGMA foreign_keys = ON", "PRAGMA synchronous = NORMAL")

Item = TypeVar("Item")

_not_ours: list[sqlite3.Connection] = []
"""Connections that a fork inherited. Closing one would corrupt the parent's (SQLite, "How To Corrupt An
SQLite Database File", 2.7), so the process keeps them until it ends."""


class _Held:
    """The connection of one thread, which is closed when the thread ends."""

    def __init__(self, file: str) -> None:
        self.process = os.getpid()
        # Only its own thread uses a connection, but at the end any thread may close all of them.
        self.connection = sqlite3.connect(
            file, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        for pragma in _PRAGMAS:
            self.connection.execute(pragma)
        self.is_closed = False
        self.in_use = threading.RLock()
        """Held while a transaction runs: to close a connection then would crash the process."""

    def close(self) -> None:
        if self.process == os.getpid():
            with self.in_use:
                self.is_closed = True
                self.connection.close()
        else:
            _not_ours.append(self.connection)

    def __del__(self) -> None:
        if hasattr(self, "in_use"):
            self.close()


class Database:
    """The catalog's database file. Threads and processes may share one object."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._local = threading.local()
        self._held: weakref.WeakSet[_Held] = weakref.WeakSet()
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        """Held by the thread that writes. SQLite would let the others sleep for up to 100 ms before they ask again."""

    @property
    def file(self) -> str:
        """The physical path of the database."""
        return self._file

    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection."""
        return self._mine().connection

    def _mine(self) -> _Held:
        held: _Held | None = getattr(self._local, "held", None)
        if held is None or held.process != os.getpid():
            held = _Held(self._file)
            self._local.held = held
            with self._guard:
                self._held.add(held)
        return held

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: all queries inside see the catalog at the same moment."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The zone's only write transaction: after an error, none of its changes happen."""
        with self._turn, self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @staticmethod
    def turns(items: Sequence[Item], rows_of_each: int) -> Iterator[Sequence[Item]]:
        """The items in pieces of about 500 rows, with a pause between two: other writers get the lock meanwhile.

        For a long change that need not be one transaction.
        """
        size = max(1, _ROWS_A_TURN // max(1, rows_of_each))
        for start in range(0, len(items), size):
            if start:
                time.sleep(PAUSE_SECONDS)
            yield items[start : start + size]

    def _taken(self) -> _Held:
        """The calling thread's connection, in use: :meth:`close` leaves it open until it is released."""
        while True:
            held = self._mine()
            held.in_use.acquire()
            if not held.is_closed:  # just now, by another thread
                return held
            held.in_use.release()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            held = self._taken()
            connection = held.connection
            try:
                connection.execute(begin)  # inside, since Ctrl-C may come between two statements
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            finally:
                held.in_use.release()
        except sqlite3.OperationalError as error:
            raise zone_error(Code.CATALOG_NOT_CONNECTED, self._file, f"the catalog failed: {error}") from error

    def close(self) -> None:
        """Close the connections of all threads, each after its transaction. A later use opens new ones."""
        with self._guard:
            held = list(self._held)
            self._held.clear()
        self._local = threading.local()
        for one in held:
            one.close()
