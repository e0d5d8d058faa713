"""A task's course in one thread: what a worker's slot and its watcher do, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from compute_to_data.pipeline.execution import TaskContext
from compute_to_data.pipeline.watch_job import Watch
from compute_to_data.worker.in_flight import Course
from compute_to_data.worker.watcher import Told, Watcher


class InThisThread(Executor):
    """Does at once what it is given; what that raises is raised where it was given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def drive(course: Course, context: TaskContext) -> None:
    """Take a task to its end, or to what its course raises."""
    told: list[Told] = []

    def tell(_: Watch, news: Told) -> None:
        told.append(news)

    attributes = context.configuration.attributes
    watcher = Watcher(
        context.engine, context.storage, attributes, context.resource.name, context.scope, InThisThread(), tell
    )
    try:
        watch = next(course)
        while True:
            watcher.watch(watch)
            while not told:
                watcher.step()
            news = told.pop()
            watch = course.throw(news) if isinstance(news, Exception) else course.send(news)
    except StopIteration:
        return
