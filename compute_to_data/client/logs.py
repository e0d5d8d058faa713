"""The output of a task's program: read it after the end, or follow it while the task runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial

from compute_to_data.client import log_overlap
from compute_to_data.client.task_logs import TaskLogs
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import AccessDenied, NotFound, ZoneError
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.records.task import FOLLOW, State
from compute_to_data.task import LIVE_STDERR_NAME, LIVE_STDOUT_NAME, STDERR_NAME, STDOUT_NAME

_READ_EVERY = 0.25
_MARK_AGAIN = 5.0
"""Seconds until the mark ``follow`` is set again, because another follower who leaves removes it."""

OnOutput = Callable[[str, bytes], None]
"""Receives the name of a stream (``stdout``, ``stderr``) and its new bytes."""


def read(task: TaskHandle) -> TaskLogs:
    """The output so far; empty streams before there is any."""
    if not task.state.is_final:
        shown = TaskLogs(_content(task, LIVE_STDOUT_NAME), _content(task, LIVE_STDERR_NAME))
        if not task.state.is_final:  # else it ended just now, and its live output is removed
            return shown
    return TaskLogs(_content(task, STDOUT_NAME), _content(task, STDERR_NAME))


def _content(task: TaskHandle, name: str) -> bytes:
    try:
        return task.catalog.read(f"{task.collection}/{name}")
    except NotFound:
        return b""


def follow(task: TaskHandle, on_output: OnOutput, on_state: Callable[[State], None] = lambda state: None) -> State:
    """Pass on the program's output as it is written, until the task ends; returns the final state.

    Meanwhile the task bears the AVU ``follow``, and its worker publishes the last bytes of each
    stream. A person who may only read the task cannot set the AVU. They see output only while
    another person follows the task.
    """
    streams = {"stdout": _Stream(task, LIVE_STDOUT_NAME), "stderr": _Stream(task, LIVE_STDERR_NAME)}
    seen = task.state
    is_marked = not seen.is_final
    try:
        while not seen.is_final:
            on_state(seen)
            seen = _follow_while(task, seen, streams, on_output)
    finally:
        if is_marked:
            _mark(task, add=False)  # also after the task's end: it may have ended just before we set the mark
    for name, final in (("stdout", STDOUT_NAME), ("stderr", STDERR_NAME)):
        streams[name].pass_rest(_content(task, final), partial(on_output, name))
    on_state(seen)
    return seen


def _follow_while(task: TaskHandle, state: State, streams: Mapping[str, _Stream], on_output: OnOutput) -> State:
    """Pass on output while the task is in this state; returns the next state."""
    next_mark = 0.0
    while True:
        if time.monotonic() >= next_mark:
            _mark(task, add=True)
            task.call_worker()
            next_mark = time.monotonic() + _MARK_AGAIN
        for name, stream in streams.items():
            stream.pass_new(partial(on_output, name))
        now = task.state
        if now is not state:
            return now
        time.sleep(_READ_EVERY)


def _mark(task: TaskHandle, *, add: bool) -> None:
    """Set or remove the AVU that asks the worker to publish the task's output."""
    avu = Avu(task.workbench.attributes.named(FOLLOW), "1")
    entity = Entity(EntityKind.COLLECTION, task.collection)
    with contextlib.suppress(AccessDenied, NotFound):
        task.catalog.annotate(entity, add=[avu] if add else [], remove=[] if add else [avu])


class _Stream:
    """One stream's live data object, and what of it was read last."""

    def __init__(self, task: TaskHandle, name: str) -> None:
        self._task = task
        self._path = f"{task.collection}/{name}"
        self._seen = b""

    def pass_new(self, on_output: Callable[[bytes], None]) -> None:
        """Pass on what is new. The worker replaces the physical file without telling the catalog, so
        we must read it to know."""
        with contextlib.suppress(ZoneError):  # not there yet, or already removed
            self.pass_rest(self._task.catalog.read(self._path), on_output)

    def pass_rest(self, tail: bytes, on_output: Callable[[bytes], None]) -> None:
        """Pass on the part of the stream's last bytes that was not passed on before."""
        new = log_overlap.new_output(self._seen, tail)
        self._seen = tail
        if new:
            on_output(new)
