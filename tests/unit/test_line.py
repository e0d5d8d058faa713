"""The fair line: simulated with many users, tasks of any length, and catalogs that answer from memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from compute_to_data.model import OwnerCount, Query, User
from compute_to_data.worker.line import Line

ZONE, RESOURCE = "z", "r"


@dataclass
class Queued:
    """A storage that holds only queued tasks, and counts the questions. ``tasks``: oldest first, with owner and
    priority."""

    tasks: dict[str, tuple[User, int]] = field(default_factory=dict)
    questions: int = 0
    most_rows: int = 0

    def add(self, owner: User, name: str, priority: int = 0) -> str:
        collection = f"/{ZONE}/home/{owner.name}/{name}"
        self.tasks[collection] = owner, priority
        return collection

    def _matching(self, query: Query) -> list[tuple[int, str, User, str]]:
        found = []
        for number, (collection, (owner, priority)) in enumerate(self.tasks.items()):
            units = f"{RESOURCE};priority={priority}" if priority else RESOURCE
            if units in query.units_listed and query.owner in (None, owner):
                found.append((number, collection, owner, units))
        return found

    def find(self, query: Query) -> tuple[str, ...]:
        self.questions += 1
        assert query.limit is not None
        self.most_rows = max(self.most_rows, query.limit)
        return tuple(one[1] for one in self._matching(query)[query.offset :][: query.limit])

    def count_by_owner(self, query: Query, *, most: int | None = None) -> tuple[OwnerCount, ...]:
        found: dict[tuple[User, str], list[int]] = {}
        for number, _, owner, units in self._matching(query):
            found.setdefault((owner, units), []).append(number)
        return tuple(OwnerCount(*key, len(one), float(one[0])) for key, one in found.items())


class EverySlot:
    """Workloads without any limit."""

    def full(self, _: object) -> list[str]:
        return []

    def admitted(self, queued: Sequence[str], _: object) -> list[str]:
        return list(queued)


def a_line(storage: Queued, passed_over: Any = (), running: int | None = None) -> Line:
    attributes = SimpleNamespace(state="state")
    served: Any = SimpleNamespace(
        storage=storage,
        resource=SimpleNamespace(name=RESOURCE),
        configuration=SimpleNamespace(attributes=attributes),
    )
    slots: Any = EverySlot()
    return Line(served, slots, lambda _, taken: running is None or taken < running, passed_over)


@dataclass
class Simulation:
    """Slots that take the chosen tasks, each for as many rounds as it is long."""

    line: Line
    storage: Queued
    slots: int
    lengths: Mapping[str, int]
    here: dict[str, int] = field(default_factory=dict)
    started: list[tuple[User, Counter[User], set[User]]] = field(default_factory=list)

    def round(self) -> None:
        """Let time pass: tasks end, and free slots take the next ones, one by one."""
        self.here = {one: left - 1 for one, left in self.here.items() if left > 1}
        while len(self.here) < self.slots:
            self.line.look(now=True)
            chosen = self.line.choose(1, list(self.here), ())
            if not chosen:
                return
            (collection,) = chosen
            owner = self.storage.tasks[collection][0]
            running = Counter(self.line.owner_of(one) for one in self.here)
            waiting = {one for one, _ in self.storage.tasks.values()}
            self.started.append((owner, running, waiting))
            del self.storage.tasks[collection]
            self.here[collection] = self.lengths[collection]
            self.line.began(())


_TASKS = st.lists(st.tuples(st.integers(0, 4), st.integers(-10, 10), st.integers(1, 9)), min_size=1, max_size=60)


def _simulated(tasks: list[tuple[int, int, int]], slots: int) -> Simulation:
    storage, lengths = Queued(), {}
    for number, (user, priority, length) in enumerate(tasks):
        lengths[storage.add(User(f"u{user}", ZONE), f"t{number}", priority)] = length
    simulation = Simulation(a_line(storage), storage, slots, lengths)
    while storage.tasks:
        simulation.round()
    return simulation


@settings(deadline=None)
@given(tasks=_TASKS, slots=st.integers(1, 4))
def test_a_user_with_nothing_running_goes_before_users_who_have_tasks_there(
    tasks: list[tuple[int, int, int]], slots: int
) -> None:
    for owner, running, waiting in _simulated(tasks, slots).started:
        assert running[owner] == min(running[one] for one in waiting)


@settings(deadline=None)
@given(tasks=_TASKS, slots=st.integers(1, 4))
def test_no_user_waits_for_two_turns_of_another(tasks: list[tuple[int, int, int]], slots: int) -> None:
    """Between two starts of a user's tasks, or before the first, another user with as few tasks starts at most once."""
    began: dict[User, int] = {}
    turns: dict[User, Counter[User]] = {User(f"u{number}", ZONE): Counter() for number in range(5)}
    for owner, running, waiting in _simulated(tasks, slots).started:
        for one in waiting - {owner}:
            if running[owner] >= running[one]:
                turns[one][owner] += 1
            assert turns[one][owner] <= 1 + slots
        turns[owner].clear()
        began[owner] = began.get(owner, 0) + 1
    assert sum(began.values()) == len(tasks)


