"""Runs a task in one thread, which does the work of the worker's slot and of its watcher in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from compute_to_data.pipeline import watch_job
from compute_to_data.pipeline.execution import TaskContext
from compute_to_data.pipeline.watch_job import Watch
from compute_to_data.worker.in_flight import Course
from compute_to_data.worker.requests import to_cancel, to_follow
from compute_to_data.worker.watcher import Outcome, Watcher


class InThisThread(Executor):
    """Runs each call at once, in the thread that submits it. Errors reach the submitter."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def drive(course: Course, context: TaskContext) -> None:
    """Run a task to its end. Raises what its course raises."""
    outcomes: list[Outcome] = []

    def on_outcome(_: Watch, outcome: Outcome) -> None:
        outcomes.append(outcome)

    watcher = Watcher(context, InThisThread(), InThisThread(), on_outcome)
    asked = time.monotonic()
    try:
        watch = next(course)
        while True:
            watcher.watch(watch)
            while not outcomes:
                if time.monotonic() - asked > watch_job.QUESTION_EVERY:
                    asked = time.monotonic()
                    watcher.note_requests(to_cancel(context, 100)[0], to_follow(context, 100))
                watcher.step()
            outcome = outcomes.pop()
            watch = course.throw(outcome) if isinstance(outcome, Exception) else course.send(outcome)
    except StopIteration:
        return
