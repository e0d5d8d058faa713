"""Who is next: the fair order of the tasks that are queued on a resource.

Of the users with queued tasks, the one with the fewest tasks here goes next, then the one who has waited longest for a
turn. Among one user's tasks, those with the highest priority come first, then the oldest ones. A user is the catalog's
own record of who made a task's collection, which no AVU can change: so a record that a user has written by hand waits
in that user's own line, and only there.

The catalog is the only queue. The line keeps the users in the order of their turns, and a few tasks of each; it asks
the catalog which users have queued tasks, and for the next tasks of one user. How long that takes does not depend on
the number of queued tasks. After a restart, the users come in the order of their oldest tasks.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace

from compute_to_data.model import EntityKind, OwnerCount, Query, User
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.records.state import State, priority_of, queue_levels
from compute_to_data.records.task import is_task_collection
from compute_to_data.worker.workload_slots import WorkloadSlots

_PAGE = 32
"""How many tasks of a user one question fetches, besides those that are known already."""
_PAGES = 8
"""How many questions one choice asks in addition to one for each task that it chooses."""
_PAGES_OF_ONE = 2
"""How many questions look for one user's next task, when there is only junk."""
_SHARE = 10.0
"""The catalog is asked for the users again after a pause that is this many times as long as the answer took."""
_PAGE_SECONDS = 2.0
"""How long the tasks of a page are believed to be the next ones."""
_SKIP_SECONDS = 60.0
"""How long records that are no tasks are skipped by their number, before the line begins with them again."""


@dataclass
class _Level:
    """A user's queued tasks of one priority. ``skipped``: so many at its beginning are no tasks."""

    units: str
    page: deque[str] = field(default_factory=deque)
    asked: float = 0.0
    skipped: int = 0
    skipped_since: float = 0.0


@dataclass(frozen=True)
class InLine:
    """A user in the line, who is before all others with as many tasks ``here`` that come later."""

    owner: User
    here: int
    waiting: int
    oldest: float


