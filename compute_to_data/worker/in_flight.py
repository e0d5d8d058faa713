"""The tasks that a worker has taken. Each waits for a slot, is in a slot, or waits for its job.

A slot is a thread. It takes a task through its steps until the task's job is submitted, and later from the
job's end to the task's end. In between, the watcher watches the job, and the slot is free for another task.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Union

from compute_to_data.job import JobKey
from compute_to_data.pipeline.checkpoint import Ending
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.watch_job import Update, Watch
from compute_to_data.worker.watcher import HELPER_THREADS, Outcome, Watcher

Course = Generator[Watch, Update, Union[Ending, None]]
"""A running task: it yields the job to watch, and receives updates about the job."""
Step = Callable[[], Watch]
"""Continues a task up to its next wait, for which it returns the watch. StopIteration at the task's end."""


class TasksInFlight:
    """At most ``capacity`` tasks have begun and not ended. Threads may share it.

    ``begin`` makes a task's course. ``attempt`` takes one step: it returns the job to watch, or, at the end
    of the course, whether the worker must try the task again. ``over`` is called with that answer.
    """

    def __init__(
        self,
        served: ServedResource,
        *,
        begin: Callable[[str], Course],
        attempt: Callable[[str, Step], Union[Watch, bool]],
        over: Callable[[str, bool], None],
    ) -> None:
        self.slots = served.configuration.worker.slots
        self.capacity = served.capacity
        self._begin, self._attempt, self._over = begin, attempt, over
        self._lock = threading.Lock()
        self._none_begun = threading.Condition(self._lock)
        self._tasks: set[str] = set()
        self._waiting: deque[str] = deque()
        self._ready: deque[tuple[str, Course, Step]] = deque()
        self._watched: dict[JobKey, tuple[str, Course]] = {}
        self._begun = self._busy = 0
        self._leaving = False
        self._pool = ThreadPoolExecutor(self.slots, "slot")
        self._helpers = ThreadPoolExecutor(HELPER_THREADS, "watcher-helper")
        self._watcher = Watcher(served, self._helpers, self._make_ready)
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
        self._helpers.shutdown()

    def collections(self) -> list[str]:
        """The collections of all tasks in flight."""
        with self._lock:
            return list(self._tasks)

    def take(self, collection: str) -> None:
        """Queue a task, which begins when a slot is free and fewer than ``capacity`` tasks have begun."""
        with self._lock:
            self._tasks.add(collection)
            self._waiting.append(collection)
            self._fill_slots()

    def withdraw(self, collection: str) -> bool:
        """Drop a task that has not begun. Returns whether it is no longer in flight."""
        with self._lock:
            if collection in self._waiting:
                self._waiting.remove(collection)
                self._tasks.discard(collection)
            return collection not in self._tasks

    def _fill_slots(self) -> None:
        """Give each free slot a step. The caller holds the lock."""
        while self._busy < self.slots:
            step = self._next_step()
            if step is None:
                return
            self._busy += 1
            self._pool.submit(self._take_step, *step)

    def _next_step(self) -> tuple[str, Course, Step] | None:
        """The next step to take. Tasks that have begun come before those that have not."""
        if self._ready:
            return self._ready.popleft()
        if not self._waiting or self._begun >= self.capacity or self._leaving:
            return None
        collection = self._waiting.popleft()
        course = self._begin(collection)
        self._begun += 1
        return collection, course, functools.partial(next, course)

    def _take_step(self, collection: str, course: Course, step: Step) -> None:
        outcome: Watch | bool = False
        try:
            outcome = self._attempt(collection, step)
        finally:
            if isinstance(outcome, Watch):
                self._wait_for_job(collection, course, outcome)
            else:
                self._end(collection, outcome)

    def _wait_for_job(self, collection: str, course: Course, watch: Watch) -> None:
        """Give the job to the watcher, and free the slot."""
        with self._lock:
            self._watched[watch.key] = (collection, course)
        self._watcher.watch(watch)
        with self._lock:
            self._busy -= 1
            self._fill_slots()

    def _make_ready(self, watch: Watch, outcome: Outcome) -> None:
        """Queue the next step of a task for whose job the watcher has an outcome."""
        with self._lock:
            collection, course = self._watched.pop(watch.key)
            send = course.throw if isinstance(outcome, Exception) else course.send
            self._ready.append((collection, course, functools.partial(send, outcome)))  # type: ignore[arg-type]
            self._fill_slots()

    def _end(self, collection: str, again: bool) -> None:
        with self._lock:
            self._tasks.discard(collection)
        try:
            self._over(collection, again)  # after the discard: the worker does not resume what is in flight
        finally:
            with self._lock:
                self._busy -= 1
                self._begun -= 1
                self._fill_slots()
                self._none_begun.notify_all()
