"""Directories in the vault for a workload's sandboxes and its dataset, while its tasks run.

Each is a directory with an unguessable name beside the workload's tasks. It belongs to this process of the
worker, which removes, and never uses, what an earlier process left.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress

from compute_to_data.model import Resource
from compute_to_data.pipeline.vault import workspace
from compute_to_data.pipeline.vault.written_files import WrittenFiles


class WorkloadDirectories:
    """The workload directories of one worker. Threads may share it."""

    def __init__(self, folder: str, resource: Resource) -> None:
        """``folder``: in the worker's state directory, for notes about the directories to remove. ``written``: what is
        written to in those that hold a dataset."""
        self._folder = folder
        self._resource = resource
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._ours: set[str] = set()
        self.written = WrittenFiles()

    def of(
        self,
        collection: str,
        identity: str,
        fill: Callable[[str], None],
        acquire: Callable[[threading.Lock], object] = lambda lock: lock.acquire(),
    ) -> str:
        """The directory of a workload. The first caller makes it and calls ``fill`` to add what all of the
        workload's tasks need; other callers wait. ``identity`` distinguishes a workload from an earlier or
        changed one. ``acquire`` waits for the lock of the caller that makes it, and may raise instead.
        """
        key = (collection, identity)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        acquire(lock)
        try:
            if key not in self._made:
                self._made[key] = self._make(collection, fill)
            return self._made[key]
        finally:
            lock.release()

    def _make(self, collection: str, fill: Callable[[str], None]) -> str:
        token = secrets.token_hex(8)
        directory = workspace.private_directory(self._resource, collection, token)
        self._ours.add(directory)
        self._write_note(token, collection, directory)
        try:
            os.makedirs(directory, mode=0o755)
            fill(directory)
        except BaseException:
            self._remove(token, directory)
            raise
        return directory

    def _write_note(self, token: str, collection: str, directory: str) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with open(os.path.join(self._folder, token), "w", encoding="utf-8") as file:
            json.dump({"collection": collection, "directory": directory}, file)

    def _remove(self, token: str, directory: str) -> None:
        # Not workspace.discard, which changes modes: the files are hard links to replicas.
        self.written.forget(directory)
        shutil.rmtree(directory, ignore_errors=True)
        workspace.discard_empty(os.path.dirname(directory))
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, token))
        self._ours.discard(directory)

    def workloads(self) -> frozenset[str]:
        """The collections of the workloads for which this process made one that is still there."""
        with self._lock:
            return frozenset(collection for collection, _ in self._made)

    def tidy(self, kept: frozenset[str]) -> None:
        """Remove the directories of all workloads except ``kept``, and what an earlier process left. No
        task of another workload may run or begin meanwhile."""
        try:
            tokens = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for token in tokens:
            try:
                with open(os.path.join(self._folder, token), encoding="utf-8") as file:
                    record = json.load(file)
            except (FileNotFoundError, ValueError):
                continue  # another thread is writing or removing it
            directory = record["directory"]
            if not (directory in self._ours and record["collection"] in kept):
                with self._lock:
                    self._made = {key: made for key, made in self._made.items() if made != directory}
                self._remove(token, directory)
