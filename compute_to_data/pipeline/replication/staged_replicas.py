"""The worker's notes of replicas that staging made and that stay on the resource, so that unused ones can go later.

Each note is a small file in the worker's state directory, where no user can write. It says which file in the vault the
replica was: a user may have put another one in its place since then, and that one is not the worker's to trim. The time
of the file is when a task last used the replica. A worker that is killed between a transfer and its note leaves a
replica that stays.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from compute_to_data.model import DataObject, Replica
from compute_to_data.pipeline.journal import file_about, replace_file

log = logging.getLogger(__name__)

_FOLDER = ".staged"


@dataclass(frozen=True)
class Note:
    """One replica that staging made under the resource ``root``. ``inode``, ``size`` in bytes and ``modified`` in
    nanoseconds identify its file."""

    data_object: str
    root: str
    physical_path: str
    inode: int
    size: int
    modified: int


class StagedReplicas:
    """The notes of one worker. Threads may share it."""

    def __init__(self, journal_folder: str) -> None:
        self._folder = f"{journal_folder}{_FOLDER}"

    def add(self, path: str, replica: Replica, root: str) -> None:
        """Note a replica of the data object at ``path`` that staging has just made, the only one under a root resource.

        OutOfReach when the note cannot be written.
        """
        try:
            found = os.lstat(replica.physical_path)
        except OSError:  # the task will say so
            return
        note = Note(path, root, replica.physical_path, found.st_ino, found.st_size, found.st_mtime_ns)
        replace_file(file_about(self._folder, path), asdict(note), "a note of the replica")

    def touch(self, logical_path: str) -> None:
        """Note that a task uses an input now. Does nothing when staging did not make its replica."""
        with suppress(OSError):
            os.utime(file_about(self._folder, logical_path))

    def unused_for(self, seconds: float) -> Iterator[Note]:
        """The notes of replicas that no task has used for so long."""
        latest = time.time() - seconds
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                note = self._read(entry) if entry.name.endswith(".json") else None
                if note is not None and self._used(note) < latest:
                    yield note

    def _read(self, entry: os.DirEntry[str]) -> Note | None:
        try:
            with open(entry.path, encoding="utf-8") as file:
                return Note(**json.load(file))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.warning("%s is no valid note of a replica, so the replica stays: %s", entry.path, error)
            return None

    def _used(self, note: Note) -> float:
        try:
            return os.stat(file_about(self._folder, note.data_object)).st_mtime
        except OSError:
            return float("inf")

    def is_unused_for(self, note: Note, seconds: float) -> bool:
        """Whether a note is still there, and no task has used the replica in the meantime."""
        return self._used(note) < time.time() - seconds

    def forget(self, data_object: str) -> None:
        """Remove a note: its replica is gone, or no longer the worker's."""
        with suppress(FileNotFoundError):
            os.unlink(file_about(self._folder, data_object))


def is_the_same(found: DataObject, note: Note) -> bool:
    """Whether the replica that a note is about is the only one under its root resource, and still the same file.
    Otherwise a user has made or changed a replica there."""
    there = [one for one in found.replicas if one.root == note.root]
    if len(there) != 1 or there[0].physical_path != note.physical_path:
        return False
    try:
        status = os.lstat(note.physical_path)
    except OSError:
        return False
    return (status.st_ino, status.st_size, status.st_mtime_ns) == (note.inode, note.size, note.modified)


def is_linked(note: Note) -> bool:
    """Whether a workload's dataset holds a link to the replica's file."""
    try:
        return os.lstat(note.physical_path).st_nlink > 1
    except OSError:
        return False
