"""One job of the Slurm engine, from the notes of its folder and from what Slurm says about it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from typing import Any, NoReturn

from compute_to_data.engines import log_writer
from compute_to_data.engines.slurm import commands
from compute_to_data.engines.slurm.notes import EXIT, REQUEST, STARTED, STOP, SUBMITTED, VERDICT, Notes
from compute_to_data.engines.slurm.queue import Queue, View
from compute_to_data.engines.slurm.settings import SlurmSettings
from compute_to_data.engines.slurm.states import Phase
from compute_to_data.errors import EngineError, EngineOutOfReach, ImageMissing, ReasonCode
from compute_to_data.job import EndedBy, Exit, JobKey, JobState, JobStatus

_LOOK_SECONDS = 0.05
_PATIENCE = 15.0
"""How many seconds after its grace a job may take to end before the worker cancels it in Slurm."""
_LONGEST = 60.0
_KILLED = 137
_STATES = {Phase.LOST: JobState.UNKNOWN, Phase.PREEMPTED: JobState.PREEMPTED}


class SlurmJob:
    """The job of a folder, which may be missing."""

    def __init__(
        self, key: JobKey, notes: Notes, queue: Queue, settings: SlurmSettings, remove: Callable[[JobKey], None]
    ) -> None:
        self.key = key
        self.notes = notes
        self._queue = queue
        self._settings = settings
        self._remove = remove

    def identity(self) -> str:
        """Slurm's id of the job; '' when no note has it."""
        note = self.notes.read(SUBMITTED) or self.notes.read(STARTED) or self.notes.read(EXIT) or {}
        return str(note.get("slurm", ""))

    def note_id(self, identity: str) -> None:
        """Note Slurm's id of the job."""
        self.notes.write(SUBMITTED, {"slurm": identity, "time": time.time()})

    def _clock_ahead(self) -> float:
        """By how many seconds the clock of the job's node is ahead of this host's, which may be behind or 0.

        The file system has one clock. It says when this host wrote the job's id, and when the node told the start.
        """
        submitted, started = self.notes.read(SUBMITTED) or {}, self.notes.read(STARTED) or {}
        here, there = self.notes.written(SUBMITTED), self.notes.written(STARTED)
        if here is None or there is None or "time" not in submitted or "told" not in started:
            return 0.0  # notes of an earlier release, or the job is just being removed
        return float((started["told"] - there) - (submitted["time"] - here))

    def _started(self) -> float | None:
        """When the job started, on this host's clock; None when it has not."""
        note = self.notes.read(STARTED)
        return None if note is None else note["time"] - self._clock_ahead()

    def status(self) -> JobStatus:
        """As the port says. Asks Slurm nothing: its last answer counts."""
        verdict = self.notes.read(VERDICT)
        if verdict is not None:
            return _decided(verdict)
        started = self._started()
        end = self.notes.read(EXIT)
        if end is not None:
            return self._ended(end, started)
        identity = self.identity()
        if not identity:
            return JobStatus(JobState.UNKNOWN)
        view = self._queue.view(identity)
        if view is not None and view.is_over and time.monotonic() - view.since > self._settings.notes_seconds:
            return self._decide(view, None, started)
        return JobStatus(JobState.PENDING if started is None else JobState.RUNNING, started)

    def _ended(self, end: dict[str, Any], started: float | None) -> JobStatus:
        """The status of a job whose node has left a note about its end."""
        if "lost" in end:
            return JobStatus(JobState.UNKNOWN)
        if "requeued" in end:
            return JobStatus(JobState.PREEMPTED)
        if "missing" in end or "error" in end:
            return JobStatus(JobState.ENDED, started)
        ahead = self._clock_ahead()
        exit = _exit({**end, "started": end["started"] - ahead, "finished": end["finished"] - ahead})
        if end["is_ended_by_slurm"] and self.notes.read(STOP) is None:
            view = self._queue.view(str(end["slurm"]))
            if view is None or not view.is_over:  # only Slurm knows why
                return JobStatus(JobState.RUNNING, exit.started)
            return self._decide(view, exit, exit.started)
        return JobStatus(JobState.ENDED, exit.started, exit)

    def _decide(self, view: View, exit: Exit | None, started: float | None) -> JobStatus:
        """Decide, once and for all, about a job that did not end by itself. ``exit``: as its node saw it."""
        now, means = time.time(), view.meaning
        phase = means.phase
        if phase is Phase.OVER and exit is None and means.ended_by is None and not means.out_of_memory:
            phase = Phase.LOST  # its program on the node was killed
        exit = exit or Exit(_KILLED, False, started or now, now)
        verdict: dict[str, Any] = {**vars(exit), "phase": phase.value, "ended_by": None}
        verdict["out_of_memory"] = exit.out_of_memory or means.out_of_memory
        if means.ended_by is not None and phase is Phase.OVER:
            ended_by = means.ended_by
            verdict["ended_by"] = [ended_by.reason.value, ended_by.cause, ended_by.remedy]
        try:
            self.notes.write(VERDICT, verdict)
        except FileNotFoundError:  # another thread has removed the job
            return JobStatus(JobState.UNKNOWN)
        return _decided(verdict)

    def wait(self, timeout: float) -> Exit | None:
        """As the port says. Looks at the job's notes again and again: no event crosses a network's file system."""
        until = time.monotonic() + timeout
        while True:
            status = self.status()
            if status.state is JobState.ENDED:
                return status.exit or self._raise_nodes_error()
            if status.state in _STATES.values():
                raise EngineOutOfReach(self.key.task, "the engine has no job for it")
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOK_SECONDS)

    def _raise_nodes_error(self) -> NoReturn:
        end = self.notes.read(EXIT) or {}
        if "missing" in end:
            raise ImageMissing(*end["missing"])
        raise EngineError(*end.get("error", (self.key.task, "its node left no word")))

    def stop(self, grace: float) -> None:
        """As the port says."""
        if self.wait(0) is not None:
            return
        self.order_end(grace)
        for longest in (grace + _PATIENCE, _LONGEST):
            if self._is_over(longest):
                return
            commands.run(commands.to_cancel(self.identity()), self._settings.timeout_seconds, self.key.task)
        raise EngineOutOfReach(self.key.task, "its node does not end the job", "See scontrol show job in Slurm")

    def order_end(self, grace: float) -> None:
        """Tell the node, or Slurm where the job still waits, to end it."""
        identity = self.identity()
        try:
            self.notes.write(STOP, {"grace": grace})
        except FileNotFoundError as error:
            raise EngineOutOfReach(self.key.task, "the engine has no job for it") from error
        for words in commands.to_stop(identity):
            try:
                commands.run(words, self._settings.timeout_seconds, self.key.task)
            except EngineOutOfReach:
                if self.notes.read(STARTED) is None:  # one that runs finds the note without the signal
                    raise
            except EngineError:
                continue  # Slurm says that it has ended, or does not wait, or does not run

    def _is_over(self, seconds: float) -> bool:
        """Wait until the job has ended, for its node or for Slurm."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.is_over():
                return True
            time.sleep(_LOOK_SECONDS)
        return False

    def is_over(self) -> bool:
        """Whether nothing of the job runs or will run, according to its node or to Slurm."""
        if self.notes.read(EXIT) is not None or self.notes.read(VERDICT) is not None or not self.notes.folder.exists():
            return True
        identity = self.identity()
        view = self._queue.view(identity) if identity else None
        if view is None or not view.is_over:
            return False
        if self.notes.read(STOP) is not None:  # it will leave no note: it never began, or its node is gone
            now = time.time()
            started = self._started() or now
            with contextlib.suppress(FileNotFoundError):  # another thread has removed the job
                self.notes.write(VERDICT, {**vars(Exit(_KILLED, False, started, now)), "phase": Phase.OVER.value})
        return True

    def finish_log(self) -> None:
        """As the port says. The node has written the log, unless it failed."""
        request = self.notes.read(REQUEST)
        if request is None:
            raise EngineOutOfReach(self.key.task, "the engine has no job for it")
        log_writer.finish(request["job"]["log_file"], int(request["job"]["limits"]["log_bytes"]))

    def remove(self) -> None:
        """As the port says."""
        self._remove(self.key)

    def discard(self) -> None:
        """Remove the folder of a job that is over."""
        shutil.rmtree(self.notes.folder, ignore_errors=True)
        if self.notes.folder.exists():
            raise EngineError(str(self.notes.folder), "the worker cannot remove it", "See who owns the files in it")


def _decided(verdict: dict[str, Any]) -> JobStatus:
    """The status that a verdict says."""
    state = _STATES.get(Phase(verdict["phase"]))
    if state is not None:
        return JobStatus(state)
    exit = _exit(verdict)
    return JobStatus(JobState.ENDED, exit.started, exit)


def _exit(note: dict[str, Any]) -> Exit:
    ended_by = note.get("ended_by")
    return Exit(
        note["status"],
        note["out_of_memory"],
        note["started"],
        note["finished"],
        note["certain"],
        ended_by and EndedBy(ReasonCode(ended_by[0]), *ended_by[1:]),
    )
