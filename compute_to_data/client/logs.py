"""The output of a task's program: read it after the end, or follow it while the task runs.

While a task runs, its worker shows the log that the engine writes, as a data object (see ``log_file``). A follower
opens it once, and then reads from its own offset in each stream. So it gets each byte once and in order, however fast
the program writes, and asks the catalog nothing meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from compute_to_data.client.log_clock import Clock, Stamper
from compute_to_data.client.task_logs.log_source import EndedLog, LiveLog, Source, start_of_last_lines
from compute_to_data.client.task_logs.task_logs import TaskLogs
from compute_to_data.client.task_status.hold_ups import HoldUps
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.coordination.pauses import Pauses
from compute_to_data.errors import AccessDenied, NotFound, ZoneError
from compute_to_data.log_file import STREAMS, NotALog, gap_line
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.records.state import UNFINISHED, State
from compute_to_data.records.task import FOLLOW

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
"""Seconds between two questions for the state of a task whose log is not open."""
_LONGEST_LOOK = 0.2
"""Seconds between two looks into an open log. These ask the catalog nothing."""
_ASK_ANYWAY = 15.0
"""Seconds after which a follower asks for the state although the log has not ended: the worker may be gone."""
_CALL_AGAIN = 5.0
_SHOWN_WITHIN = 5.0
"""Seconds that a worker may take to show the log of a running task."""

OnOutput = Callable[[str, bytes], None]
"""Receives the name of a stream (``stdout``, ``stderr``) and its new bytes."""
OnNote = Callable[[str], None]
"""Receives a sentence about the output: bytes that were missed, a job that began again."""


def read(task: TaskHandle) -> TaskLogs:
    """The output so far; empty streams before there is any."""
    found: dict[str, list[bytes]] = {name: [] for name in STREAMS}
    show(task, lambda name, content: found[name].append(content))
    return TaskLogs(*(b"".join(found[name]) for name in STREAMS))


def show(task: TaskHandle, on_output: OnOutput, *, tail: int | None = None, stamps: bool = False) -> State:
    """Pass on the output so far, and return the task's state. ``tail``: only that many last lines of each stream.
    ``stamps``: with the time before each line.

    For a running task this asks the worker to show the log, and waits until it does, at most some seconds.
    """
    state = task.state
    source: LiveLog | EndedLog | None = None
    if not state.is_final:
        source = _live(task, state)
        state = task.state if source is None else state
    if source is None and state.is_final:
        source = EndedLog(task.catalog, task.collection)
    if source is None:
        return state
    with contextlib.closing(source):
        clock = Clock(task, source, Stamper()) if stamps else None
        for stream, name in enumerate(STREAMS):
            offset = 0 if tail is None else start_of_last_lines(source, stream, tail)
            for block in source.blocks(stream, offset):
                on_output(name, clock.stamped(stream, block, offset) if clock else block)
                offset += len(block)
    return state


def _live(task: TaskHandle, state: State) -> LiveLog | None:
    """The log of a task that runs; None when it has none to show."""
    until, pauses = time.monotonic() + _SHOWN_WITHIN, Pauses(_FIRST_PAUSE, 0.25)
    asked = False
    while state in UNFINISHED:
        with contextlib.suppress(ZoneError, NotALog):
            return LiveLog(task.catalog, task.collection)
        if not asked:
            asked = _mark(task, add=True)
            task.call_worker()
        if time.monotonic() > until or not asked:
            return None
        pauses.pause()
        state = task.state
    return None


def follow(
    task: TaskHandle,
    on_output: OnOutput,
    on_state: Callable[[State], None] = lambda state: None,
    *,
    on_note: OnNote = lambda text: None,
    tail: int | None = None,
    stamps: bool = False,
    is_wanted: Callable[[], bool] = lambda: True,
) -> State:
    """Pass on the program's output as it is written, until the task ends; returns the final state. Where ``is_wanted``
    returns False in between, it returns the state then.

    The task gets the AVU ``follow``, on which its worker shows the log. A person who may only read the task cannot
    set the AVU. They see output while it runs only when another person follows the task, too. ``tail`` and
    ``stamps``: as for :func:`show`. ``on_state`` receives each state; the same once more when the resource runs no jobs
    any more, or again.
    """
    follower = _Follower(task, on_output, on_note, tail, stamps, is_wanted)
    with contextlib.closing(follower):
        return follower.run(on_state)


def _mark(task: TaskHandle, *, add: bool) -> bool:
    """Set or remove the AVU that asks the worker to show the task's output. False when the person may not."""
    avu = Avu(task.workbench.attributes.named(FOLLOW), "1")
    entity = Entity(EntityKind.COLLECTION, task.collection)
    with contextlib.suppress(AccessDenied, NotFound):
        task.catalog.annotate(entity, add=[avu] if add else [], remove=[] if add else [avu])
        return True
    return False


