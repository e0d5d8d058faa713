"""Asks the catalog what users want of tasks: to cancel them, to follow them. One answer serves all tasks.

It asks twice a second, at once when a client on this host calls the worker, and less often where the catalog is slow.

A thread of its own asks, so that neither a slow step nor a large tree delays it. Tasks that have begun look at the
answer themselves (``pipeline.interruption``), and the watcher does for those that wait for their job. A few other
threads end the tasks that have not begun, so these need no free slot.

Anybody can put requests on collections that are no tasks. When one answer cannot hold all requests, the worker asks
again about the tasks that it has taken, and about those of the users in its line, one user after the other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import MOST_AMONG, EntityKind, Query, User
from compute_to_data.pipeline import watch_job
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.interruption import CancelRequests
from compute_to_data.records.state import State, queue_levels
from compute_to_data.records.task import CANCEL, FOLLOW
from compute_to_data.worker.in_flight import TasksInFlight

log = logging.getLogger("compute_to_data.worker")

_ENDING_THREADS = 4
_AT_ONCE = 1000
"""How many requests one answer has in addition to those of tasks in flight."""
_OF_ONE_USER = 256
"""How many requests the worker reads of each user in its line, when there are too many for one answer."""
_MOST_TRIED = 2 * MOST_AMONG
_TURN_SECONDS = 0.1
"""How long the worker then asks about some of these users, before the others have their turn."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two questions, however often clients call, and however long an answer takes."""
_SHARE = 20.0
"""Between these two, a pause is this many times as long as the answer took."""


def to_cancel(served: ServedResource, limit: int, taken: Collection[str] = ()) -> tuple[frozenset[str], bool]:
    """The collections of the resource's tasks that users want to cancel, and whether these are all.

    ``taken``: tasks whose requests are among them in any case. Earlier clients wrote that without units.
    """
    return _asked(served, CANCEL, (served.resource.name, ""), limit, taken)


def to_follow(served: ServedResource, limit: int, taken: Collection[str] = ()) -> frozenset[str]:
    """The collections of tasks that users follow. ``taken``: as for :func:`to_cancel`."""
    return _asked(served, FOLLOW, ("",), limit, taken)[0]


def _asked(
    served: ServedResource, request: str, units: Iterable[str], limit: int, taken: Collection[str]
) -> tuple[frozenset[str], bool]:
    attribute = served.configuration.attributes.named(request)
    found: set[str] = set()
    all_found = True
    for one in units:
        query = Query(EntityKind.COLLECTION, attribute, units=one, limit=limit)
        some = served.storage.find(query)
        if len(some) >= limit:
            all_found = False
            each = replace(query, limit=None).among_each(list(taken))
            some = tuple(collection for part in each for collection in served.storage.find(part))
        found.update(some)
    return frozenset(found), all_found


class _UsersInTurn:
    """The requests to cancel of the users who have queued or waiting tasks. Each time, it asks about some users."""

    def __init__(self, served: ServedResource) -> None:
        self._served = served
        self._users: deque[User] = deque()

    def requests(self) -> frozenset[str]:
        """The requests of the next users."""
        found: set[str] = set()
        until = time.monotonic() + _TURN_SECONDS
        if not self._users:
            self._users.extend(self._in_line())
        while self._users and time.monotonic() < until:
            found.update(self._of(self._users.popleft()))
        return frozenset(found)

    def _in_line(self) -> Iterable[User]:
        attribute, here = self._served.configuration.attributes.state, self._served.resource.name
        for state, units in ((State.QUEUED, queue_levels(here)), (State.WAITING, (here,))):
            query = Query(EntityKind.COLLECTION, attribute, state.value, units)
            yield from dict.fromkeys(one.owner for one in self._served.storage.count_by_owner(query, most=1))

    def _of(self, user: User) -> tuple[str, ...]:
        attribute, here = self._served.configuration.attributes.named(CANCEL), self._served.resource.name
        query = Query(EntityKind.COLLECTION, attribute, units=(here, ""), owner=user, limit=_OF_ONE_USER)
        return self._served.storage.find(query)


