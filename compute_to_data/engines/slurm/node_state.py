"""What a node remembers: which of Slurm's jobs run on it, and what its engines have learnt about images."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from compute_to_data.engines import checks
from compute_to_data.engines.slurm import client, notes, sandboxes
from compute_to_data.engines.slurm.notes import Directory
from compute_to_data.errors import EngineError, OutOfReach
from compute_to_data.job import Job, JobKey
from compute_to_data.ports.engine import Engine

_PATHS, _MOST_IMAGES = "image-paths.json", 100
_CHECKED, _CHECKED_SECONDS = "checked.json", 3600.0
_MOST_ENGINES = 16

Say = Callable[[str], None]
"""Writes a line into a job's log of Slurm, for an administrator."""


class Entry(NamedTuple):
    """The note about one of Slurm's jobs on a node."""

    key: str
    scope: str
    sandbox: str
    """The settings of the engine that runs it, as JSON."""


class Node:
    """A node, by Slurm's name for it. Threads may share it. EngineError for a name that cannot be part of a path."""

    def __init__(self, directory: Directory, name: str) -> None:
        self.name = name
        self._state = directory.path / "nodes" / checks.key(JobKey(name))
        self._running = self._state / "running"
        self._make()
        self._known_paths = notes.read(self._state / _PATHS) or {}
        self._kept_paths = self._paths()
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def _make(self) -> None:
        self._running.mkdir(mode=0o700, parents=True, exist_ok=True)

    def engine(self, sandbox: Mapping[str, Any]) -> Engine:
        """The engine with these settings. ConfigurationError for wrong ones."""
        written = json.dumps(sandbox, sort_keys=True)
        with self._lock:
            if written not in self._engines:
                if len(self._engines) >= _MOST_ENGINES:
                    self._engines.clear()
                self._engines[written] = sandboxes.open_engine(sandbox, str(self._state), self._known_paths)
            return self._engines[written]

    def need_promises(self, sandbox: Mapping[str, Any]) -> None:
        """EngineError when the engine with these settings cannot isolate and limit jobs on this node. A probe looks
        at one node, and others may differ. What an engine was found to hold counts until the node starts again, and for
        an hour."""
        written = json.dumps(sandbox, sort_keys=True)
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        known = notes.read(self._state / _CHECKED) or {}
        if known.get("boot") == boot and 0 <= time.time() - known.get(written, 0.0) < _CHECKED_SECONDS:
            return
        try:
            self.engine(sandbox).check()
        except OutOfReach:
            raise
        except EngineError as error:
            raise EngineError(f"node {self.name}", str(error).rstrip(".")) from error
        kept = known if known.get("boot") == boot and len(known) <= _MOST_ENGINES else {}
        notes.write(self._state / _CHECKED, {**kept, "boot": boot, written: time.time()})

    def _paths(self) -> dict[str, dict[str, str]]:
        return {image: dict(paths) for image, paths in list(self._known_paths.items())}

    def keep_paths(self) -> None:
        """Keep what the engines have learnt about the paths of images, for later jobs."""
        with self._lock:
            paths = self._paths()
            if paths != self._kept_paths:
                notes.write(self._state / _PATHS, paths if len(paths) <= _MOST_IMAGES else {})
                self._kept_paths = paths

    @contextlib.contextmanager
    def registered(
        self, job: Job, sandbox: Mapping[str, Any], number: str, lock: int | None, say: Say
    ) -> Iterator[bool]:
        """Note which job Slurm's job ``number`` is, as long as it lives; first remove what others have left.

        ``lock``: the locked note, where the job has it already. Yields whether an earlier process of this job of
        Slurm had begun to run it.
        """
        with self._alone():
            self._clean(say)
            own = lock if lock is not None else client.locked(str(self._running / number))
            before = _read(own)
            if before.key not in ("", job.key.text):  # Slurm has lost its state, and gives a number once more
                self._remove(before, say)
            text = "\n".join(Entry(job.key.text, job.scope, json.dumps(sandbox)))
            os.ftruncate(own, 0)
            os.pwrite(own, text.encode(), 0)
        try:
            yield before.key == job.key.text
            (self._running / number).unlink()
        finally:
            if lock is None:
                os.close(own)

    def is_note(self, number: str, file: int) -> bool:
        """Whether a descriptor is that of the note about Slurm's job ``number``."""
        try:
            return os.path.samestat(os.fstat(file), os.lstat(self._running / number))
        except OSError:
            return False

    def clean(self, say: Say, only: str = "") -> None:
        """Remove what programs that were killed have left: of Slurm's job ``only``, or of all."""
        with self._alone():
            self._clean(say, only)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other job of this node begin meanwhile."""
        self._make()
        with open(self._state / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _clean(self, say: Say, only: str = "") -> None:
        tidied, others = set(), False
        for file in self._running.iterdir():
            if only and file.name != only:
                others = True
                continue
            with contextlib.suppress(FileNotFoundError), open(file, encoding="utf-8") as left:  # else it has just ended
                try:
                    fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    others = True
                    continue
                entry = _read(left.fileno())
                try:
                    if entry.key:
                        tidied.add((self._remove(entry, say), entry.scope))
                except EngineError as error:  # of an engine that need not be that of the next job
                    say(f"{entry.key} stays for now: {error}")
                    others = True
                    continue
                file.unlink(missing_ok=True)
        for engine, scope in tidied if not others else ():  # else it could belong to a job that begins
            engine.tidy(scope, frozenset(), 0.0)

    def _remove(self, entry: Entry, say: Say) -> Engine:
        say(f"removing {entry.key}, whose program was killed")
        engine = self.engine(json.loads(entry.sandbox))
        engine.remove(JobKey(entry.key))
        return engine


def _read(file: int) -> Entry:
    """The note in a file. One from before it had settings means an engine with the usual ones."""
    lines = os.pread(file, 1 << 16, 0).decode().split("\n", 2)
    return Entry(*lines, *("", "", '{"job_uids": null}')[len(lines) :])
