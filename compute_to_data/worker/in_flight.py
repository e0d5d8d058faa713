"""The tasks that a worker has taken. Each waits for a slot, is in a slot, or waits for its job.

A slot is a thread. It takes a task through its steps until the task's job is submitted, and later from the
job's end to the task's end. In between, the watcher watches the job, and the slot is free for another task.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Union

from compute_to_data.job import JobKey
from compute_to_data.pipeline.checkpoint import Ending
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.watch_job import MustEnd, Update, Watch
from compute_to_data.worker.watcher import HELPER_THREADS, Outcome, Watcher

_ENDING_THREADS = 16
"""How many tasks end at the same time, at least, without a slot."""
Course = Generator[Watch, Update, Union[Ending, None]]
"""A running task: it yields the job to watch, and receives updates about the job."""
Step = Callable[[], Watch]
"""Continues a task up to its next wait, for which it returns the watch. StopIteration at the task's end."""


class TasksInFlight:
    """At most ``capacity`` tasks have begun and not ended. Threads may share it.

    ``begin`` makes a task's course. ``attempt`` takes one step: it returns the job to watch, or, at the end
    of the course, whether the worker must try the task again. ``over`` is called with that answer, and whether the
    task had a job. ``is_resumed``: whether a task was begun before, by this worker or an earlier one.

    A job that must end, because of a limit or because a user cancels its task, needs no slot for that.
    """

    def __init__(
        self,
        served: ServedResource,
        *,
        begin: Callable[[str], Course],
        attempt: Callable[[str, Step], Union[Watch, bool]],
        over: Callable[[str, bool, bool], None],
        is_resumed: Callable[[str], bool] = lambda collection: False,
    ) -> None:
        self.slots = served.configuration.worker.slots
        self.capacity = served.capacity
        self._begin, self._attempt, self._over, self._is_resumed = begin, attempt, over, is_resumed
        self._lock = threading.Lock()
        self._none_begun = threading.Condition(self._lock)
        self._tasks: set[str] = set()
        self._waiting: deque[str] = deque()
        self._lined_up: list[str] = []
        self._with_job: set[str] = set()
        self._ready: deque[tuple[str, Course, Step]] = deque()
        self._watched: dict[JobKey, tuple[str, Course]] = {}
        self._begun = self._busy = 0
        self._leaving = False
        self._pool = ThreadPoolExecutor(self.slots, "slot")
        self._enders = ThreadPoolExecutor(max(self.slots, _ENDING_THREADS), "end")
        self._helpers = ThreadPoolExecutor(HELPER_THREADS, "watcher-helper")
        self._readers = ThreadPoolExecutor(HELPER_THREADS, "watcher-reader")
        self._watcher = Watcher(served, self._helpers, self._readers, self._make_ready)
        self._watching = threading.Thread(target=self._watcher.run, name="watcher")

    def __enter__(self) -> TasksInFlight:
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Begin no more tasks, leave running jobs alone, and wait until all threads have finished."""
        with self._lock:
            self._leaving = True
        self._watcher.leave()
        with self._lock:
            self._none_begun.wait_for(lambda: self._begun == 0)
        self._watcher.close()
        self._watching.join()
        self._pool.shutdown()
        for pool in (self._enders, self._helpers, self._readers):
            pool.shutdown()

    def collections(self) -> list[str]:
        """The collections of all tasks in flight."""
        with self._lock:
            return list(self._tasks)

    def begun_and_lined_up(self) -> tuple[list[str], list[str]]:
        """The tasks that were taken, and those that are only lined up."""
        with self._lock:
            lined_up = {*self._lined_up}
            return [one for one in self._tasks if one not in lined_up], list(self._lined_up)

    def line_up(self, collections: Sequence[str]) -> None:
        """Let these tasks begin next, in this order, in the place of those that were lined up before."""
        with self._lock:
            self._tasks.difference_update(self._lined_up)
            self._lined_up = [one for one in collections if one not in self._tasks]
            self._tasks.update(self._lined_up)
            self._fill_slots()

    def take(self, collection: str) -> None:
        """Take a task, which begins before those that are lined up, when a slot is free and fewer than ``capacity``
        tasks have begun."""
        with self._lock:
            self._tasks.add(collection)
            self._waiting.append(collection)
            self._fill_slots()

    def has_begun(self, collection: str) -> bool:
        """Whether a task has begun, and not ended."""
        with self._lock:
            return collection in self._tasks.difference(self._waiting, self._lined_up)

    def claim(self, collection: str) -> bool:
        """Keep a task that has not begun from beginning until :meth:`release`. False when it has begun."""
        with self._lock:
            if collection in self._waiting:
                self._waiting.remove(collection)
            elif collection in self._lined_up:
                self._lined_up.remove(collection)
            elif collection in self._tasks:
                return False
            self._tasks.add(collection)
            return True

    def release(self, collection: str) -> None:
        """Forget a task that was claimed."""
        with self._lock:
            self._tasks.discard(collection)

    def hurry(self, collections: Collection[str]) -> None:
        """Let cancelled tasks that an earlier worker began, and that wait for a slot, end without one."""
        with self._lock:
            for collection in [one for one in self._waiting if one in collections and self._is_resumed(one)]:
                self._waiting.remove(collection)
                self._begun += 1
                course = self._begin(collection)
                self._enders.submit(self._take_step, collection, course, functools.partial(next, course), False)

    def watches(self) -> bool:
        """Whether any task waits for its job."""
        with self._lock:
            return bool(self._watched)

    def watched(self) -> list[str]:
        """The collections of the tasks that wait for their jobs."""
        return self._watcher.watched()

    def look_at(self, collections: Collection[str]) -> None:
        """Let the watcher read the records of these tasks: they may be gone."""
        self._watcher.look_at(collections)

    def note_requests(self, cancel: frozenset[str], follow: frozenset[str]) -> None:
        """Take note of the tasks that users want to cancel and to follow."""
        self._watcher.note_requests(cancel, follow)

    def _fill_slots(self) -> None:
        """Give each free slot a step. The caller holds the lock."""
        while self._busy < self.slots:
            step = self._next_step()
            if step is None:
                return
            self._busy += 1
            self._pool.submit(self._take_step, *step, True)

    def _next_step(self) -> tuple[str, Course, Step] | None:
        """The next step to take. Tasks that have begun come before those that have not."""
        if self._ready:
            return self._ready.popleft()
        if not (self._waiting or self._lined_up) or self._begun >= self.capacity or self._leaving:
            return None
        collection = self._waiting.popleft() if self._waiting else self._lined_up.pop(0)
        course = self._begin(collection)
        self._begun += 1
        return collection, course, functools.partial(next, course)

    def _take_step(self, collection: str, course: Course, step: Step, in_slot: bool) -> None:
        outcome: Watch | bool = False
        try:
            outcome = self._attempt(collection, step)
        finally:
            if isinstance(outcome, Watch):
                self._wait_for_job(collection, course, outcome, in_slot)
            else:
                self._end(collection, outcome, in_slot)

    def _wait_for_job(self, collection: str, course: Course, watch: Watch, in_slot: bool) -> None:
        """Give the job to the watcher, and free the slot."""
        with self._lock:
            self._watched[watch.key] = (collection, course)
            self._with_job.add(collection)
        self._watcher.watch(watch)
        with self._lock:
            self._busy -= in_slot
            self._fill_slots()

    def _make_ready(self, watch: Watch, outcome: Outcome) -> None:
        """Queue the next step of a task for whose job the watcher has an outcome."""
        with self._lock:
            collection, course = self._watched.pop(watch.key)
            send = course.throw if isinstance(outcome, Exception) else course.send
            step = functools.partial(send, outcome)  # type: ignore[arg-type]
            if isinstance(outcome, MustEnd):  # the job goes on until this step stops it
                self._enders.submit(self._take_step, collection, course, step, False)
                return
            self._ready.append((collection, course, step))
            self._fill_slots()

    def _end(self, collection: str, again: bool, in_slot: bool) -> None:
        with self._lock:
            self._tasks.discard(collection)
            had_job = collection in self._with_job
            self._with_job.discard(collection)
        try:
            self._over(collection, again, had_job)  # after the discard: the worker does not resume what is in flight
        finally:
            with self._lock:
                self._busy -= in_slot
                self._begun -= 1
                self._fill_slots()
                self._none_begun.notify_all()
