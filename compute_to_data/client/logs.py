"""What a task's program says: printed when it has ended, followed while it runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from compute_to_data.client import log_overlap
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import AccessDenied, NotFound, ZoneError
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.records.task import FOLLOW, State
from compute_to_data.task import LIVE_STDERR_NAME, LIVE_STDOUT_NAME, STDERR_NAME, STDOUT_NAME

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
    if not task.state.is_final:
        shown = TaskLogs(_content(task, LIVE_STDOUT_NAME), _content(task, LIVE_STDERR_NAME))
        if not task.state.is_final:  # it may have ended just then, and what was shown is gone
            return shown
    return TaskLogs(_content(task, STDOUT_NAME), _content(task, STDERR_NAME))


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
    streams = {"stdout": _Stream(task, LIVE_STDOUT_NAME), "stderr": _Stream(task, LIVE_STDERR_NAME)}
    seen = task.state
    is_asked = not seen.is_final
    try:
        while not seen.is_final:
            on_state(seen)
            seen = _follow_while(task, seen, streams, hear)
    finally:
        if is_asked:
            _say(task, add=False)  # also when it has ended: that may have been just before we said so
    for name, final in (("stdout", STDOUT_NAME), ("stderr", STDERR_NAME)):
        streams[name].tell_rest(_content(task, final), partial(hear, name))
    on_state(seen)
    return seen


def _follow_while(task: TaskHandle, state: State, streams: Mapping[str, _Stream], hear: Hear) -> State:
    """Tell what is said in one state; returns the next."""
    next_saying = 0.0
    while True:
        if time.monotonic() >= next_saying:
            _say(task, add=True)
            task.call_worker()
            next_saying = time.monotonic() + _SAY_AGAIN
        for name, stream in streams.items():
            stream.tell(partial(hear, name))
        now = task.state
        if now is not state:
            return now
        time.sleep(_LOOK_EVERY)


def _say(task: TaskHandle, *, add: bool) -> None:
    avu = Avu(task.workbench.attributes.named(FOLLOW), "1")
    entity = Entity(EntityKind.COLLECTION, task.collection)
    with contextlib.suppress(AccessDenied, NotFound):
        task.catalog.annotate(entity, add=[avu] if add else [], remove=[] if add else [avu])


class _Stream:
    """One stream's live data object, and what of it has been told."""

    def __init__(self, task: TaskHandle, name: str) -> None:
        self._task = task
        self._path = f"{task.collection}/{name}"
        self._seen = b""

    def tell(self, hear: Callable[[bytes], None]) -> None:
        """What is new since the last time. Its worker replaces the file where it lies, so that only
        reading it tells."""
        with contextlib.suppress(ZoneError):  # not there yet, or gone again
            self.tell_rest(self._task.catalog.read(self._path), hear)

    def tell_rest(self, tail: bytes, hear: Callable[[bytes], None]) -> None:
        """What the stream's last bytes have beyond what was told."""
        said = log_overlap.news(self._seen, tail)
        self._seen = tail
        if said:
            hear(said)
