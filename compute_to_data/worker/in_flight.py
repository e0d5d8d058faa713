"""The tasks that a worker has taken: those that wait for a slot, those in one, those whose jobs are watched.

A slot is a thread. It takes a task through its steps until its job is submitted, and again from the job's end
to the task's. In between the worker's watcher has the task, and the slot is free for another.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Union

from compute_to_data.configuration import Configuration
from compute_to_data.job import JobKey
from compute_to_data.pipeline.checkpoint import Ending
from compute_to_data.pipeline.watch_job import News, Watch
from compute_to_data.ports import Engine, Storage
from compute_to_data.worker.watcher import CHORES_AT_ONCE, Told, Watcher

Course = Generator[Watch, News, Union[Ending, None]]
"""A task's way to its end: it yields the job to be watched, and is sent the news of it."""
Step = Callable[[], Watch]


class TasksInFlight:
    """At most ``capacity`` tasks have begun and not ended. Threads may share it.

    ``begin`` makes a task's course. ``attempt`` takes one step of it: it returns the job to be watched, or,
    at the course's end, whether the task is to be taken up again. ``over`` receives the latter.
    """

    def __init__(
        self,
        configuration: Configuration,
        storage: Storage,
        engine: Engine,
        resource: str,
        scope: str,
        *,
        begin: Callable[[str], Course],
        attempt: Callable[[str, Step], Union[Watch, bool]],
        over: Callable[[str, bool], None],
    ) -> None:
        self.slots = configuration.worker.slots
        self.capacity = engine.capacity or self.slots
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
        self._chores = ThreadPoolExecutor(CHORES_AT_ONCE, "chore")
        attributes = configuration.attributes
        self._watcher = Watcher(engine, storage, attributes, resource, scope, self._chores, self._go_on)
        self._watching = threading.Thread(target=self._watcher.run, name="watcher")

    def __enter__(self) -> TasksInFlight:
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Begin no task, leave running jobs alone, and wait until no thread is at work."""
        with self._lock:
            self._leaving = True
        self._watcher.leave()
        with self._lock:
            self._none_begun.wait_for(lambda: self._begun == 0)
        self._watcher.close()
        self._watching.join()
        self._pool.shutdown()
        self._chores.shutdown()

    def collections(self) -> list[str]:
        """The collections of all tasks in flight."""
        with self._lock:
            return list(self._tasks)

    def take(self, collection: str) -> None:
        """Begin a task as soon as there is room for it."""
        with self._lock:
            self._tasks.add(collection)
            self._waiting.append(collection)
            self._fill()

    def withdraw(self, collection: str) -> bool:
        """Give up a task unless it has begun; whether it is in flight no more."""
        with self._lock:
            if collection in self._waiting:
                self._waiting.remove(collection)
                self._tasks.discard(collection)
            return collection not in self._tasks

    def _fill(self) -> None:
        """Give free slots something to do."""
        while self._busy < self.slots:
            following = self._next()
            if following is None:
                return
            self._busy += 1
            self._pool.submit(self._take_step, *following)

    def _next(self) -> tuple[str, Course, Step] | None:
        """A step to take: of a task that has begun, so that it ends, before one that has not."""
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
                self._hand_over(collection, course, outcome)
            else:
                self._end(collection, outcome)

    def _hand_over(self, collection: str, course: Course, watch: Watch) -> None:
        with self._lock:
            self._watched[watch.key] = (collection, course)
        self._watcher.watch(watch)
        with self._lock:
            self._busy -= 1
            self._fill()

    def _go_on(self, watch: Watch, told: Told) -> None:
        with self._lock:
            collection, course = self._watched.pop(watch.key)
            step = functools.partial(course.throw if isinstance(told, Exception) else course.send, told)  # type: ignore[arg-type]
            self._ready.append((collection, course, step))
            self._fill()

    def _end(self, collection: str, again: bool) -> None:
        with self._lock:
            self._tasks.discard(collection)
        try:
            self._over(collection, again)  # only now: what is in flight is not taken up again
        finally:
            with self._lock:
                self._busy -= 1
                self._begun -= 1
                self._fill()
                self._none_begun.notify_all()
