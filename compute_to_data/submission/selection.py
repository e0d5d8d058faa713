"""Chooses the compute resource that a task runs on.

A candidate has the role, is up, has a live worker, and an engine that can run the task. ``ranking`` says which of them
is the best. The worker does not choose again later. How many questions this takes does not depend on the number of
candidates.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from compute_to_data import engine_promises
from compute_to_data.configuration import Configuration
from compute_to_data.coordination import capabilities, heartbeat, held_images, role_choice
from compute_to_data.coordination.held_images import AskImages, HeldImages
from compute_to_data.documents.formats import OWN
from compute_to_data.errors import Code, Refused, zone_error
from compute_to_data.model import DataObject, Entity, EntityKind, Query, Resource
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.state import State, resource_of
from compute_to_data.similar_names import nearest
from compute_to_data.submission.ranking import Ranking
from compute_to_data.task import InputKind, Task


@dataclass(frozen=True)
class Choice:
    """The compute resource, the role that the task takes there, and the reason in words."""

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
    ask_images: AskImages | None = None,
) -> Choice:
    """Choose the compute resource for a task. Refused or a ZoneError when no resource will do.

    ``patient``: accept a resource that has no live worker or is marked down. ``role_remedy``: the remedy for a request
    that may mean several roles; it depends on the format of the request. ``ask_images``: who knows what
    an engine holds, by default the worker's published names.
    """
    ask = ask_images or functools.partial(held_images.published, catalog, configuration.attributes)
    resources = {resource.name: resource for resource in catalog.resources()}
    if task.resource:
        choice = _named(catalog, configuration, task, resources, patient, role_remedy)
        able = _with_engine(catalog, configuration, task, [choice.resource])
        _first_with_images(task, able, ask)
        return choice
    role = _known_role(configuration, task.role)
    candidates = _bearing(catalog, configuration, role, resources)
    ready = _ready(catalog, configuration, role, candidates, patient)
    able = _with_engine(catalog, configuration, task, ready)
    ranking = Ranking(catalog, configuration, able, inputs, _makers_of_inputs(catalog, configuration, task))
    best = _first_with_images(task, ranking, ask)
    return Choice(best, role, f"{ranking.reason(best)} (of {len(able)} with the role {role})")


def _bearing(
    catalog: Catalog, configuration: Configuration, role: str, resources: Mapping[str, Resource]
) -> list[Resource]:
    """The storage resources with a role. Refused when there is none."""
    with_role = catalog.find(Query(EntityKind.RESOURCE, configuration.attributes.role, role))
    found = [resources[name] for name in with_role if name in resources and resources[name].is_storage]
    if not found:
        raise Refused(
            f"role {role}",
            "no compute resource has this role",
            f"An administrator can add it with: imeta add -R <resource> {configuration.attributes.role} {role}",
        )
    return found


def _ready(
    catalog: Catalog, configuration: Configuration, role: str, candidates: Sequence[Resource], patient: bool
) -> Sequence[Resource]:
    """The candidates that are up and have a live worker; for a ``patient`` task at least those that are up, or all.
    Refused when there is none."""
    up = [candidate for candidate in candidates if candidate.is_up]
    served = with_workers(catalog, configuration, {one.name for one in up})
    ready = [candidate for candidate in up if candidate.name in served]
    if not ready and patient:
        return up or candidates
    if not ready:
        names = ", ".join(sorted(candidate.name for candidate in candidates))
        cause = f"no compute resource with this role is up and has a live worker (looked at: {names})"
        raise Refused(f"role {role}", cause, _start_worker_remedy(candidates[0].name))
    return ready


def asked_images(task: Task) -> tuple[str, ...]:
    """The images that the request names; none when it leaves that to the role."""
    if task.tes is not None:
        return task.tes.images
    image = task.process.image if task.process else task.notebook.image if task.notebook else ""
    return (image,) if image else ()


def _with_engine(
    catalog: Catalog, configuration: Configuration, task: Task, ready: Sequence[Resource]
) -> Sequence[Resource]:
    """The resources whose engines have all that the task needs. Refused when there is none."""
    if not engine_promises.may_lack(task):
        return ready
    engines = capabilities.engines(catalog, configuration, [one.name for one in ready])
    lacks = {name: engine_promises.lacking(engine, task) for name, engine in engines.items()}
    able = [one for one in ready if lacks[one.name] is None]
    if able:
        return able
    name, lack = next((name, lack) for name, lack in lacks.items() if lack is not None)
    cause = f"the task needs {lack[1]}, which the engine {engines[name]} of {', '.join(sorted(lacks))} does not have"
    raise Refused(lack[0], cause, "Name a resource with another engine; c2d resources shows what each promises")


def _first_with_images(task: Task, candidates: Iterable[Resource], ask: AskImages) -> Resource:
    """The first of the candidates whose engine may hold the task's images. Refused when there is none."""
    without: dict[str, dict[str, HeldImages]] = {}
    for resource in candidates:
        lack = _lacking_image(task, resource, ask)
        if lack is None:
            return resource
        image, held = lack
        without.setdefault(image, {})[resource.name] = held
    image, known = next(iter(without.items()))
    near = held_images.nearest(image, (name for held in known.values() for name in held.names))
    load = "Load it where its jobs run: its worker sees it within 15 s, on nodes of Slurm within 10 minutes"
    remedy = f"Did you mean {near}? Else: c2d resources lists the images" if near else f"{load}. See: c2d resources"
    names = ", ".join(sorted(known))
    raise Refused(f"image {image}", f"the engine of {names} does not hold it", remedy)