@settings(deadline=None)
@given(tasks=_TASKS)
def test_priorities_order_the_tasks_of_one_user_and_of_no_other(tasks: list[tuple[int, int, int]]) -> None:
    plain = [(user, 0, length) for user, _, length in tasks]
    with_priorities = [owner for owner, _, _ in _simulated([(user, p, 1) for user, p, _ in tasks], 1).started]
    without = [owner for owner, _, _ in _simulated([(user, 0, 1) for user, _, _ in plain], 1).started]
    assert with_priorities == without


def test_a_users_tasks_come_by_priority_and_then_by_age() -> None:
    storage, alice = Queued(), User("alice", ZONE)
    names = {
        name: storage.add(alice, name, priority)
        for name, priority in (("old", 0), ("low", -10), ("young", 0), ("high", 10))
    }
    line = a_line(storage)
    line.look()
    assert line.choose(4, [], ()) == [names[one] for one in ("high", "old", "young", "low")]


def test_a_priority_beyond_the_range_is_not_in_the_line() -> None:
    storage, alice = Queued(), User("alice", ZONE)
    storage.add(alice, "beyond", 11)
    own = storage.add(alice, "own")
    line = a_line(storage)
    line.look()
    assert line.choose(5, [], ()) == [own]


def test_a_user_waits_while_as_many_tasks_run_as_one_may_have() -> None:
    storage, alice, bob = Queued(), User("alice", ZONE), User("bob", ZONE)
    first = [storage.add(alice, f"t{number}") for number in range(5)]
    line = a_line(storage, running=2)
    line.look()
    assert line.choose(5, [], ()) == first[:2]
    bobs = storage.add(bob, "b")
    line.look(now=True)
    assert line.choose(5, first[:2], ()) == [bobs]


def test_the_line_goes_on_after_a_restart_with_the_oldest_task() -> None:
    storage = Queued()
    first, second = storage.add(User("bob", ZONE), "b"), storage.add(User("alice", ZONE), "a")
    line = a_line(storage)
    line.look()
    assert line.choose(2, [], ()) == [first, second]


def test_choosing_asks_a_bounded_number_of_small_questions_however_many_tasks_and_junk_there_are() -> None:
    storage, passed_over = Queued(), set[str]()
    alice, bob = User("alice", ZONE), User("bob", ZONE)
    junk = [storage.add(alice, f"-no-name-{number}") for number in range(1000)]
    known = [storage.add(alice, f"known{number}") for number in range(1000)]
    passed_over.update(known)
    real = storage.add(alice, "real")
    bobs = storage.add(bob, "b")
    line = a_line(storage, passed_over)
    line.look()
    chosen: list[str] = []
    for _ in range(50):
        before = storage.questions
        chosen = line.choose(2, [], ())
        assert storage.questions - before <= 11
        assert storage.most_rows <= 64
        assert bobs in chosen
        if real in chosen:
            break
    assert set(chosen) == {real, bobs}
    assert not {*junk, *known} & {*chosen}


def test_a_task_that_is_put_back_comes_first_in_its_owners_line_and_only_there() -> None:
    storage, alice, bob = Queued(), User("alice", ZONE), User("bob", ZONE)
    begun, other = storage.add(alice, "begun"), storage.add(alice, "other")
    line = a_line(storage)
    line.look()
    assert line.choose(1, [], ()) == [begun]
    line.began(())
    del storage.tasks[begun]  # it is STAGING_IN
    bobs = storage.add(bob, "b")
    line.look(now=True)
    line.put_back(begun)
    line.had_a_turn(alice)
    assert line.choose(3, [], ()) == [bobs, begun, other]


def test_only_a_look_that_was_put_off_is_due() -> None:
    """Else a worker that has nothing to do would look again and again."""
    storage = Queued()
    storage.add(User("alice", ZONE), "a")
    line = a_line(storage)
    line.look()
    assert line.due_in() is None
    line._next_look += 60
    line.look()
    due = line.due_in()
    assert due is not None
    assert due > 50
    line.look(now=True)
    assert line.due_in() is None


def test_a_choice_looks_at_as_many_users_as_have_tasks_here_and_not_at_all() -> None:
    def looked_at(users: int) -> int:
        storage, looks = Queued(), []
        line = a_line(storage)
        line._may_begin = lambda owner, taken: looks.append(owner) is None  # type: ignore[func-returns-value]
        for number in range(users):
            storage.add(User(f"u{number}", ZONE), "task")
        line.look()
        (first,) = line.choose(1, [], [])
        line.began([])
        looks.clear()
        assert len(line.choose(2, [first], [])) == 2
        return len(looks)

    assert looked_at(5_000) == looked_at(50) <= 4
