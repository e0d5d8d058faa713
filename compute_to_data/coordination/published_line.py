"""The line of a resource as its worker publishes it: numbers without names, for users who may not see others' tasks.

One AVU of the resource, with the attribute ``<prefix>::line``. Its units are the time when it was written. The users in
the line are in the order of their next turns.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compute_to_data.configuration import Attributes
from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog

_SHOWN = 50
"""How many users are published one by one. An AVU has at most 2,700 bytes."""
_NAME = "line"
NO_JOBS = "can run no job until an administrator mends this"
"""A part of ``held_up`` where also the tasks that have begun do not go on."""


@dataclass(frozen=True)
class UserNumbers:
    """One user in the line: tasks that have begun, tasks that wait, and when the first of these was submitted, in Unix
    seconds."""

    running: int
    waiting: int
    oldest: float


@dataclass(frozen=True)
class PublishedLine:
    """What a worker knows of its line. ``capacity``: how many tasks can run at a time. ``running_bound``: how many of
    one user; None: no bound. ``held_up``: why no task begins although there is room; '' when nothing holds them up.
    ``users``: how many users wait; ``first``: the first of them. ``written``: when, in Unix seconds."""

    capacity: int
    running: int
    waiting: int
    users: int
    first: tuple[UserNumbers, ...]
    running_bound: int | None = None
    held_up: str = ""
    written: float = 0.0


def publish(catalog: Catalog, attributes: Attributes, resource: str, line: PublishedLine | None) -> None:
    """Write the line in the place of what was published before; None removes it. Needs a rodsadmin's session."""
    entity, attribute = Entity(EntityKind.RESOURCE, resource), attributes.named(_NAME)
    old = list(catalog.avus(entity, attribute))
    new = [] if line is None else [Avu(attribute, _written(line), str(int(time.time())))]
    if [avu.value for avu in old] != [avu.value for avu in new]:
        catalog.annotate(entity, remove=old, add=new)


def publish_why_none_begins(catalog: Catalog, attributes: Attributes, resource: str, error: ComputeToDataError) -> None:
    """Publish that no task begins because the resource's worker does not start. What is known of the line stays."""
    known = read(catalog, attributes, resource) or PublishedLine(0, 0, 0, 0, ())
    publish(catalog, attributes, resource, replace(known, held_up=no_jobs(resource, error)))


def no_jobs(resource: str, error: ComputeToDataError) -> str:
    """``held_up`` for a resource that can run no job. For users: the remedy is an administrator's, and stands in the
    worker's log."""
    return f"{resource} {NO_JOBS}: {error.subject}: {error.cause}"


def _written(line: PublishedLine) -> str:
    first = [[one.running, one.waiting, int(one.oldest)] for one in line.first[:_SHOWN]]
    numbers = {"capacity": line.capacity, "running": line.running, "waiting": line.waiting, "users": line.users}
    optional = {"running_bound": line.running_bound, "held_up": line.held_up[:200]}
    given = {name: value for name, value in optional.items() if value}
    return json.dumps({**numbers, **given, "first": first}, separators=(",", ":"))


def read(catalog: Catalog, attributes: Attributes, resource: str) -> PublishedLine | None:
    """What the worker of a resource published; None when there is nothing that this program understands."""
    avus: Sequence[Avu] = catalog.avus(Entity(EntityKind.RESOURCE, resource), attributes.named(_NAME))
    found = next(iter(avus), None)
    return None if found is None else of_avu(found)


def read_all(found: Mapping[str, Sequence[Avu]]) -> dict[str, PublishedLine]:
    """The lines of all resources, from what ``avus_of_resources`` returns for :func:`attribute`."""
    lines = {resource: of_avu(avus[0]) for resource, avus in found.items() if avus}
    return {resource: line for resource, line in lines.items() if line is not None}


def attribute(attributes: Attributes) -> str:
    """The attribute of the AVU."""
    return attributes.named(_NAME)


def of_avu(avu: Avu) -> PublishedLine | None:
    """The line in the AVU; None for one that this program does not understand."""
    try:
        return _read(json.loads(avu.value), float(avu.units))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _read(document: dict[str, Any], written: float) -> PublishedLine:
    first = tuple(UserNumbers(int(here), int(waiting), float(oldest)) for here, waiting, oldest in document["first"])
    bound = document.get("running_bound")
    return PublishedLine(
        capacity=int(document["capacity"]),
        running=int(document["running"]),
        waiting=int(document["waiting"]),
        users=int(document["users"]),
        first=first,
        running_bound=None if bound is None else int(bound),
        held_up=str(document.get("held_up", "")),
        written=written,
    )
