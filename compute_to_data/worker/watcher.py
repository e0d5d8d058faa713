"""The one thread of a worker that watches the jobs of all its tasks.

It sleeps until the engine reports a change or work is due. A few helper threads do what may take long, such as
walks over outputs; others only read the records of tasks that users cancel or follow. At most one of them works for a
job at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Union

from compute_to_data.errors import EngineOutOfReach, OutOfReach
from compute_to_data.job import JobKey, JobState, JobStatus
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.vault.vault_room import VaultRoom
from compute_to_data.pipeline.watch_job import FIRST_LOOK, Detached, MustEnd, Update, Watch

log = logging.getLogger("compute_to_data.worker")

HELPER_THREADS = 4
_LONGEST_SLEEP = 30.0
_ROOM_SECONDS = 0.5
"""How often the worker looks at the free space in the vault while jobs run."""
_ROOM_PAUSE = 2.0
"""How long the worker waits for the room of a job that it has ended, before it ends another."""
Outcome = Union[Update, Exception]
"""The result of watching a job: an update for its task, or an error to raise in the task."""


@dataclass
class _Watched:
    watch: Watch
    lined_up: bool = False
    """Whether it waits for a helper thread."""
    busy: bool = False
    """Whether another thread works for this job. Its task gets the outcome when that thread has finished."""
    outcome: Outcome | None = None

    @property
    def is_in_hand(self) -> bool:
        """Whether there is nothing to start for this job."""
        return self.busy or (self.lined_up and not self.watch.has_request)


class Watcher:
    """Watches each job until there is an outcome, then calls ``on_outcome`` once with its watch and the outcome."""

    def __init__(
        self,
        served: ServedResource,
        helpers: Executor,
        readers: Executor,
        on_outcome: Callable[[Watch, Outcome], None],
    ) -> None:
        """``helpers``: runs what may take long. ``readers``: reads what users want of tasks."""
        self._served = served
        self._helpers = helpers
        self._readers = readers
        self._on_outcome = on_outcome
        self._lock = threading.Lock()
        self._has_work = threading.Condition(self._lock)
        self._watched: dict[JobKey, _Watched] = {}
        self._new: set[JobKey] = set()
        self._leaving = False
        self._closed = False
        self._room = VaultRoom(served.resource, served.configuration.worker.vault_reserve_bytes)
        self._sizes_are_new = False
        self._next_room_look = 0.0

    # Called by other threads

    def watch(self, watch: Watch) -> None:
        """Watch a job from now on."""
        with self._lock:
            self._watched[watch.key] = _Watched(watch)
            self._new.add(watch.key)
            self._has_work.notify_all()
        self._served.engine.wake()

    def leave(self) -> None:
        """Raise Detached in every task whose job has not ended, now and later: the worker is stopping."""
        with self._lock:
            self._leaving = True
        self._served.engine.wake()

    def note_requests(self, cancel: frozenset[str], follow: frozenset[str]) -> None:
        """Take note of the tasks that users want to cancel and to follow, by their collections."""
        new = [one.watch.note_requests(one.watch.collection in cancel, one.watch.collection in follow)
               for one in self._all()]  # fmt: skip
        if any(new):
            self._served.engine.wake()

    def watched(self) -> list[str]:
        """The collections of the tasks whose jobs it watches."""
        return [one.watch.collection for one in self._all()]

    def look_at(self, collections: Collection[str]) -> None:
        """Read the records of these tasks soon: they may be gone."""
        for one in self._all():
            if one.watch.collection in collections:
                one.watch.has_request = True
        self._served.engine.wake()

    def close(self) -> None:
        """Let :meth:`run` end."""
        with self._lock:
            self._closed = True
            self._has_work.notify_all()
        self._served.engine.wake()

    # In the watcher's own thread

    def run(self) -> None:
        """Watch until closed."""
        while self._wait_for_work():
            try:
                self.step()
            except OutOfReach as error:
                self._finish_all(error)
            except Exception as error:  # not the tasks' fault: the worker tries them again
                log.exception("the watcher cannot watch the jobs")
                self._finish_all(EngineOutOfReach("the jobs", f"the watcher cannot watch them ({error!r})"))

    def _finish_all(self, error: Exception) -> None:
        for one in self._all():
            self._finish(one, error)

    def _wait_for_work(self) -> bool:
        """Wait for a job to watch. False when the watcher is closed."""
        with self._lock:
            self._has_work.wait_for(lambda: self._watched or self._closed)
            return not self._closed

    def step(self) -> None:
        """Wait until a job changes or work is due, and do what is needed."""
        changed = self._served.engine.wait_for_change(self._served.scope, self._until_due())
        with self._lock:
            keys = [key for key in self._watched if changed is None or key in changed or key in self._new]
            self._new.clear()
        self._check_statuses(keys)
        for one in self._all():
            if self._leaving:
                self._finish(one, Detached(one.watch.key))
            elif time.monotonic() >= one.watch.deadline:
                self._finish(one, one.watch.walltime_exceeded())
        if time.monotonic() >= self._next_room_look:
            self._next_room_look = time.monotonic() + _ROOM_SECONDS
            self._keep_room()
        self._start_due_work()

    def _keep_room(self) -> None:
        """If the vault has less room than its reserve, look at all outputs, and then end the job with the largest."""
        lack = self._room.lack()
        running = [one for one in self._all() if not one.watch.is_pending] if lack else []
        if running and not self._sizes_are_new:
            self._sizes_are_new = True
            for one in running:
                one.watch.look_soon()
            return
        self._sizes_are_new = False  # by the next lack, they are old
        if running:
            self._next_room_look = time.monotonic() + _ROOM_PAUSE
            largest = max(running, key=lambda one: one.watch.size)
            log.warning("the vault %s: ending %s", lack, largest.watch.collection)
            self._finish(largest, MustEnd(self._room.must_end(lack), 0.0))

    def _until_due(self) -> float:
        """Seconds until work is due."""
        now = time.monotonic()
        with self._lock:
            due = [now + FIRST_LOOK if one.is_in_hand else one.watch.due for one in self._watched.values()]
            due += [one.watch.deadline for one in self._watched.values() if not one.busy]
            due += [self._next_room_look for one in self._watched.values() if not one.watch.is_pending]
        return min(max(0.0, min(due, default=now) - now), _LONGEST_SLEEP)

    def _all(self) -> list[_Watched]:
        with self._lock:
            return [one for one in self._watched.values() if one.outcome is None]

    def _check_statuses(self, keys: list[JobKey]) -> None:
        """Ask the engine for the status of jobs, and finish those whose status is new to the task."""
        statuses = self._statuses(keys) if keys else {}
        for one in self._all():
            status = statuses.get(one.watch.key)
            if isinstance(status, Exception) or (status is not None and _is_new(one.watch, status)):
                self._finish(one, status)

    def _statuses(self, keys: list[JobKey]) -> Mapping[JobKey, JobStatus | Exception]:
        """The status of each job, or the error in asking for it. An error with one job does not affect others."""
        try:
            return self._served.engine.statuses(keys)
        except OutOfReach:
            raise
        except Exception as error:  # noqa: BLE001 - an adapter may raise anything
            if len(keys) == 1:
                return {keys[0]: error}
        found: dict[JobKey, JobStatus | Exception] = {}
        for key in keys:
            found.update(self._statuses([key]))
        return found

    def _finish(self, one: _Watched, outcome: Outcome) -> None:
        """Stop watching a job and report the outcome; while a helper works for the job, only note the outcome."""
        with self._lock:
            if one.outcome is None:
                one.outcome = outcome
                one.watch.interrupt()
            if one.busy or self._watched.get(one.watch.key) is not one:
                return
            del self._watched[one.watch.key]
        self._on_outcome(one.watch, one.outcome)

    # Work for the helper threads

    def _start_due_work(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [one for one in self._watched.values() if not one.busy and one.watch.due <= now]
            urgent = [one for one in due if one.watch.has_request]  # users wait for these, also while helpers are busy
            others = [one for one in due if not one.watch.has_request and not one.lined_up]
            for one in urgent:
                one.busy, one.lined_up = True, False
            for one in others:
                one.lined_up = True
        for one in urgent:
            self._readers.submit(self._do_due_work, one)
        for one in others:
            self._helpers.submit(self._help, one)

    def _help(self, one: _Watched) -> None:
        with self._lock:
            if not one.lined_up or one.outcome is not None:
                return  # another thread has worked for it meanwhile
            one.busy, one.lined_up = True, False
        self._do_due_work(one)

    def _do_due_work(self, one: _Watched) -> None:
        outcome: Outcome | None
        try:
            outcome = one.watch.do_due_work(len(self._watched))
        except Exception as error:  # noqa: BLE001 - raised again in the task
            outcome = error
        with self._lock:
            one.busy = False
            outcome = one.outcome or outcome
        if outcome is not None:
            self._finish(one, outcome)


def _is_new(watch: Watch, status: JobStatus) -> bool:
    """Whether the task does not know of this status yet."""
    if status.state is JobState.RUNNING:
        return watch.is_pending
    return status.state is not JobState.PENDING
