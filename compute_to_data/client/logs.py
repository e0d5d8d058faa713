"""What a task's program says: printed when it has ended, followed while it runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import AccessDenied, NotFound, ZoneError
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.record import State
from compute_to_data.task import STDERR_NAME, STDOUT_NAME

LIVE_STDOUT, LIVE_STDERR = "STDOUT.live.txt", "STDERR.live.txt"
_LOOK_EVERY = 0.25
_SAY_AGAIN = 5.0
"""Seconds between saying again that somebody reads along: another reader's leaving takes it away."""

Hear = Callable[[str, bytes], None]
"""Is told which stream (``stdout``, ``stderr``) says what now."""


@dataclass(frozen=True)
class TaskLogs:
    """The last bytes of each stream (``limits.log_bytes`` of the site, less while it runs)."""

    stdout: bytes
    stderr: bytes


def read(task: TaskHandle) -> TaskLogs:
    """What is there now; empty streams while nothing is."""
    final = task.state.is_final
    names = (STDOUT_NAME, STDERR_NAME) if final else (LIVE_STDOUT, LIVE_STDERR)
    return TaskLogs(*(_content(task, name) for name in names))


def _content(task: TaskHandle, name: str) -> bytes:
    try:
        return task.catalog.read(f"{task.collection}/{name}")
    except NotFound:
        return b""


def follow(task: TaskHandle, hear: Hear, on_state: Callable[[State], None] = lambda state: None) -> State:
    """Tell what the program says as it says it, until the task has ended; returns the final state.

    While somebody follows, the task bears the fact ``follow``, and its worker shows the last words
    of each stream. Who may only read a task is told what is shown on others' behalf.
    """
    streams = {"stdout": _Stream(task, LIVE_STDOUT), "stderr": _Stream(task, LIVE_STDERR)}
    seen, next_saying = None, 0.0
    try:
        while True:
            state = task.state
            if state is not seen:
                seen = state
                on_state(state)
            if state.is_final:
                break
            if time.monotonic() >= next_saying:
                _say(task, add=True)
                task.call_worker()
                next_saying = time.monotonic() + _SAY_AGAIN
            for name, stream in streams.items():
                stream.tell(partial(hear, name))
            time.sleep(_LOOK_EVERY)
    finally:
        if seen is None or not seen.is_final:
            _say(task, add=False)
    for name, final in (("stdout", STDOUT_NAME), ("stderr", STDERR_NAME)):
        streams[name].tell_rest(_content(task, final), partial(hear, name))
    return state


def _say(task: TaskHandle, *, add: bool) -> None:
    avu = Avu(task.session.attributes.named("follow"), "1")
    entity = Entity(EntityKind.COLLECTION, task.collection)
    with contextlib.suppress(AccessDenied, NotFound):
        task.catalog.annotate(entity, add=[avu] if add else [], remove=[] if add else [avu])


class _Stream:
    """One stream's live data object, and what of it has been told."""

    def __init__(self, task: TaskHandle, name: str) -> None:
        self._task = task
        self._path = f"{task.collection}/{name}"
        self._version: object = None
        self._seen = b""

    def tell(self, hear: Callable[[bytes], None]) -> None:
        """What is new since the last time."""
        try:
            found = self._task.catalog.stat(self._path)
            version = _version(found)
            if version == self._version or not isinstance(found, DataObject):
                return
            tail = self._task.catalog.read(self._path)
        except (NotFound, ZoneError):  # not there yet, gone again, or being written just now
            return
        self._version = version
        self._tell(tail, hear)

    def tell_rest(self, whole: bytes, hear: Callable[[bytes], None]) -> None:
        """What the task's log has beyond that."""
        self._tell(whole, hear)

    def _tell(self, tail: bytes, hear: Callable[[bytes], None]) -> None:
        said = news(self._seen, tail)
        self._seen = tail
        if said:
            hear(said)


def _version(found: object) -> object:
    if not isinstance(found, DataObject):
        return None
    return (found.modified, found.size, tuple(one.checksum for one in found.replicas))


def news(seen: bytes, tail: bytes) -> bytes:
    """What of ``tail`` was not in ``seen``."""
    return tail[len(seen) :] if tail.startswith(seen) else tail
