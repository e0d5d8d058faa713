"""Submits the tasks of data objects that have arrived, from the notes that policies left on them.

A thread looks for notes, and a few others submit, each in the session of the data object's owner. So neither an upload
nor the queue waits for them. Users take turns, in each look as many notes of one as of another.
A note stays until its task is recorded or refused. So after a crash, the next worker goes on with it.

An upload of many files rings for each of them. To submit and run their tasks takes the same catalog, and often the same
processors, as the upload: so the worker waits until the upload pauses, for half a minute at most.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress

from compute_to_data import this_host
from compute_to_data.errors import AccessDenied, ComputeToDataError, NotFound, OutOfReach, Refused
from compute_to_data.model import Avu, Entity, EntityKind, Query, User
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.records import arrival
from compute_to_data.records.waiting_bound import TooManyWait
from compute_to_data.submission import arrivals
from compute_to_data.submission.submit import Submitted, call_worker

log = logging.getLogger("compute_to_data.worker")

_THREADS = 4
_AT_ONCE = 32
"""How many notes one look takes up, of as many users."""
_LOOK_SECONDS = 1.0
"""The shortest pause after a look that found nothing."""
_IDLE_SECONDS = 15.0
"""The pause while no policy calls. On another host, none can."""
_RECENT_SECONDS = 60.0
"""So long after the last note, the worker looks as often as at its queue."""
_QUIET_SECONDS = 1.0
"""An upload goes on while a policy calls in shorter pauses than this."""
_LONGEST_UPLOAD = 30.0
"""So long after the first call, the worker looks in any case."""
_AGAIN_SECONDS = 5.0
"""The pause before a note is taken up again whose data object is being written, or is out of reach."""


class Arrivals:
    """The noted arrivals of one worker. A context: at its end, it waits for submissions under way. The worker's main
    thread calls :meth:`tend`; there is a thread only while there is something to look for."""

    def __init__(self, served: ServedResource) -> None:
        self._served = served
        self._hosts = this_host.names()
        self._called: tuple[float, float] | None = None
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._postponed: dict[str, float] = {}
        self._waiting_owners: dict[User, float] = {}
        """Users of whom as many tasks wait as the site allows, with when to try again."""
        self._counting = threading.Lock()
        """Held from counting such tasks to submitting one: the worker ends the tasks beyond the bound."""
        self._last_owner: User | None = None
        self._last_found = float("-inf")
        self._next_look = self._soonest = 0.0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        if self._thread is not None:
            self._thread.join()

    def call(self) -> None:
        """Look soon: a policy has left a note."""
        now, before = time.monotonic(), self._called  # read once: the thread that looks may clear it
        self._called = (before[0] if before else now, now)

    def due_in(self) -> float | None:
        """Seconds until the next look; None while one goes on."""
        if self._is_looking():
            return None
        due, called = self._next_look, self._called
        if called is not None:
            first, last = called
            due = max(self._soonest, min(first + _LONGEST_UPLOAD, last + _QUIET_SECONDS))
        return max(0.0, due - time.monotonic())

    def tend(self) -> None:
        """Begin to look for notes, if it is time."""
        if self.due_in() == 0.0 and not self._leaving.is_set():
            self._thread = threading.Thread(target=self._run, name="arrivals")
            self._thread.start()

    def _is_looking(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def any(self) -> bool:
        """Whether there is a note for this worker."""
        return bool(self._served.storage.find(self._query(limit=1)))

    def _query(self, owner: User | None = None, limit: int | None = None) -> Query:
        return arrival.query(self._served.configuration.attributes, self._served.resource.name, owner, limit)

    def _run(self) -> None:
        """Take up notes until there is none."""
        try:
            self._called = None
            while not self._leaving.is_set() and self.look():
                self._called = None
        except ComputeToDataError as error:
            log.warning("cannot look for arrivals, trying again: %s", error)
        except Exception:  # an adapter may raise anything, and the worker must go on looking
            log.exception("cannot look for arrivals, trying again")
        now = time.monotonic()
        is_recent = now - self._last_found < _RECENT_SECONDS
        poll_seconds = self._served.configuration.worker.poll_seconds
        self._soonest = now + _LOOK_SECONDS
        self._next_look = now + (min(_IDLE_SECONDS, poll_seconds) if is_recent else _IDLE_SECONDS)

    def look(self) -> int:
        """Take up some notes, and return how many. The rest waits for the next look."""
        now = time.monotonic()
        with self._lock:
            self._postponed = {one: due for one, due in self._postponed.items() if due > now}
            self._waiting_owners = {one: due for one, due in self._waiting_owners.items() if due > now}
        found = list(self._in_turn())
        if found:
            self._last_found = now
            with ThreadPoolExecutor(_THREADS, "arrivals") as submitters:
                for done in [submitters.submit(self._settle, owner, path) for owner, path in found]:
                    done.result()
        return len(found)

    def _in_turn(self) -> Iterator[tuple[User, str]]:
        """The next notes: the first one of each user, then the second ones."""
        with self._lock:
            waiting = {*self._waiting_owners}
        owners = [one for one in self._served.storage.owners(self._query()) if one not in waiting]
        after = [one for one in owners if self._last_owner is not None and one > self._last_owner]
        turn = [*after, *(one for one in owners if one not in after)][:_AT_ONCE]
        if not turn:
            return
        self._last_owner = turn[-1]
        with self._lock:
            postponed = {*self._postponed}
        limit = _AT_ONCE // len(turn) + len(postponed)
        of_each = [self._served.storage.find(self._query(owner, limit)) for owner in turn]
        lists = [[path for path in paths if path not in postponed][: _AT_ONCE // len(turn)] for paths in of_each]
        for number in range(max(map(len, lists))):
            yield from ((owner, paths[number]) for owner, paths in zip(turn, lists) if number < len(paths))

    def _settle(self, owner: User, logical_path: str) -> None:
        """Submit one arrival's task. This is the boundary that keeps one arrival's errors away from others."""
        if self._leaving.is_set():
            return
        try:
            bounded = self._served.configuration.worker.per_user.waiting is not None
            with self._counting if bounded else nullcontext():
                submitted = self._submitted(owner, logical_path)
            if submitted is not None:
                log.info("%s has arrived: %s is queued", logical_path, submitted.collection)
                self._call(submitted)
            return
        except arrival.BeingWritten:
            pass
        except TooManyWait as error:
            self._wait_with(owner, logical_path, error)
            return
        except OutOfReach as error:
            log.warning("cannot submit the task of %s, trying again: %s", logical_path, error)
        except Exception:
            log.exception("cannot submit the task of %s, trying again", logical_path)
        with self._lock:
            self._postponed[logical_path] = time.monotonic() + _AGAIN_SECONDS

    def _wait_with(self, owner: User, logical_path: str, error: TooManyWait) -> None:
        """Leave the owner's notes until some of the tasks that wait have begun. The data object says so."""
        with self._lock:
            is_new = owner not in self._waiting_owners
            self._waiting_owners[owner] = time.monotonic() + _AGAIN_SECONDS
        if is_new:
            log.warning("the task of %s waits: %s", logical_path, error)
        text = f"{logical_path} has arrived, and its task is submitted later: {error.subject} {error.cause}"
        with suppress(ComputeToDataError):
            arrivals.explain(self._served.storage.on_behalf_of(owner), self._served.configuration, logical_path, text)

    def _call(self, submitted: Submitted) -> None:
        with suppress(OSError):  # its worker finds the task with its next look
            catalog, configuration = self._served.storage.catalog, self._served.configuration
            call_worker(catalog, configuration, submitted.collection, submitted.resource, self._hosts)

    def _submitted(self, owner: User, logical_path: str) -> Submitted | None:
        """Submit a task in the owner's session, and remove the notes. Also when it is refused: the data object then
        says why."""
        attributes, here = self._served.configuration.attributes, self._served.resource.name
        try:
            catalog = self._served.storage.on_behalf_of(owner)
            found = arrival.notes(catalog, attributes, logical_path, here)
            arrival.refuse_forgeable(catalog, logical_path)
            ids = arrival.task_ids(logical_path, found)
            submitted = arrivals.take(catalog, self._served.configuration, logical_path, noted=ids)
            _remove(catalog, logical_path, found)
            return submitted
        except (OutOfReach, TooManyWait):
            raise
        except ComputeToDataError as error:
            self._refuse(owner, logical_path, error)
            return None

    def _refuse(self, owner: User, logical_path: str, error: ComputeToDataError) -> None:
        text = f"{logical_path} has arrived, but gets no task: {error}"
        log.warning("%s", text)
        storage, configuration = self._served.storage, self._served.configuration
        with suppress(NotFound, Refused, AccessDenied):  # the account is gone, or has no right to annotate any more
            arrivals.explain(storage.on_behalf_of(owner), configuration, logical_path, text)
        with suppress(NotFound):
            found = arrival.notes(storage, configuration.attributes, logical_path, self._served.resource.name)
            _remove(storage, logical_path, found)


def _remove(catalog: Catalog | Storage, logical_path: str, found: tuple[Avu, ...]) -> None:
    catalog.annotate(Entity(EntityKind.DATA_OBJECT, logical_path), remove=found)