class Requests:
    """What users want of one worker's tasks. A context, in which it asks.

    ``has_tasks``: whether any task is in flight or waits; without, it asks nothing. ``tried``: tasks that were begun,
    and may have to be tried again. ``end`` ends a cancelled task that has not begun. ``not_ours``: tasks that must not
    be ended in this way. ``hurry`` lets those end that the worker will try again.
    """

    def __init__(
        self,
        served: ServedResource,
        cancelled: CancelRequests,
        in_flight: TasksInFlight,
        *,
        has_tasks: Callable[[], bool],
        tried: Callable[[], Collection[str]],
        not_ours: Callable[[], Collection[str]],
        hurry: Callable[[frozenset[str]], None],
        end: Callable[[str], None],
    ) -> None:
        self._served = served
        self._cancelled = cancelled
        self._in_flight = in_flight
        self._has_tasks, self._tried, self._not_ours, self._end = has_tasks, tried, not_ours, end
        self._hurry = hurry
        self._leaving = threading.Event()
        self._called = threading.Event()
        self._lock = threading.Lock()
        self._ending: set[str] = set()
        self._to_end: OrderedDict[str, deque[str]] = OrderedDict()
        self._enders = ThreadPoolExecutor(_ENDING_THREADS, "cancel")
        self._thread = threading.Thread(target=self._run, name="requests")
        self._users_in_turn = _UsersInTurn(served)

    def __enter__(self) -> Requests:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._called.set()
        self._thread.join()
        self._enders.shutdown(cancel_futures=True)

    def call(self) -> None:
        """Ask soon: a client has called the worker, perhaps to cancel a task."""
        self._called.set()

    def _run(self) -> None:
        took = 0.0
        while not self._leaving.wait(_pause(_SHORTEST_PAUSE, took)):
            self._called.wait(_pause(watch_job.QUESTION_EVERY, took) - _pause(_SHORTEST_PAUSE, took))
            self._called.clear()
            began = time.monotonic()
            try:
                if self._has_tasks():
                    self._ask()
            except ComputeToDataError as error:
                log.warning("cannot read which tasks users cancel or follow: %s", error)
            except Exception:  # an adapter may raise anything, and the worker must go on asking
                log.exception("cannot read which tasks users cancel or follow")
            took = time.monotonic() - began

    def _ask(self) -> None:
        """Ask the catalog, and pass the answer on."""
        taken = {*self._in_flight.collections(), *islice(self._tried(), _MOST_TRIED)}
        limit = _AT_ONCE + len(taken)
        cancel, are_all = to_cancel(self._served, limit, taken)
        if not are_all:
            cancel |= self._users_in_turn.requests()
        self._cancelled.answer(cancel)
        self._hurry(cancel)
        self._in_flight.hurry(cancel)
        follow = to_follow(self._served, limit, taken) if self._in_flight.watches() else frozenset()
        self._in_flight.note_requests(cancel, follow)
        self._end_queued(cancel)

    def _end_queued(self, cancel: Iterable[str]) -> None:
        """Let the other threads end tasks that have not begun. Those that were tried are not among them: ``hurry`` lets
        them go on, which they could not while they are claimed here."""
        not_ours = {*self._not_ours(), *self._tried()}
        for collection in cancel:
            with self._lock:
                if collection in self._ending or collection in not_ours or self._in_flight.has_begun(collection):
                    continue
                self._ending.add(collection)
                self._to_end.setdefault(_place(collection), deque()).append(collection)
            self._enders.submit(self._end_next)

    def _end_next(self) -> None:
        """End a task. Each home has its turn, so that a user who cancels thousands of tasks delays no other user."""
        with self._lock:
            place, collections = self._to_end.popitem(last=False)
            collection = collections.popleft()
            if collections:
                self._to_end[place] = collections
        self._end_one(collection)

    def _end_one(self, collection: str) -> None:
        try:
            if self._in_flight.claim(collection):
                try:
                    self._end(collection)
                finally:
                    self._in_flight.release(collection)
        except Exception:
            log.exception("the worker could not end %s", collection)
        finally:
            with self._lock, suppress(KeyError):
                self._ending.remove(collection)


def _place(collection: str) -> str:
    """The part of a path in which an ordinary user can make no other ones: ``/zone/home/alice``."""
    return "/".join(collection.split("/", 4)[:4])


def _pause(shortest: float, took: float) -> float:
    """Seconds until the next question, after one that took so many."""
    return min(_LONGEST_PAUSE, max(shortest, _SHARE * took))