def _lacking_image(task: Task, resource: Resource, ask: AskImages) -> tuple[str, HeldImages] | None:
    """The first image of the task that the engine of a resource does not hold, and what it holds; None for none."""
    for image in asked_images(task):
        held = ask(resource.name, image)
        if held is not None and not held.may_have(image):
            return image, held
    return None


def _makers_of_inputs(catalog: Catalog, configuration: Configuration, task: Task) -> Counter[str]:
    """On each resource, how many unfinished tasks make inputs of this task."""
    unfinished = {state.value for state in State if not state.is_final}
    tasks = {one.logical_path for one in task.inputs if one.kind is InputKind.TASK}
    attribute = configuration.attributes.state
    states = [avu for one in tasks for avu in catalog.avus(Entity(EntityKind.COLLECTION, one), attribute)]
    return Counter(resource_of(avu.units) for avu in states if avu.value in unfinished)


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
            _other_resources(catalog, configuration, task.resource),
        )
    if not resource.is_storage:
        raise Refused(
            f"resource {resource.name}", "is a coordinating resource and holds no data", "Name a storage resource"
        )
    if not resource.is_up and not patient:
        raise zone_error(
            Code.SYS_RESC_IS_DOWN,
            f"resource {resource.name}",
            "is marked down",
            "Name another resource, or a role instead of a resource",
        )
    role, why = _role_there(catalog, configuration, task, resource, role_remedy)
    if not patient and not has_worker(catalog, configuration, resource.name):
        raise Refused(f"resource {resource.name}", "has no live worker", _start_worker_remedy(resource.name))
    return Choice(resource, role, f"the request names {resource.name}{why}")


def _other_resources(catalog: Catalog, configuration: Configuration, given: str) -> str:
    """The compute resources that the user may have meant, as a remedy."""
    attribute = configuration.attributes.role
    known = sorted(set(catalog.find(Query(EntityKind.RESOURCE, attribute))))
    if not known:
        return "No resource of this zone is a compute resource. An administrator can add a role to one"
    near = nearest(given, known)
    return f"{f'Did you mean {near}? ' if near else ''}The compute resources are: {', '.join(known)}"


def _start_worker_remedy(resource: str) -> str:
    return f"An administrator can start one: python3 -m compute_to_data.worker --resource {resource}"


def _role_there(
    catalog: Catalog, configuration: Configuration, task: Task, resource: Resource, remedy: str
) -> tuple[str, str]:
    """The role that the task takes on the resource, and the reason if the resource has several, else ''."""
    attribute = configuration.attributes.role
    roles = {avu.value for avu in catalog.avus(Entity(EntityKind.RESOURCE, resource.name), attribute)}
    if task.role:
        role = _known_role(configuration, task.role)
        if role in roles:
            return role, ""
        raise Refused(
            f"resource {resource.name}",
            f"does not have the role {role} (its roles: {', '.join(sorted(roles)) or 'none'})",
            f"An administrator can add it with: imeta add -R {resource.name} {attribute} {role}",
        )
    known = sorted(roles & set(configuration.roles))
    if len(known) == 1:
        return known[0], ""
    if not known:
        raise Refused(
            f"resource {resource.name}",
            "is not a compute resource: it has no role that this site's configuration knows",
            f"An administrator can add one with: imeta add -R {resource.name} {attribute} <role>, with one of "
            f"{', '.join(sorted(configuration.roles))}",
        )
    return _choose_role(configuration, task, resource, known, remedy)


def _choose_role(
    configuration: Configuration, task: Task, resource: Resource, roles: Sequence[str], remedy: str
) -> tuple[str, str]:
    """The one of several roles that can run the request, and why. Refused when there are several, or none."""
    candidates = role_choice.candidates({name: configuration.roles[name] for name in roles}, task)
    names, asked = ", ".join(roles), role_choice.asked_by(task).value
    if len(candidates) == 1:
        return candidates[0], f"; of its roles ({names}), {candidates[0]} is the one for {asked}"
    if candidates:
        cause = f"has several roles that may run {asked} ({', '.join(candidates)})"
        raise Refused(f"resource {resource.name}", cause, remedy)
    raise Refused(
        f"resource {resource.name}",
        f"has several roles ({names}), but none of them runs {asked}",
        'Name a resource that has such a role, or say what to run in a "process"',
    )


def _known_role(configuration: Configuration, role: str) -> str:
    if role in configuration.roles:
        return role
    raise Refused(
        f"role {role}",
        "is not in this site's configuration",
        f"Known roles: {', '.join(sorted(configuration.roles))}",
    )


def has_worker(catalog: Catalog, configuration: Configuration, resource: str) -> bool:
    """Whether the resource has a fresh heartbeat of a worker, or the site starts workers on demand."""
    return configuration.worker.on_demand or heartbeat.is_served(catalog, configuration, resource)


def with_workers(catalog: Catalog, configuration: Configuration, resources: AbstractSet[str]) -> AbstractSet[str]:
    """Those of the resources for which :func:`has_worker`, all in one question."""
    return resources if configuration.worker.on_demand else resources & heartbeat.served(catalog, configuration)
