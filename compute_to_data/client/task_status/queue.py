"""The line of a compute resource, as far as a person may see it: their own tasks, and the numbers of all others."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from compute_to_data.client.workbench import Workbench
from compute_to_data.coordination import published_line
from compute_to_data.coordination.published_line import PublishedLine, UserNumbers
from compute_to_data.errors import NotFound, Refused
from compute_to_data.model import EntityKind, Query, User, name_of
from compute_to_data.records.state import UNFINISHED, State, queue_levels
from compute_to_data.records.task import timestamp
from compute_to_data.submission import selection

_NEXT = 5
_MOST_COUNTED = 1000
"""How many of a person's own tasks are looked through for the place of one of them."""


@dataclass(frozen=True)
class UserInLine:
    """A user with tasks on a resource. ``user``: '' for all those together whose tasks you may not see. ``users``: how
    many of these have waiting tasks. ``oldest``: when the first waiting task was submitted, in ISO 8601; '' when none
    waits."""

    user: str
    waiting: int
    running: int
    oldest: str = ""
    users: int = 1

    @property
    def shown(self) -> str:
        """The user, or how many others wait. The worker does not publish how many users only run tasks."""
        if self.user or not self.users:
            return self.user or "others"
        return f"{self.users} other{'s' * (self.users != 1)}"


@dataclass(frozen=True)
class ResourceLine:
    """The line of one resource. ``capacity``: how many tasks can run there at a time; 0 when no worker has said it.
    ``next``: the ids of your own next tasks. ``turns_before``: how many users have their turn before you; None when
    you have no waiting task, or when that is not known. ``held_up``: why no task begins, as the worker says."""

    resource: str
    has_worker: bool
    capacity: int
    waiting: int
    running: int
    users: tuple[UserInLine, ...]
    next: tuple[str, ...]
    turns_before: int | None
    held_up: str = ""

    def document(self) -> dict[str, Any]:
        """As ``c2d queue --json`` prints it."""
        return asdict(self)


def line_of(workbench: Workbench, resource: str) -> ResourceLine:
    """The line of a resource. NotFound when the zone has no such resource."""
    if resource not in {one.name for one in workbench.catalog.resources()}:
        raise NotFound(f"resource {resource}", "is not in this zone", "List those that run tasks: c2d resources")
    published = published_line.read(workbench.catalog, workbench.attributes, resource)
    seen = _seen(workbench, resource)
    others = _others(published, seen)
    own = next((one for one in seen if one.user == str(workbench.user)), None)
    return ResourceLine(
        resource=resource,
        has_worker=has_worker(workbench, resource),
        capacity=published.capacity if published else 0,
        waiting=sum(one.waiting for one in (*seen, *others)),
        running=sum(one.running for one in (*seen, *others)),
        users=(*seen, *others),
        next=tuple(map(name_of, own_tasks(workbench, resource, _NEXT))) if own else (),
        turns_before=None if own is None or not own.waiting else turns_before(published, own.running, own.waiting),
        held_up=published.held_up if published else "",
    )


def has_worker(workbench: Workbench, resource: str) -> bool:
    """Whether a worker runs for the resource, or can be started on demand."""
    try:
        return selection.has_worker(workbench.catalog, workbench.configuration, resource)
    except Refused:
        return False  # no worker publishes a configuration


def own_tasks(workbench: Workbench, resource: str, most: int = _MOST_COUNTED) -> list[str]:
    """The collections of a person's own queued tasks, those that begin first before the others."""
    found: list[str] = []
    state = workbench.attributes.state
    held = _held_levels(workbench, resource)
    for units in (one for one in queue_levels(resource) if one in held):
        query = Query(EntityKind.COLLECTION, state, State.QUEUED.value, units, owner=workbench.user)
        found += workbench.catalog.find(replace(query, limit=most - len(found)))
        if len(found) >= most:
            break
    return found


def _held_levels(workbench: Workbench, resource: str) -> frozenset[str]:
    """Those of the priorities, as units of a task's state, that queued tasks of the person have: mostly one of 21."""
    state = workbench.attributes.state
    query = Query(EntityKind.COLLECTION, state, State.QUEUED.value, queue_levels(resource), owner=workbench.user)
    return frozenset(one.units for one in workbench.catalog.count_by_owner(query, most=1))


def own_running(workbench: Workbench, resource: str) -> int:
    """How many of a person's own tasks have begun on a resource."""
    return _running(workbench, resource)[workbench.user]


def _running(workbench: Workbench, resource: str) -> Counter[User]:
    """How many tasks that the person may see have begun, by owner."""
    state, found = workbench.attributes.state, Counter[User]()
    for one in UNFINISHED:
        query = Query(EntityKind.COLLECTION, state, one.value, resource)
        for row in workbench.catalog.count_by_owner(query):
            found[row.owner] += row.count
    return found


def _seen(workbench: Workbench, resource: str) -> list[UserInLine]:
    """The users whose tasks on the resource the person may see; the person first."""
    state = workbench.attributes.state
    query = Query(EntityKind.COLLECTION, state, State.QUEUED.value, queue_levels(resource))
    waiting: Counter[User] = Counter()
    oldest: dict[User, float] = {}
    for one in workbench.catalog.count_by_owner(query):
        waiting[one.owner] += one.count
        oldest[one.owner] = min(one.oldest, oldest.get(one.owner, one.oldest))
    running = _running(workbench, resource)
    users = sorted({*waiting, *running}, key=lambda one: (one != workbench.user, one))
    return [
        UserInLine(str(one), waiting[one], running[one], timestamp(oldest[one]) if one in oldest else "")
        for one in users
    ]


def _others(published: PublishedLine | None, seen: list[UserInLine]) -> list[UserInLine]:
    """All users together whose tasks the person may not see, from the numbers that the worker published."""
    if published is None:
        return []
    waiting = max(0, published.waiting - sum(one.waiting for one in seen))
    running = max(0, published.running - sum(one.running for one in seen))
    users = max(0, published.users - sum(bool(one.waiting) for one in seen))
    return [UserInLine("", waiting, running, users=users)] if waiting or running else []


def turns_before(published: PublishedLine | None, running: int, waiting: int) -> int | None:
    """How many users have their turn before one with these numbers; None when it is not known.

    The worker publishes no names. So this is the place of the first user with these numbers, or with as many running
    tasks.
    """
    if published is None:
        return None
    return next((place for place, one in enumerate(published.first) if _may_be(one, running, waiting)), None)


def _may_be(one: UserNumbers, running: int, waiting: int) -> bool:
    return one.running > running or (one.running == running and one.waiting >= waiting)
