"""What a zone can run, and on which resources, as far as a person may see it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compute_to_data import engine_promises
from compute_to_data.coordination import capabilities, role_choice
from compute_to_data.coordination.capabilities import NO_IMAGE
from compute_to_data.errors import Refused
from compute_to_data.model import Avu, EntityKind, Query
from compute_to_data.records.state import State, queue_levels
from compute_to_data.submission import selection

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench


@dataclass(frozen=True)
class ComputeResource:
    """A resource that has roles. ``queued``: how many tasks wait there, of those the person may see.
    ``roles_without_image``: those whose tasks must name an image. ``images``: the names of the images that its engine
    holds and the site allows; None when that is not known. ``engine``: its name; '' when no tasks run there, or
    it is not known."""

    resource: str
    roles: tuple[str, ...]
    is_up: bool
    has_worker: bool
    queued: int
    roles_without_image: tuple[str, ...] = ()
    images: tuple[str, ...] | None = None
    engine: str = ""

    @property
    def promises(self) -> dict[str, str]:
        """What its engine promises, in words."""
        return {promise.value: str(held) for promise, held in engine_promises.of(self.engine).items()}

    def document(self) -> dict[str, Any]:
        """The same as JSON (docs/reference/json.md)."""
        images = None if self.images is None else list(self.images)
        lists = {"roles": list(self.roles), "roles_without_image": list(self.roles_without_image), "images": images}
        return {**vars(self), **lists, "promises": self.promises}


def resources(workbench: Workbench) -> list[ComputeResource]:
    """Every resource that has a role, by name."""
    catalog, attributes = workbench.catalog, workbench.attributes
    known = {one.name: one for one in catalog.resources()}
    described = catalog.avus_of_resources(attributes.role, attributes.named("offer"))
    served = _served(workbench, {*described})
    found = []
    for name, avus in sorted(described.items()):
        roles = sorted(avu.value for avu in avus if avu.attribute == attributes.role)
        offered = [avu for avu in avus if avu.attribute != attributes.role]
        if not roles or name not in known:
            continue
        queued = Query(EntityKind.COLLECTION, attributes.state, State.QUEUED.value, queue_levels(name))
        runs_tasks = _runs_tasks(workbench, roles)
        has_worker = runs_tasks and name in served
        found.append(
            ComputeResource(
                name,
                tuple(roles),
                known[name].is_up,
                has_worker,
                sum(one.count for one in catalog.count_by_owner(queued)),
                tuple(_without_image(workbench, roles, offered)),
                _images(workbench, name) if has_worker else None,
                capabilities.engine_among(offered, workbench.configuration) if runs_tasks else "",
            )
        )
    return found


def _without_image(workbench: Workbench, roles: Sequence[str], avus: Iterable[Avu]) -> list[str]:
    """The roles of a resource whose tasks must name an image: from the site's file, else from what its worker says."""
    without = {avu.value for avu in avus if avu.units == NO_IMAGE}
    try:
        configuration = workbench.configuration
    except Refused:
        return []
    if configuration.zone.kind:  # a file, since what workers publish has no settings of roles
        without |= {name for name, role in configuration.roles.items() if "image" in role_choice.lacking(role)}
    return [one for one in roles if one in without]


def _images(workbench: Workbench, resource: str) -> tuple[str, ...] | None:
    held = workbench.held_images(resource)
    if held is None:
        return None
    return tuple(name for name in held.names if "@" not in name)  # a digest says little to a person


def _runs_tasks(workbench: Workbench, roles: Sequence[str]) -> bool:
    """Whether tasks run on a resource with these roles. Some only receive results."""
    try:
        return not set(roles).isdisjoint(workbench.configuration.roles)
    except Refused:  # no worker publishes a configuration
        return False


def _served(workbench: Workbench, resources: AbstractSet[str]) -> AbstractSet[str]:
    try:
        return selection.with_workers(workbench.catalog, workbench.configuration, resources)
    except Refused:  # no worker publishes a configuration
        return frozenset()


def images(workbench: Workbench) -> list[dict[str, str]]:
    """The images that tasks may use: rules with ``name`` or ``pattern``, and ``digest`` when only one is allowed."""
    try:
        rules = workbench.configuration.images
    except Refused:
        return []
    return [{name: value for name, value in vars(rule).items() if value} for rule in rules]


def limits(workbench: Workbench) -> dict[str, dict[str, float | None]]:
    """The ``default`` and ``maximum`` of each limit that a task may set; None when it is not known here."""
    try:
        configuration = workbench.configuration
    except Refused:
        return {}
    names = ("walltime_seconds", "memory_bytes", "cpus", "pids", "output_bytes", "input_bytes")
    default, maximum = configuration.default_limits, configuration.maximum_limits
    known = {name: {"default": getattr(default, name), "maximum": getattr(maximum, name)} for name in names}
    return {
        name: {which: value if math.isfinite(value) else None for which, value in pair.items()}
        for name, pair in known.items()
    }
