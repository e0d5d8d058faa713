"""The one thread of a worker that watches the jobs of all its tasks.

It sleeps until the engine tells of a change or something is due. What may take long, questions to the
catalog and walks over outputs, is done by a few other threads, for each job by one at a time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Union

from compute_to_data.configuration import Attributes
from compute_to_data.errors import ComputeToDataError, EngineOutOfReach, OutOfReach
from compute_to_data.job import JobKey, JobState, JobStatus
from compute_to_data.model import EntityKind, Query
from compute_to_data.pipeline import watch_job
from compute_to_data.pipeline.watch_job import FIRST_LOOK, Detached, News, Watch
from compute_to_data.ports import Engine, Storage
from compute_to_data.records.task import CANCEL, FOLLOW

log = logging.getLogger("compute_to_data.worker")

CHORES_AT_ONCE = 4
_LONGEST_SLEEP = 30.0
_REQUESTS_AT_ONCE = 1000
"""So many requests about tasks that are not watched are read before one may be read later."""
Told = Union[News, Exception]
"""What is told of a job: news, or the error that its task must meet."""


@dataclass
class _Watched:
    watch: Watch
    busy: bool = False
    """Whether another thread does what is due for it: nothing is told of it meanwhile."""
    told: Told | None = None


class Watcher:
    """Watches jobs until there is news of them. ``tell`` receives each watch, once, with the news."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        attributes: Attributes,
        resource: str,
        scope: str,
        chores: Executor,
        tell: Callable[[Watch, Told], None],
    ) -> None:
        """``resource`` and ``scope``: the worker's."""
        self._engine = engine
        self._storage = storage
        self._attributes = attributes
        self._resource = resource
        self._scope = scope
        self._chores = chores
        self._tell = tell
        self._lock = threading.Lock()
        self._something = threading.Condition(self._lock)
        self._watched: dict[JobKey, _Watched] = {}
        self._new: set[JobKey] = set()
        self._leaving = False
        self._closed = False
        self._asking = False
        self._next_question = 0.0

    # For other threads

    def watch(self, watch: Watch) -> None:
        """Watch a job from now on."""
        with self._lock:
            if not self._watched:
                self._next_question = time.monotonic() + watch_job.QUESTION_EVERY
            self._watched[watch.key] = _Watched(watch)
            self._new.add(watch.key)
            self._something.notify_all()
        self._engine.wake()

    def leave(self) -> None:
        """The worker is to stop: every task whose job has not ended, now and later, meets Detached."""
        with self._lock:
            self._leaving = True
        self._engine.wake()

    def close(self) -> None:
        """Let :meth:`run` end."""
        with self._lock:
            self._closed = True
            self._something.notify_all()
        self._engine.wake()

    # In its own thread

    def run(self) -> None:
        """Watch until closed."""
        while self._has_something():
            try:
                self.step()
            except OutOfReach as error:
                self._give_all_back(error)
            except Exception as error:  # no fault of the tasks: they are taken up again
                log.exception("the jobs cannot be watched")
                self._give_all_back(EngineOutOfReach("the jobs", f"they cannot be watched ({error!r})"))

    def _give_all_back(self, error: Exception) -> None:
        for one in self._all():
            self._give_back(one, error)

    def _has_something(self) -> bool:
        with self._lock:
            self._something.wait_for(lambda: self._watched or self._closed)
            return not self._closed

    def step(self) -> None:
        """Wait for a change, or until something is due, and do what follows."""
        changed = self._engine.wait_for_change(self._scope, self._until_due())
        with self._lock:
            keys = [key for key in self._watched if changed is None or key in changed or key in self._new]
            self._new.clear()
        self._hear(keys)
        for one in self._all():
            if self._leaving:
                self._give_back(one, Detached(one.watch.key))
            elif time.monotonic() >= one.watch.deadline:
                self._give_back(one, one.watch.too_long())
        self._ask()
        self._attend()

    def _until_due(self) -> float:
        now = time.monotonic()
        with self._lock:
            due = [now + FIRST_LOOK if one.busy else one.watch.due for one in self._watched.values()]
            due += [one.watch.deadline for one in self._watched.values() if not one.busy]
        if not self._asking:
            due.append(self._next_question)
        return min(max(0.0, min(due, default=now) - now), _LONGEST_SLEEP)

    def _all(self) -> list[_Watched]:
        with self._lock:
            return [one for one in self._watched.values() if one.told is None]

    def _hear(self, keys: list[JobKey]) -> None:
        """Ask about jobs, and tell what is new of them."""
        statuses = self._statuses(keys) if keys else {}
        for one in self._all():
            told = statuses.get(one.watch.key)
            if isinstance(told, Exception) or (told is not None and _is_news(one.watch, told)):
                self._give_back(one, told)

    def _statuses(self, keys: list[JobKey]) -> Mapping[JobKey, JobStatus | Exception]:
        """Of each job how far it is, or the error that asking about it met: one job's trouble is no other's."""
        try:
            return self._engine.statuses(keys)
        except OutOfReach:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises
            if len(keys) == 1:
                return {keys[0]: error}
        found: dict[JobKey, JobStatus | Exception] = {}
        for key in keys:
            found.update(self._statuses([key]))
        return found

    def _give_back(self, one: _Watched, told: Told) -> None:
        with self._lock:
            if one.told is None:
                one.told = told
            if one.busy or self._watched.get(one.watch.key) is not one:
                return
            del self._watched[one.watch.key]
        self._tell(one.watch, one.told)

    # What other threads do for it

    def _ask(self) -> None:
        """Once a second, for all tasks: who asks for the end of one, or follows one."""
        if self._asking or time.monotonic() < self._next_question:
            return
        self._asking = True
        self._chores.submit(self._question)

    def _question(self) -> None:
        try:
            cancel, follow = self._named(CANCEL, (self._resource, "")), self._named(FOLLOW, ("",))
            asks = [one.watch.requested(one.watch.collection in cancel, one.watch.collection in follow)
                    for one in self._all()]  # fmt: skip
            if any(asks):
                self._engine.wake()
        except ComputeToDataError as error:
            log.warning("cannot ask whether a task is cancelled or followed: %s", error)
        except Exception:  # whatever an adapter raises, the jobs are watched
            log.exception("cannot ask whether a task is cancelled or followed")
        finally:
            self._next_question = time.monotonic() + watch_job.QUESTION_EVERY
            self._asking = False

    def _named(self, request: str, units: Iterable[str]) -> frozenset[str]:
        """The collections of tasks of which something is requested; earlier clients gave no units."""
        attribute, limit = self._attributes.named(request), _REQUESTS_AT_ONCE + len(self._watched)
        queries = [Query(EntityKind.COLLECTION, attribute, units=one, limit=limit) for one in units]
        return frozenset(collection for query in queries for collection in self._storage.find(query))

    def _attend(self) -> None:
        now = time.monotonic()
        with self._lock:
            due = [one for one in self._watched.values() if not one.busy and one.watch.due <= now]
            for one in due:
                one.busy = True
        for one in due:
            self._chores.submit(self._chore, one)

    def _chore(self, one: _Watched) -> None:
        told: Told | None
        try:
            told = one.watch.attend(len(self._watched))
        except Exception as error:  # noqa: BLE001 - the task must meet it
            told = error
        with self._lock:
            one.busy = False
            told = one.told or told
        if told is not None:
            self._give_back(one, told)


def _is_news(watch: Watch, status: JobStatus) -> bool:
    if status.state is JobState.RUNNING:
        return watch.is_pending
    return status.state is not JobState.PENDING
