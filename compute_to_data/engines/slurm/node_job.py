"""One job on its node, from its start to its end, in the program that Slurm starts or in the resident service."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from compute_to_data.engines.slurm.node_state import Say
from compute_to_data.engines.slurm.notes import EXIT, STARTED, STOP, Directory, Notes
from compute_to_data.errors import EngineError, EngineOutOfReach, ImageMissing, OutOfReach
from compute_to_data.job import Exit, Job
from compute_to_data.ports.engine import Engine, RunningJob

_LOOK_SECONDS = 0.5
"""How often the node looks for the worker's note that the job must end, if no signal reaches it."""
_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 60.0)
"""Between two attempts to write a note, in seconds."""
_OWN_GRACE = 20.0
"""The most grace that a job gets when Slurm ends it: less than Slurm's KillWait, which is 30 s by default."""
_STOPPED = 128 + signal.SIGTERM


class Event(Enum):
    """What may happen to a job that runs. ``client`` has the words for those that a signal of Slurm tells."""

    LOOK = "look"
    """There may be a note of the worker that the job must end."""
    ENDED_BY_SLURM = "ended by Slurm"
    GONE = "gone"
    """What Slurm had started for the job was killed: the job ends at once, and its end is not told."""
    OVER = "over"


class Place(NamedTuple):
    """Where a job runs: the number of Slurm's job, Slurm's name for the node, and where to write for its log."""

    number: str
    node: str
    say: Say


class NodeJob:
    """One job. The thread that calls :meth:`to_its_end` waits for events, another one for the job."""

    def __init__(
        self,
        own: Notes,
        directory: Directory,
        job: Job,
        engine: Engine,
        place: Place,
        need_promises: Callable[[], None],
    ) -> None:
        """``own``: the notes of the job. ``need_promises``: see :meth:`Node.need_promises`."""
        self._notes = own
        self._directory = directory
        self._job = job
        self._engine = engine
        self._place = place
        self._need_promises = need_promises
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._running: RunningJob | None = None
        self._ended_by_slurm = False
        self._is_gone = False
        self._has_ended = False
        self._is_clean = False

    def note(self, event: Event) -> None:
        """Something has happened. Other threads and handlers of signals may call it."""
        if not self._has_ended:
            self._ended_by_slurm |= event is Event.ENDED_BY_SLURM
            self._is_gone |= event is Event.GONE
        self._events.put(event)

    def to_its_end(self, has_begun: bool) -> None:
        """Run the job, and return when it has ended and nothing of it is left. EngineError when something is left.

        ``has_begun``: whether another process of ours had begun to run it, and has died since.
        """
        if not has_begun and self._is_refused():
            return
        runner = threading.Thread(target=self._run, args=[has_begun], daemon=True)
        runner.start()
        ordered = float("inf")
        while self._next_event() is not Event.OVER:
            grace = self._grace()
            if self._running is not None and grace < ordered:
                ordered = grace
                threading.Thread(target=self._stop, args=(self._running, grace), daemon=True).start()
        runner.join()
        if not self._is_clean:
            raise EngineError(self._job.key.task, "its container is left; the next job on this node removes it")

    def _is_refused(self) -> bool:
        """Whether the job must not begin here, which the worker then learns."""
        told = self._notes.read(EXIT)
        if told is not None or self._notes.read(STARTED) is not None:
            # An administrator has let Slurm start it again. It would find the outputs of its first run.
            self._place.say("this job has run before")
            if told is None or told.get("is_ended_by_slurm"):
                self._tell(EXIT, {"requeued": True})
            return True
        if self._stop_grace() is None:
            return False
        now = time.time()
        self._tell_exit(Exit(_STOPPED, False, now, now))
        return True

    def _next_event(self) -> Event | None:
        with contextlib.suppress(queue.Empty):
            return self._events.get(timeout=_LOOK_SECONDS)
        return None

    def _grace(self) -> float:
        """The grace of a job that must end; infinite while it may run."""
        if self._is_gone:
            return 0.0
        grace = self._stop_grace()
        if grace is None:
            grace = min(self._job.grace_seconds, _OWN_GRACE) if self._ended_by_slurm else float("inf")
        return grace

    def _stop_grace(self) -> float | None:
        """The grace in the worker's note that the job must end; None without one."""
        try:
            note = self._notes.read(STOP)
            if note is None and not self._notes.folder.exists():
                return 0.0
        except (OSError, EngineError):  # the file system's server is away: the job goes on
            return None
        return None if note is None else float(note["grace"])

    def _stop(self, running: RunningJob, grace: float) -> None:
        with contextlib.suppress(EngineError):
            running.stop(grace)

    def _run(self, has_begun: bool) -> None:
        try:
            self._run_and_tell(has_begun)
        except FileNotFoundError:  # the worker has removed the notes: it does not wait for the job any more
            self._place.say("the worker has removed this job")
        finally:
            try:
                self._engine.remove(self._job.key)
                self._is_clean = True
            finally:
                self._events.put(Event.OVER)

    def _run_and_tell(self, has_begun: bool) -> None:
        try:
            if has_begun and self._notes.read(EXIT) is not None:
                return
            self._running = running = (self._begun() if has_begun else None) or self._begin()
            self._tell(STARTED, {"time": running.status().started, "told": time.time()})
            self._events.put(Event.LOOK)
            self._notes.forget_secrets()
            end = running.wait(float("inf"))
            assert end is not None
            self._has_ended = not self._is_gone
            running.finish_log()
        except EngineError as error:
            self._tell_end(_error(error))
        else:
            self._tell_exit(end)
        finally:
            self._notes.forget_secrets()

    def _begin(self) -> RunningJob:
        self._need_promises()
        return self._engine.submit(self._job)

    def _begun(self) -> RunningJob | None:
        """The job that another process of ours had begun; None when it had not come to its start."""
        running = self._engine.find(self._job.key)
        if running is None and self._notes.read(STARTED) is not None:
            raise EngineOutOfReach(self._job.key.task, "the engine of the node has lost it")
        return running

    def _tell_exit(self, end: Exit) -> None:
        self._tell_end({**vars(end), "ended_by": None, "is_ended_by_slurm": self._ended_by_slurm})

    def _tell_end(self, document: dict[str, Any]) -> None:
        if not self._is_gone:  # only Slurm knows what it was
            self._tell(EXIT, document)

    def _tell(self, name: str, document: dict[str, Any]) -> None:
        place = {"slurm": self._place.number, "node": self._place.node}
        for pause in (*_PAUSES, None):
            try:
                self._notes.write(name, {**document, **place})
                break
            except OutOfReach as error:
                self._place.say(f"the worker does not learn of it yet: {error}")
                if pause is None:
                    raise
                time.sleep(pause)
        with contextlib.suppress(OSError):  # the worker then learns it from Slurm
            self._directory.ring(self._job.scope, self._job.key.text)


def _error(error: EngineError) -> dict[str, Any]:
    """What the node's engine says against the job."""
    kind = "missing" if isinstance(error, ImageMissing) else "lost" if isinstance(error, OutOfReach) else "error"
    return {kind: [error.subject, error.cause, error.remedy]}
