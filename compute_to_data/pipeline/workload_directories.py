"""Where a workload's sandboxes and its dataset lie in the vault while its tasks run.

Each place is a directory of an unguessable name beside the workload's tasks. It belongs to this
worker's process: what an earlier one left is taken away, never used.
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
from compute_to_data.pipeline import workspace


class WorkloadDirectories:
    """Those of one worker. Threads may share it."""

    def __init__(self, folder: str, resource: Resource) -> None:
        """``folder``: the worker's own, where it writes down what must be taken away."""
        self._folder = folder
        self._resource = resource
        self._lock = threading.Lock()
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._made: dict[tuple[str, str], str] = {}
        self._ours: set[str] = set()

    def of(self, collection: str, identity: str, fill: Callable[[str], None]) -> str:
        """The place of a workload. The first who asks makes it, and ``fill`` puts into it what all
        its tasks need; the others wait. ``identity`` tells a workload from an earlier or changed one.
        """
        key = (collection, identity)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._made:
                token = secrets.token_hex(8)
                directory = workspace.private_directory(self._resource, collection, token)
                self._ours.add(directory)
                self._write_down(token, collection, directory)
                try:
                    os.makedirs(directory, mode=0o755)
                    fill(directory)
                except BaseException:
                    self._take_away(token, directory)
                    raise
                self._made[key] = directory
            return self._made[key]

    def _write_down(self, token: str, collection: str, directory: str) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with open(os.path.join(self._folder, token), "w", encoding="utf-8") as file:
            json.dump({"collection": collection, "directory": directory}, file)

    def _take_away(self, token: str, directory: str) -> None:
        # Not workspace.discard: the files are links to replicas, whose modes are the zone's.
        shutil.rmtree(directory, ignore_errors=True)
        workspace.discard_empty(os.path.dirname(directory))
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, token))
        self._ours.discard(directory)

    def any(self) -> bool:
        """Whether this worker has made one that is still there."""
        return bool(self._ours)

    def tidy(self, kept: frozenset[str]) -> None:
        """Take away the places of all workloads but these, and whatever an earlier worker left. No
        task of another workload may run, or begin meanwhile."""
        try:
            tokens = os.listdir(self._folder)
        except FileNotFoundError:
            return
        for token in tokens:
            try:
                with open(os.path.join(self._folder, token), encoding="utf-8") as file:
                    record = json.load(file)
            except (FileNotFoundError, ValueError):
                continue  # being written, or being taken away
            directory = record["directory"]
            if not (directory in self._ours and record["collection"] in kept):
                with self._lock:
                    self._made = {key: made for key, made in self._made.items() if made != directory}
                self._take_away(token, directory)
