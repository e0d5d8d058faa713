"""What a request must pass: what the site allows, and what the user may do."""

from __future__ import annotations

from collections.abc import Iterator

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import role_choice
from compute_to_data.coordination.held_images import nearest
from compute_to_data.errors import InvalidRequest, Refused
from compute_to_data.inputs import claims, places, references, sandbox_paths
from compute_to_data.model import Access, DataObject, zone_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.provenance import outcome
from compute_to_data.records import secret
from compute_to_data.records.access import MAKE_IT, require
from compute_to_data.submission import selection
from compute_to_data.task import InputKind, Task
from compute_to_data.urls.address import parse

_SHOWN = 5
"""How many of the allowed images an error names."""


def admit(configuration: Configuration, task: Task) -> None:
    """Refuse what the site does not allow: an image, reserved attributes, limits above its maximum.

    This gives the user an early answer. The worker checks again, with the image that the engine
    really holds.
    """
    for image in selection.asked_images(task):
        if configuration.allows(image) is None:
            raise image_refused(configuration, image)
    for avu in task.metadata:
        if avu.attribute.startswith((configuration.attributes.prefix, configuration.attributes.claim)):
            raise InvalidRequest("/metadata", f"{avu.attribute} is an attribute that this product reserves for itself")
    for url in (*(one.logical_path for one in task.urls), *(one.url for one in task.put)):
        configuration.urls.permit(parse(url))
    limits = configuration.effective_limits(task.limits, task.process.timeout_seconds if task.process else None)
    _check_metadata(task, limits.output_avus)


def _check_metadata(task: Task, most: int) -> None:
    """Refused when the metadata alone are too much for the outputs that the request names, or for one."""
    outputs = max(1, len(task.expected_outputs))
    count = outputs * outcome.weight(task.metadata)
    if count > most:
        cause = f"counts as {count} AVUs on {outputs} outputs, but this site's limit of output_avus is {most:.15g}"
        raise Refused("/metadata", cause, "Give less metadata, or let the program write fewer files")


def check_role(configuration: Configuration, task: Task, role: str) -> None:
    """Refused when the role does not run what the request asks for, or when it has no image or notebook of its own and
    the request names none."""
    _check_kind(configuration.roles[role].implementation, task, role)
    published = not configuration.zone.kind  # capabilities that workers publish do not have the roles' settings
    missing = (
        () if published or task.process or task.tes else role_choice.lacking(configuration.roles[role], task.notebook)
    )
    if missing:
        remedy = f"An administrator can set {' and '.join(f'`{name}`' for name in missing)} for it in the configuration"
        if role_choice.Asked.NOTEBOOK in role_choice.RUNS[configuration.roles[role].implementation]:
            remedy = f'Name one in the request, as in "notebook": {{"image": "..."}} (c2d notebook --image). {remedy}'
        raise Refused(
            f"role {role}", f"has no {' and no '.join(missing)} of its own, and the request names none", remedy
        )


def _check_kind(implementation: str, task: Task, role: str) -> None:
    """InvalidRequest when one of the product's own roles does not run what the request asks for: it would run its own
    program instead, or fail. A site's own class may run anything."""
    asked = role_choice.asked_by(task)
    if asked in role_choice.RUNS.get(implementation, (asked,)):
        return
    if asked is role_choice.Asked.NOTEBOOK:
        cause, remedy = f"is not run by the role {role}", "Choose a role that runs notebooks, such as SIGNAL_PROCESSING"
        raise InvalidRequest("/notebook", cause, remedy)
    remedy = "Add a process to the request, or choose another role"
    raise InvalidRequest("/process", f"is missing, and the role {role} needs it", remedy)


def image_refused(configuration: Configuration, image: str) -> Refused:
    """The error for an image that the site does not allow."""
    names = [rule.name for rule in configuration.images if rule.name]
    near = nearest(image, names)
    ask = "ask the administrator to add it to `images` in the configuration"
    if configuration.zone.kind == "embedded":
        ask = f"add it to `images` in {configuration.source}"
        if configuration.engine.name == "process":
            ask = "for images of Docker, start it and make another zone: c2d zone create DIR --force"
    remedy = f"Did you mean {near}? Else {ask}" if near else f"{ask[0].upper()}{ask[1:]}"
    there = f" ({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})" if names else ""
    return Refused(f"image {image}", f"is not in this site's list of allowed images{there}", remedy)


def authorise(catalog: Catalog, configuration: Configuration, task: Task) -> references.Resolved:
    """Check that the user has all the access that the task needs, and that its inputs are complete; returns
    the inputs known so far. The results of tasks that have not ended are not known."""
    known = [one for one in task.inputs if one.kind is not InputKind.TASK]
    found = references.resolve(catalog, configuration.attributes, known, own=(task.workload,))
    sandbox_paths.check(references.with_fetched(found, task.urls, task.output_collection, catalog.user))
    claim = configuration.attributes.claim
    left: dict[str, Iterator[DataObject]] = {}
    for reference in task.inputs:
        if reference.kind is InputKind.NEXT_OF:
            place = reference.logical_path
            is_further = place in left
            left.setdefault(place, claims.eligible(catalog, place, claim))
            first = next(left[place], None)
            if first is None:
                raise claims.nothing_to_claim(place, claim, further=is_further)
            found = found.claiming(first, reference)
    secret.check(catalog, zone_of(task.output_collection), (*task.secrets, *task.secrets_of_urls))
    require(catalog, task.output_collection, Access.OWN, "to keep a task and its results there", MAKE_IT)
    places.need(catalog, configuration.attributes, task)
    places.need_apart(catalog, configuration.attributes, task)
    return found