class _Follower:
    """One person who follows one task: what they have seen of each stream."""

    def __init__(
        self,
        task: TaskHandle,
        on_output: OnOutput,
        on_note: OnNote,
        tail: int | None,
        stamps: bool,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._task = task
        self._is_wanted = is_wanted
        self._on_output = on_output
        self._on_note = on_note
        self._tail = tail
        self._stamper = Stamper() if stamps else None
        self._clock: Clock | None = None
        self._offsets = [0, 0]
        self._live: LiveLog | None = None
        self._run: int | None = None
        self._has_all = False
        self._next_call = 0.0
        self._hold_ups = HoldUps(task.workbench)
        self._resource = ""

    def run(self, on_state: Callable[[State], None]) -> State:
        """Follow to the end."""
        seen: State | None = None
        is_marked, pauses = False, Pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            state = self._task.state
            if state is not seen:
                seen = state
                pauses.restart()
                if not state.is_final:
                    on_state(state)
            if state.is_final:
                break
            if not self._is_wanted():
                return state
            is_marked = is_marked or _mark(self._task, add=True)
            if self._call_worker() and self._is_held_up_or_no_longer():
                on_state(state)
            if state is State.RUNNING and not self._has_all and self._opened():
                self._follow_log()
                pauses.restart()
            else:
                pauses.pause()
        if is_marked:
            _mark(self._task, add=False)  # it may have ended just before we set the mark
        self._pass_rest()
        on_state(state)  # after the last words of the program
        return state

    def _call_worker(self) -> bool:
        """Call the worker, when it is time to; returns whether it was."""
        if time.monotonic() < self._next_call:
            return False
        self._task.call_worker()
        self._next_call = time.monotonic() + _CALL_AGAIN
        return True

    def _is_held_up_or_no_longer(self) -> bool:
        """Whether the resource runs no jobs any more, or again."""
        self._resource = self._resource or self._task.status(reasons=False).resource
        return self._hold_ups.news(self._resource) is not None

    def _opened(self) -> bool:
        """Whether the log is open. The worker may not show it yet, or no longer."""
        if self._live is None:
            with contextlib.suppress(ZoneError, NotALog):
                self._live = LiveLog(self._task.catalog, self._task.collection)
                self._begin(self._live)
        return self._live is not None

    def _begin(self, source: Source) -> None:
        if self._tail is not None:
            self._offsets = [start_of_last_lines(source, stream, self._tail) for stream in (0, 1)]
            self._tail = None

    def _follow_log(self) -> None:
        """Pass on what is written until the log has all, or until it is time to ask for the state."""
        until, pauses = time.monotonic() + _ASK_ANYWAY, Pauses(_FIRST_PAUSE, _LONGEST_LOOK)
        try:
            while self._live is not None and not self._has_all and self._is_wanted() and time.monotonic() < until:
                self._live.refresh()
                if self._pass_new(self._live):
                    pauses.restart()
                elif self._live.header.is_closed:
                    self._has_all = True
                else:
                    self._call_worker()
                    pauses.pause()
        except (ZoneError, NotALog):  # for example, the server restarts
            self.close()

    def _pass_new(self, live: LiveLog) -> bool:
        """Pass on the next bytes of each stream. Returns whether there were any."""
        if self._run not in (None, live.header.run):
            self._offsets = [0, 0]
            self._on_note("the task's job was lost and began again, and so does its output")
        self._run = live.header.run
        has_new = False
        for stream in (0, 1):
            offset = self._offsets[stream]
            if offset >= live.end(stream):
                continue
            piece = live.read(stream, offset)
            if piece.missed:
                self._note_missed(stream, piece.missed)
            self._offsets[stream] = offset = offset + piece.missed + len(piece.content)
            if piece.content:
                self._pass_on(stream, piece.content, offset - len(piece.content), live)
            has_new = has_new or bool(piece.missed or piece.content)
        return has_new

    def _pass_on(self, stream: int, content: bytes, offset: int, source: LiveLog | EndedLog) -> None:
        if self._stamper is not None:
            if self._clock is None or self._clock.source is not source:
                self._clock = Clock(self._task, source, self._stamper)
            elif isinstance(source, LiveLog):
                self._clock.look(source)
            content = self._clock.stamped(stream, content, offset)
        self._on_output(STREAMS[stream], content)

    def _note_missed(self, stream: int, count: int) -> None:
        self._on_note(
            f"{count} bytes of {STREAMS[stream]} are missing here: the program wrote faster than they could be shown. "
            f"See what is kept: c2d logs {self._task.id}"
        )

    def _pass_rest(self) -> None:
        """Pass on what the log did not give, from the files of the task that has ended."""
        if self._has_all:
            return
        with contextlib.closing(EndedLog(self._task.catalog, self._task.collection)) as ended:
            self._begin(ended)
            missing = self._task.status().log_bytes_missing
            for stream, name in enumerate(STREAMS):
                offset = self._offsets[stream]
                if offset and name in missing:
                    offset = self._place(ended, stream, missing[name])
                for block in ended.blocks(stream, offset):
                    self._pass_on(stream, block, offset, ended)
                    offset += len(block)

    def _place(self, ended: EndedLog, stream: int, missing: int) -> int:
        """Where the file of a stream, of which not all is kept, continues what the person has seen."""
        gap, seen = ended.place_of_gap(stream, missing), self._offsets[stream]
        if gap is None or seen <= gap:
            return seen
        if seen < gap + missing:
            self._note_missed(stream, gap + missing - seen)
        return gap + len(gap_line(missing)) + max(0, seen - gap - missing)

    def close(self) -> None:
        """Close the log."""
        live, self._live = self._live, None
        if live is not None:
            with contextlib.suppress(ZoneError):
                live.close()
