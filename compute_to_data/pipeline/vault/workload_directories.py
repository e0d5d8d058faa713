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
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from weakref import WeakValueDictionary

from compute_to_data.model import Resource
from compute_to_data.pipeline.vault import workspace
from compute_to_data.pipeline.vault.dataset_listings import DatasetListings
from compute_to_data.pipeline.vault.written_files import WrittenFiles

_RECENT_SECONDS = 60.0


class WorkloadDirectories:
    """The workload directories of one worker. Threads may share it."""

    def __init__(self, folder: str, resource: Resource) -> None:
        """``folder``: in the worker's state directory, for notes about the directories to remove. ``written``: what is
        written to in those that hold a dataset. ``listings``: what these datasets held."""
        self._folder = folder
        self._resource = resource
        self._lock = threading.Lock()
        self._locks: WeakValueDictionary[tuple[str, str], threading.Lock] = WeakValueDictionary()
        self._made: dict[tuple[str, str], str] = {}
        self._newest: dict[str, str] = {}
        self._users: dict[str, dict[str, float]] = {}
        """For each directory, the tasks that got it, and when, on the monotonic clock."""
        self._ours: set[str] = set()
        self.written = WrittenFiles()
        self.listings = DatasetListings()

    def of(
        self,
        collection: str,
        identity: str,
        task: str,
        fill: Callable[[str], None],
        acquire: Callable[[threading.Lock], object] = lambda lock: lock.acquire(),
    ) -> str:
        """The directory of a workload for one of its tasks. The first caller makes it and calls ``fill`` to add what
        all of the workload's tasks need; other callers wait. ``identity`` distinguishes a workload, with its dataset,
        from an earlier or changed one. ``acquire`` waits for the lock of the caller that makes it, and may raise
        instead.
        """
        key = (collection, identity)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        acquire(lock)
        try:
            while True:
                with self._lock:
                    directory = self._made.get(key)
                    if directory is not None:
                        self._newest[collection] = directory
                        self._users.setdefault(directory, {})[task] = time.monotonic()
                        return directory
                made = self._make(collection, fill)
                with self._lock:
                    self._made[key] = made
        finally:
            lock.release()

    def newest(self, collection: str) -> str:
        """The directory that a task of a workload got last; '' when there is none."""
        with self._lock:
            return self._newest.get(collection, "")

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
        with self._lock:
            self._users.pop(directory, None)
        self._ours.discard(directory)

    def workloads(self) -> frozenset[str]:
        """The collections of the workloads for which this process made one that is still there."""
        with self._lock:
            return frozenset(collection for collection, _ in self._made)

    def tidy(self, kept: frozenset[str], in_flight: Collection[str]) -> None:
        """Remove the directories of all workloads except ``kept``, and what an earlier process left. No
        task of another workload may run or begin meanwhile. Of a kept workload, also remove those that its newest one
        has replaced and that no task in flight uses."""
        self.listings.keep(kept)
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
            directory, collection = record["directory"], record["collection"]
            with self._lock:
                stays = directory in self._ours and collection in kept and not self._is_replaced(directory, in_flight)
                if stays:
                    continue
                self._made = {key: made for key, made in self._made.items() if made != directory}
                if self._newest.get(collection) == directory:
                    del self._newest[collection]
            self._remove(token, directory)

    def _is_replaced(self, directory: str, in_flight: Collection[str]) -> bool:
        """Whether no task needs a directory any more, as its workload has a newer one. ``in_flight`` may lack a task
        that has just got it."""
        if directory in self._newest.values() or directory not in self._made.values():  # or it is being filled
            return False
        recently = time.monotonic() - _RECENT_SECONDS
        return all(task not in in_flight and got < recently for task, got in self._users.get(directory, {}).items())
