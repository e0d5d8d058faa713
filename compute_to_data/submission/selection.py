"""Which compute resource a task runs on, and why.

A candidate bears the role, is up and has a live worker. Among candidates: the one that already
holds good replicas of most input bytes, then the one with fewest unfinished tasks, then the
first by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import heartbeat, role_choice
from compute_to_data.documents.formats import OWN
from compute_to_data.errors import Code, Refused, zone_error
from compute_to_data.model import DataObject, Entity, EntityKind, Query, Resource
from compute_to_data.ports import Catalog
from compute_to_data.records.task import UNFINISHED, State
from compute_to_data.task import Task


@dataclass(frozen=True)
class Choice:
    """The compute resource, the role to play there, and the reason in words."""

    resource: Resource
    role: str
    reason: str


def choose(
    catalog: Catalog,
    configuration: Configuration,
    task: Task,
    inputs: Sequence[DataObject],
    *,
    patient: bool = False,
    role_remedy: str = OWN.role_remedy,
) -> Choice:
    """The compute resource for a task. Refused, or a ZoneError, saying what stands in the way.

    ``patient``: with nobody waiting, a task is queued also where no worker is alive just now.
    ``role_remedy``: how a request in this task's format can say which of several roles it means.
    """
    resources = {resource.name: resource for resource in catalog.resources()}
    if task.resource:
        return _named(catalog, configuration, task, resources, patient, role_remedy)
    role = _known_role(configuration, task.role)
    bearers = catalog.find(Query(EntityKind.RESOURCE, configuration.attributes.role, role))
    candidates = [resources[name] for name in bearers if name in resources and resources[name].is_storage]
    if not candidates:
        raise Refused(
            f"role {role}",
            "no compute resource bears it",
            f"An administrator can: imeta add -R <resource> {configuration.attributes.role} {role}",
        )
    up = [one for one in candidates if one.is_up]
    ready = [one for one in up if has_worker(catalog, configuration, one.name)] or (up if patient else [])
    if not ready:
        names = ", ".join(sorted(one.name for one in candidates))
        cause = f"no compute resource that bears it is up with a live worker (of: {names})"
        raise Refused(f"role {role}", cause, _start_one(candidates[0].name))
    return _best(catalog, configuration, role, ready, inputs)


def _named(
    catalog: Catalog,
    configuration: Configuration,
    task: Task,
    resources: dict[str, Resource],
    patient: bool,
    role_remedy: str,
) -> Choice:
    resource = resources.get(task.resource)
    if resource is None:
        raise zone_error(
            Code.SYS_RESC_DOES_NOT_EXIST,
            f"resource {task.resource}",
            "does not exist",
            "ilsresc lists the zone's resources",
        )
    if not resource.is_storage:
        raise Refused(
            f"resource {resource.name}", "is a coordinating resource and holds no data", "Name a storage resource"
        )
    if not resource.is_up:
        raise zone_error(
            Code.SYS_RESC_IS_DOWN,
            f"resource {resource.name}",
            "is marked down",
            "Name another, or name a role instead of a resource",
        )
    role, why = _role_there(catalog, configuration, task, resource, role_remedy)
    if not patient and not has_worker(catalog, configuration, resource.name):
        raise Refused(f"resource {resource.name}", "has no live worker", _start_one(resource.name))
    return Choice(resource, role, f"{resource.name} was named by the request{why}")


def _start_one(resource: str) -> str:
    return f"An administrator can start one: python3 -m compute_to_data.worker --resource {resource}"


def _role_there(
    catalog: Catalog, configuration: Configuration, task: Task, resource: Resource, remedy: str
) -> tuple[str, str]:
    """The role to play on the resource, and why that one where it bears several, else ''."""
    attribute = configuration.attributes.role
    borne = {
        avu.value for avu in catalog.avus(Entity(EntityKind.RESOURCE, resource.name)) if avu.attribute == attribute
    }
    if task.role:
        wanted = _known_role(configuration, task.role)
        if wanted in borne:
            return wanted, ""
        raise Refused(
            f"resource {resource.name}",
            f"does not bear the role {wanted} (it bears: {', '.join(sorted(borne)) or 'none'})",
            f"An administrator can: imeta add -R {resource.name} {attribute} {wanted}",
        )
    playable = sorted(borne & set(configuration.roles))
    if len(playable) == 1:
        return playable[0], ""
    if not playable:
        raise Refused(
            f"resource {resource.name}",
            "is not a compute resource: it bears no role that this site's configuration knows",
            f"An administrator can: imeta add -R {resource.name} {attribute} <role>, with one of "
            f"{', '.join(sorted(configuration.roles))}",
        )
    return _meant(configuration, task, resource, playable, remedy)


def _meant(
    configuration: Configuration, task: Task, resource: Resource, borne: Sequence[str], remedy: str
) -> tuple[str, str]:
    """The one of several roles that the request means, and why. Refused when it may mean several, or none."""
    found = role_choice.candidates({name: configuration.roles[name] for name in borne}, task)
    names, asked = ", ".join(borne), role_choice.asked_by(task).value
    if len(found) == 1:
        return found[0], f"; of its roles ({names}), {found[0]} is the one for {asked}"
    if found:
        cause = f"bears several roles that may run {asked} ({', '.join(found)})"
        raise Refused(f"resource {resource.name}", cause, remedy)
    raise Refused(
        f"resource {resource.name}",
        f"bears several roles ({names}), and none of them runs {asked}",
        'Name a resource that bears a role which does, or say what to run in a "process"',
    )


def _known_role(configuration: Configuration, role: str) -> str:
    if role in configuration.roles:
        return role
    raise Refused(
        f"role {role}",
        "is not in this site's configuration",
        f"Known roles: {', '.join(sorted(configuration.roles))}",
    )


def _best(
    catalog: Catalog,
    configuration: Configuration,
    role: str,
    ready: Sequence[Resource],
    inputs: Sequence[DataObject],
) -> Choice:
    total = sum(data_object.size for data_object in inputs)

    def held(resource: Resource) -> int:
        return sum(one.size for one in inputs if one.good_replica_on(resource.name) is not None)

    def load(resource: Resource) -> int:
        states = (State.QUEUED, *UNFINISHED)
        attribute = configuration.attributes.state
        queries = [Query(EntityKind.COLLECTION, attribute, state.value, resource.name) for state in states]
        return sum(len(catalog.find(query)) for query in queries)

    best = min(ready, key=lambda one: (-held(one), load(one), one.name))
    return Choice(
        best,
        role,
        f"{best.name} holds {held(best)} of {total} input bytes and has {load(best)} unfinished tasks "
        f"(of {len(ready)} with the role {role})",
    )


def has_worker(catalog: Catalog, configuration: Configuration, resource: str) -> bool:
    """Whether a worker's sign of life on the resource is fresh, or one may be started on demand."""
    if configuration.worker.on_demand:
        return True
    return any(map(heartbeat.is_fresh, heartbeat.heartbeats(catalog, configuration, resource)))