class Line:
    """The users with tasks queued on one resource. Only the worker's main thread uses it."""

    def __init__(
        self,
        served: ServedResource,
        slots: WorkloadSlots,
        may_begin: Callable[[User, int], bool],
        passed_over: Container[str],
    ) -> None:
        """``may_begin``: whether a user who has this many tasks here may have one more. ``passed_over``: what is no
        task, although it looks like one."""
        self._served = served
        self._slots = slots
        self._may_begin = may_begin
        self._passed_over = passed_over
        self._order: OrderedDict[User, dict[str, _Level]] = OrderedDict()
        self._oldest: dict[User, float] = {}
        self._owner_of: dict[str, User] = {}
        self._again: dict[str, User] = {}
        self._chosen: list[str] = []
        self._next_look = 0.0
        self._put_off = False
        self._reached: set[User] = set()
        self.is_cut_short = False
        """Whether the last choice ended before it was the turn of every user: it must go on soon."""

    @property
    def is_empty(self) -> bool:
        """Whether no user waited in the line at the last look."""
        return not self._order

    def owner_of(self, collection: str) -> User:
        """The owner of a task that was chosen, or noted."""
        return self._owner_of.get(collection, User("", ""))

    def note(self, collection: str, owner: User) -> None:
        """Note the owner of a task that is here, but was not chosen."""
        self._owner_of[collection] = owner

    def put_back(self, collection: str) -> None:
        """Let a task that had begun, and must begin again, wait in its owner's line, before the others there."""
        owner = self.owner_of(collection)
        self._again[collection] = owner
        self._order.setdefault(owner, {})

    def take_out(self, collection: str) -> None:
        """Forget a task that was put back."""
        self._again.pop(collection, None)

    def due_in(self) -> float | None:
        """Seconds until a look that was put off; None when none was."""
        return max(0.0, self._next_look - time.monotonic()) if self._put_off else None

    def look(self, *, now: bool = False) -> None:
        """Ask the catalog which users have queued tasks, unless it took long to answer a short time ago."""
        self._put_off = self._next_look > time.monotonic() and not now
        if self._put_off:
            return
        began = time.monotonic()
        found = self._served.storage.count_by_owner(self._query(queue_levels(self._served.resource.name)), most=1)
        self._merge(found)
        ended = time.monotonic()
        self._next_look = ended + _SHARE * (ended - began)

    def _query(self, units: Sequence[str] | str) -> Query:
        attribute = self._served.configuration.attributes.state
        given = units if isinstance(units, str) else tuple(units)
        return Query(EntityKind.COLLECTION, attribute, State.QUEUED.value, given)

    def _merge(self, found: Iterable[OwnerCount]) -> None:
        """Users who are new in the line come last, in the order of their oldest tasks."""
        counts: dict[User, dict[str, OwnerCount]] = {}
        for one in found:
            counts.setdefault(one.owner, {})[one.units] = one
        self._oldest = {owner: min(one.oldest for one in levels.values()) for owner, levels in counts.items()}
        for owner in self._order.keys() - counts.keys() - {*self._again.values()}:
            del self._order[owner]
        for owner in sorted(counts.keys() - self._order.keys(), key=lambda one: (self._oldest[one], one)):
            self._order[owner] = {}
        for owner, levels in counts.items():
            known = self._order[owner]
            self._order[owner] = {units: known.get(units) or _Level(units) for units in levels}

    def began(self, still_waiting: Collection[str]) -> None:
        """Note which of the chosen tasks have begun: all but these. Their owners have had their turn."""
        for collection in self._chosen:
            if collection not in still_waiting:
                self._again.pop(collection, None)
                owner = self.owner_of(collection)
                for level in self._order.get(owner, {}).values():
                    level.page = deque(one for one in level.page if one != collection)
                self.had_a_turn(owner)
        self._chosen = []

    def had_a_turn(self, owner: User) -> None:
        """Let a user wait for the next turn from now on."""
        if owner in self._order:
            self._order.move_to_end(owner)

    def choose(self, most: int, here: Sequence[str], excluded: Collection[str]) -> list[str]:
        """The next tasks to begin, at most ``most``, when ``here`` are the tasks that have begun. ``excluded``: other
        tasks that must not be chosen."""
        known = {*here, *excluded}
        owners = {one: self.owner_of(one) for one in known}
        counts = Counter(owners[one] for one in here), Counter(owners.values())
        turn = _Turn(*counts, [*here], known, most_questions=most + _PAGES)
        chosen: list[str] = []
        while len(chosen) < most and turn.questions < turn.most_questions:
            owner = self._next_owner(turn)
            if owner is None:
                break
            collection = self._next_task(owner, turn)
            if collection is None:
                turn.passed.add(owner)
                all_asked = turn.questions >= turn.most_questions  # perhaps for junk on each level of priority
                if turn.unfinished.pop(owner, False) or all_asked:  # others come first, and the rest later
                    self.had_a_turn(owner)
                continue
            self._owner_of[collection] = owner
            chosen.append(collection)
            turn.add(collection, owner)
        self._note_reached(turn, most > len(chosen))
        kept = (*known, *chosen, *self._again)
        self._owner_of = {one: self._owner_of[one] for one in kept if one in self._owner_of}
        self._chosen = list(chosen)
        return chosen

    def _note_reached(self, turn: _Turn, has_room: bool) -> None:
        """Note whose turn it was, until it was everybody's: then those who have only junk wait for a later look."""
        self._reached |= {*turn.passed, *turn.chosen}
        self.is_cut_short = (
            has_room
            and turn.questions >= turn.most_questions
            and any(one not in self._reached and self._may_begin(one, turn.taken[one]) for one in self._order)
        )
        if not self.is_cut_short:
            self._reached = set()

    def _next_owner(self, turn: _Turn) -> User | None:
        """The user with the fewest tasks, and of these the first in the line. Those chosen in this turn come last."""
        best: tuple[int, int] | None = None
        found: User | None = None
        for owner in self._order:
            if owner in turn.passed or not self._may_begin(owner, turn.taken[owner]):
                continue
            rank = (turn.taken[owner], turn.chosen[owner])
            if best is None or rank < best:
                best, found = rank, owner
            if rank == (0, 0):
                break
        return found

    def _next_task(self, owner: User, turn: _Turn) -> str | None:
        """The owner's next task. None when there is none for now."""
        for collection, its_owner in self._again.items():
            if its_owner == owner and collection not in turn.known:
                return collection
        levels = self._order[owner]
        for units in sorted(levels, key=priority_of, reverse=True):
            level = levels[units]
            found = self._first(level, turn)
            if found is None and self._fetch(owner, level, turn):
                found = self._first(level, turn)
            if found is not None:
                return found
        return None

    def _first(self, level: _Level, turn: _Turn) -> str | None:
        """The next task of a page that still is one of the next, and that its workload admits."""
        if time.monotonic() - level.asked > _PAGE_SECONDS:
            level.page.clear()
        for collection in level.page:
            if (
                collection not in turn.known
                and self._may_be_a_task(collection)
                and self._slots.admitted([collection], turn.tasks)
            ):
                return collection
        return None

    def _fetch(self, owner: User, level: _Level, turn: _Turn) -> bool:
        """Fetch a page of an owner's tasks that are not known yet. False when there is none."""
        full = tuple(self._slots.full(turn.tasks))  # may have thousands of tasks that are older than all others
        query = replace(self._query(level.units), owner=owner, excluding=full, limit=_PAGE + turn.of_owner[owner])
        if time.monotonic() - level.skipped_since > _SKIP_SECONDS:
            level.skipped, level.skipped_since = 0, time.monotonic()
        for _ in range(_PAGES_OF_ONE):
            turn.questions += 1
            found = self._served.storage.find(replace(query, offset=level.skipped))
            fresh = [one for one in found if self._may_be_a_task(one) and one not in turn.known]
            level.page, level.asked = deque(fresh), time.monotonic()
            if fresh:
                return True
            if len(found) < (query.limit or 0):
                level.skipped = 0
                return False
            level.skipped += sum(one not in turn.known for one in found)
        turn.unfinished[owner] = True
        return False

    def _may_be_a_task(self, collection: str) -> bool:
        return is_task_collection(collection) and collection not in self._passed_over

    def listed(self, here: Iterable[str]) -> list[InLine]:
        """All users in the line, in the order of their next turns, with exact numbers."""
        found = self._served.storage.count_by_owner(self._query(queue_levels(self._served.resource.name)))
        self._merge(found)
        taken = Counter(self.owner_of(one) for one in here)
        waiting: Counter[User] = Counter()
        for one in found:
            waiting[one.owner] += one.count
        listed = [InLine(one, taken[one], waiting[one], self._oldest.get(one, 0.0)) for one in self._order]
        return sorted(listed, key=lambda one: one.here)  # otherwise in the order of turns


@dataclass
class _Turn:
    """What one choice has found so far. ``taken``: how many tasks each user has here; ``of_owner``: how many of each
    are known in all."""

    taken: Counter[User]
    of_owner: Counter[User]
    tasks: list[str]
    known: set[str]
    most_questions: int
    chosen: Counter[User] = field(default_factory=Counter)
    passed: set[User] = field(default_factory=set)
    unfinished: dict[User, bool] = field(default_factory=dict)
    questions: int = 0

    def add(self, collection: str, owner: User) -> None:
        """Count a task that was chosen."""
        self.taken[owner] += 1
        self.of_owner[owner] += 1
        self.chosen[owner] += 1
        self.tasks.append(collection)
        self.known.add(collection)
