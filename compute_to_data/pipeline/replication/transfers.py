"""Transfers of inputs to the compute resource, which the zone carries out in one call that cannot be cut.

A cancelled task does not wait for its transfer. It leaves the transfer to itself, and a note in the worker's state
directory to trim the replica when the transfer has ended. A worker that starts trims what the notes of a killed one
name. Until then, no other task of the worker transfers the same input.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import threading
from collections.abc import Iterator

from compute_to_data.errors import ComputeToDataError, NotFound, OutOfReach
from compute_to_data.model import Replica
from compute_to_data.pipeline.interruption import Interruption
from compute_to_data.pipeline.journal import file_about, replace_file
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.pipeline.replication.staged_replicas import StagedReplicas
from compute_to_data.ports.zone import Storage

log = logging.getLogger(__name__)

_FOLDER = ".transfers"


class Transfers:
    """The transfers of one worker. Threads may share it. ``staged``: the replicas that they made and that stay."""

    def __init__(self, storage: Storage, in_use: InUse, journal_folder: str, most: int) -> None:
        """``most``: how many transfers go on at a time, with those that no task waits for any more."""
        self._storage = storage
        self._in_use = in_use
        self._folder = f"{journal_folder}{_FOLDER}"
        self.staged = StagedReplicas(journal_folder)
        self._room = threading.BoundedSemaphore(most)
        self._lock = threading.Lock()
        self._going: set[str] = set()
        self._left: set[str] = set()
        self._moving: set[str] = set()

    @contextlib.contextmanager
    def alone(self, logical_path: str, interruption: Interruption) -> Iterator[None]:
        """Let only one task at a time in, for each path: the next task finds the replica that this one makes,
        and no task sees a replica that another one is making. Cancelled while it waits."""
        turn = self._in_use.turn(logical_path)
        interruption.acquire(turn)
        try:
            yield
        finally:
            with self._lock:
                is_left = logical_path in self._going  # then the transfer's end releases it
                if is_left:
                    self._left.add(logical_path)
            if not is_left:
                turn.release()

    def transfer(self, logical_path: str, root: str, interruption: Interruption) -> tuple[Replica, str]:
        """Make a good replica under a root resource, and verify it. Returns it with its checksum.

        For use inside :meth:`alone`. Cancelled, while the transfer goes on.
        """
        interruption.acquire(self._room)
        with self._lock:
            self._going.add(logical_path)
        carry_out = functools.partial(self._carry_out, logical_path, root, self._in_use.turn(logical_path))
        try:
            return interruption.wait_for(carry_out, f"transfer of {logical_path}")
        except RuntimeError:
            if logical_path in self._going:  # the host has no room for another thread, so nothing has begun
                self._end(logical_path)
            raise

    def is_going(self, logical_path: str) -> bool:
        """Whether a replica of a data object is being made at the moment."""
        with self._lock:
            return logical_path in self._going

    def _carry_out(self, logical_path: str, root: str, turn: threading.Lock) -> tuple[Replica, str]:
        try:
            replica = self._storage.replicate(logical_path, root)
            checksum = "" if logical_path in self._left else self._storage.verify(logical_path, replica.number)
            return replica, checksum
        finally:
            if self._end(logical_path):
                self._settle(file_about(self._folder, logical_path))
                turn.release()

    def _end(self, logical_path: str) -> bool:
        """Note that a transfer is over. Returns whether it was left to itself."""
        self._room.release()
        with self._lock:
            self._going.discard(logical_path)
            is_left = logical_path in self._left
            self._left.discard(logical_path)
        return is_left

    def move(self, logical_path: str, root: str, interruption: Interruption) -> None:
        """Replicate a result. Cancelled, while this goes on: see :meth:`need_rest`."""
        with self._lock:
            self._moving.add(logical_path)

        def carry_out() -> None:
            try:
                self._storage.replicate(logical_path, root)
            finally:
                with self._lock:
                    self._moving.discard(logical_path)

        interruption.wait_for(carry_out, f"move of {logical_path}")

    def need_rest(self, collection: str) -> None:
        """OutOfReach while a data object below a collection is replicated: nothing there can be undone yet."""
        with self._lock:
            moving = [one for one in self._moving if one.startswith(f"{collection}/")]
        if moving:
            raise OutOfReach(moving[0], "the zone still replicates it", "The task ends when that is over")

    def trim_later(self, logical_path: str, root: str) -> bool:
        """Trim a replica when the transfer that makes it has ended. False when no such transfer goes on.

        OutOfReach when the worker cannot write a note of it.
        """
        with self._lock:
            if logical_path not in self._left:
                return False
            note = {"data_object": logical_path, "root": root}
            replace_file(file_about(self._folder, logical_path), note, "a note of what to trim")
            return True

    def is_to_trim(self, logical_path: str) -> bool:
        """Whether a note says to trim a replica. For use inside :meth:`alone`."""
        return os.path.exists(file_about(self._folder, logical_path))

    def keep(self, logical_path: str) -> None:
        """Remove such a note: another task uses the replica now. For use inside :meth:`alone`, by a task that is
        counted as a user of it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file_about(self._folder, logical_path))

    def settle(self) -> None:
        """Trim what the notes of ended transfers name: those of an earlier worker, and what could not be trimmed."""
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._folder)):
                note = os.path.join(self._folder, name)
                with self._lock:
                    goes_on = note in {file_about(self._folder, one) for one in self._going}
                if not goes_on and not name.endswith(".draft"):
                    self._settle(note)

    def trim(self, logical_path: str, root: str) -> None:
        """Trim a replica that staging made, and forget that it made it."""
        self._storage.trim(logical_path, root)
        self.staged.forget(logical_path)

    def _settle(self, note: str) -> None:
        """Do what a note says, and remove it. After an error it stays, and a later :meth:`settle` tries again."""
        try:
            with open(note, encoding="utf-8") as file:
                wanted = json.load(file)
            trim = functools.partial(self.trim, wanted["data_object"], wanted["root"])
            with contextlib.suppress(NotFound):
                self._in_use.if_unused(wanted["data_object"], trim)
            os.unlink(note)
        except FileNotFoundError:
            return  # there is nothing to trim, or another thread has done it
        except (ComputeToDataError, OSError, ValueError, LookupError) as error:
            log.warning("cannot yet do what %s says: %s", note, error)
