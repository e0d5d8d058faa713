"""The tasks of a resource that wait for the success of other tasks, and which of them need not wait any longer.

However many tasks wait, one look asks the catalog a few questions for all of them, at most once a second. What a
look finds is a hint: the worker then reads the waiting task and those that it waited for in the owner's session,
and decides by that (``records/awaited.py``).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, zip_longest

from compute_to_data.model import MOST_AMONG, EntityKind, Query, Row, name_of
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.records.state import State, furthest
from compute_to_data.records.task import AFTER

LOOK_SECONDS = 1.0
_IDLE_SECONDS = 10.0
"""The pause between two looks while no task waits and the worker is not called."""
_MOST_AWAITED = 2048
"""How many tasks one task can wait for: as many as a request can name."""
_ROWS_AT_ONCE = 10_000
_OF_ONE_USER = 2048
"""How many of a user's waiting tasks are looked at, the oldest ones, when many tasks wait. Anybody can tag any number
of collections as waiting. A task is newer than those that it waits for, so a user's line moves on."""
_SHARE = 20.0
"""A look that takes long is followed by a pause that is this many times as long."""
_SHOWN = 5
"""How many tasks of a circle its refusal names."""
_GONE = (None, State.FAILED, State.CANCELLED)


class WaitingTasks:
    """The waiting tasks of one worker's resource. Any thread may report that a task has ended; only the worker's
    main thread calls the other methods."""

    def __init__(self, served: ServedResource) -> None:
        self._served = served
        self._lock = threading.Lock()
        """For ``_ended`` and ``_next_look``. The catalog may take long to answer, and no thread waits for that."""
        self._awaited: dict[str, frozenset[str]] = {}
        """For each waiting task, the tasks that it still waits for, all by their collections."""
        self._elsewhere: dict[str, frozenset[str]] = {}
        """The same for tasks that wait on other resources, as far as tasks here wait for them."""
        self._watched: frozenset[str] = frozenset()
        """All tasks for which others wait."""
        self._ended: set[str] = set()
        self._asked: list[str] = []
        self._left: list[str] = []
        """What the last look found, and :meth:`next_decided` has not returned."""
        self._circles: dict[str, list[str]] = {}
        self._next_look = self._soonest = 0.0

    def any(self) -> bool:
        """Whether a task waits, as of the last look."""
        return bool(self._awaited)

    def report(self, ended: str) -> None:
        """Note that a task of this worker may have ended. If another waits for it, the next look is due now."""
        if ended in self._watched:
            with self._lock:
                self._ended.add(ended)
                self._next_look = 0.0

    def note(self, collection: str, awaited: Iterable[str]) -> None:
        """Note for which tasks a task still waits, from its request and their records; for none: it need not wait."""
        self._awaited[collection] = frozenset(awaited)
        if self._awaited[collection]:
            self._watch()
            self._find_circles()
        else:
            del self._awaited[collection]

    def circle_of(self, collection: str) -> str:
        """The tasks through which a task waits for itself, in words; '' when it does not."""
        circle = self._circles.get(collection, [])
        if not circle:
            return ""
        start = circle.index(collection)
        names = [name_of(one) for one in (*circle[start:], *circle[:start])]
        between = names if len(names) <= _SHOWN else [*names[:_SHOWN], f"{len(names) - _SHOWN} others"]
        return " waits for ".join((*between, names[0]))

    def call(self) -> None:
        """Note that a task may have been submitted on this host."""
        with self._lock:
            self._next_look = min(self._next_look, self._soonest)

    def due(self) -> bool:
        """Whether it is time to look."""
        return time.monotonic() >= self._next_look

    def next_decided(self, most: int) -> list[str]:
        """Some of the tasks that :meth:`look` finds, at most so many. Looks when none are left of the last look and the
        next one is due."""
        if not self._left and self.due():
            self._left = self.look()
        taken, self._left = self._left[:most], self._left[most:]
        return taken

    def look(self) -> list[str]:
        """Ask the catalog, and return the tasks about which the worker must decide: all that they waited for has
        completed, something of it cannot any more, or they wait for themselves."""
        began = time.monotonic()
        self._list()
        states = self._states()
        self._follow_elsewhere(states)
        decided = list(self._decided(states))
        now = time.monotonic()
        with self._lock:
            self._soonest = now + max(LOOK_SECONDS, _SHARE * (now - began))
            self._next_look = self._soonest if self._awaited else now + _IDLE_SECONDS
            if self._ended:  # a task ended meanwhile
                self._next_look = 0.0
        return decided

    def _list(self) -> None:
        """Bring the list of waiting tasks up to date."""
        listed = self._listed()
        known = self._awaited
        new = list(islice((one for one in listed if one not in known), MOST_AMONG))
        self._awaited = {one: known[one] for one in listed if one in known}
        if new:
            self._awaited.update(self._edges(new))
            self._find_circles()
        self._watch()

    def _listed(self) -> Sequence[str]:
        """The waiting tasks; when there are many, the oldest of each user, one user's after the other's."""
        attribute, here = self._served.configuration.attributes.state, self._served.resource.name
        storage, query = self._served.storage, Query(EntityKind.COLLECTION, attribute, State.WAITING.value, here)
        found = storage.find(replace(query, limit=_OF_ONE_USER + 1))
        if len(found) <= _OF_ONE_USER:
            return found
        owners = dict.fromkeys(one.owner for one in storage.count_by_owner(query, most=1))
        each = (storage.find(replace(query, owner=owner, limit=_OF_ONE_USER)) for owner in owners)
        return [one for some in zip_longest(*each) for one in some if one is not None]

    def _watch(self) -> None:
        """Bring the set of tasks for which others wait up to date."""
        awaited = (*self._awaited.values(), *self._elsewhere.values())
        self._watched = frozenset().union(*awaited)

    def _edges(self, waiting: list[str]) -> dict[str, frozenset[str]]:
        """What these tasks wait for, according to their records."""
        attribute = self._served.configuration.attributes.named(AFTER)
        found: dict[str, set[str]] = {one: set() for one in waiting}
        for row in self._rows(attribute, waiting):
            found[row.collection].add(row.value)
        return {one: frozenset(islice(awaited, _MOST_AWAITED)) for one, awaited in found.items()}

    def _states(self) -> dict[str, State | None]:
        """The states of tasks that others wait for: of those that this worker saw end, and of some others, which
        take turns when there are many. None for a task that is gone."""
        with self._lock:
            ended, self._ended = self._ended, set()
        first = ended & self._watched
        others = self._watched - first - self._awaited.keys()  # what waits here needs no question
        turn = [one for one in self._asked if one in others]
        turn = [*sorted(others.difference(turn)), *turn]
        asked = tuple(islice((*first, *turn), MOST_AMONG))
        with self._lock:
            self._ended |= first.difference(asked)
        self._asked = [*turn[len(asked) - min(len(first), len(asked)) :], *asked]
        if not asked:
            return {}
        found: dict[str, list[str]] = {one: [] for one in asked}
        attribute = self._served.configuration.attributes.state
        for row in self._rows(attribute, asked):
            found[row.collection].append(row.value)
        return {one: furthest(values) for one, values in found.items()}

    def _rows(self, attribute: str, collections: Sequence[str]) -> Iterator[Row]:
        """The AVUs of these collections with an attribute, of each at most the first 10,000. A user can put any
        number there: then the worker asks for fewer collections at once."""
        query = Query(EntityKind.COLLECTION, attribute, among=tuple(collections), limit=_ROWS_AT_ONCE)
        rows = self._served.storage.query(query)
        if len(rows) < _ROWS_AT_ONCE or len(collections) == 1:
            yield from rows
            return
        half = len(collections) // 2
        yield from self._rows(attribute, collections[:half])
        yield from self._rows(attribute, collections[half:])

    def _decided(self, states: Mapping[str, State | None]) -> Iterator[str]:
        completed = {one for one, state in states.items() if state is State.COMPLETED}
        in_vain = {one for one, state in states.items() if state in _GONE}
        for collection, awaited in self._awaited.items():
            self._awaited[collection] = left = awaited - completed
            if not left or not left.isdisjoint(in_vain) or collection in self._circles:
                yield collection

    # Circles

    def _follow_elsewhere(self, states: Mapping[str, State | None]) -> None:
        """Read what tasks wait for that wait on another resource themselves. Each look goes one task further."""
        for one, state in states.items():
            if state is not State.WAITING:
                self._elsewhere.pop(one, None)
        waiting = [one for one, state in states.items() if state is State.WAITING and one not in self._awaited]
        new = [one for one in waiting if one not in self._elsewhere]
        if new:
            self._elsewhere.update(self._edges(new))
            self._find_circles()

    def _find_circles(self) -> None:
        """Find the tasks here that wait for themselves. Only a record that was written by hand can do so."""
        graph = {**self._elsewhere, **self._awaited}
        self._circles = {}
        done: set[str] = set()
        for start in graph:
            path = _circle(graph, start, done)
            if path:
                self._circles.update(dict.fromkeys(path, path))


def _circle(graph: Mapping[str, frozenset[str]], start: str, done: set[str]) -> list[str]:
    """The tasks of a circle that can be reached from ``start``; empty when there is none. Adds all tasks that it
    has followed to their ends to ``done``."""
    path: dict[str, None] = {}
    ways = [iter((start,))]
    while ways:
        one = next(ways[-1], None)
        if one is None:
            ways.pop()
            if path:
                done.add(path.popitem()[0])
        elif one in path:
            done.update(path)
            return list(path)[list(path).index(one) :]
        elif one in graph and one not in done:
            path[one] = None
            ways.append(iter(graph[one]))
    return []
