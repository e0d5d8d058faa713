"""Finds an earlier task that computed the same, so that its results need not be computed again.

Two tasks are the same when image content, process or notebook with its parameters, role, the inputs'
names and checksums, and the user are the same. Only a task's owner can write facts on its record. So
only the user's own, sealed tasks count: a user who forges a record misleads only themselves. In a
shared collection other users may be able to change outputs and crate; the digest among the facts
reveals that.
"""

from __future__ import annotations

from dataclasses import dataclass

from compute_to_data.catalog_tree import data_objects
from compute_to_data.configuration import Configuration
from compute_to_data.errors import AccessDenied, NotFound, Refused, TooLarge, ZoneError
from compute_to_data.inputs import references, sandbox_paths
from compute_to_data.job import Image
from compute_to_data.model import DataObject, Entity, EntityKind, Query, ReplicaStatus
from compute_to_data.ports.zone import Catalog
from compute_to_data.provenance import crate, outcome
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.task import CRATE_NAME, InputKind, Task

_NEWEST = 100
"""How many of the user's own tasks with the same fingerprint are looked at, and how many tasks of an image for one
whose image the engine has identified. Anybody can write any fingerprint on collections of their own."""


@dataclass(frozen=True)
class Earlier:
    """A COMPLETED task with the same results: their collection, the resource that it ran on, its end
    (ISO 8601), and the digest of its image."""

    task_id: str
    collection: str
    resource: str
    completed_at: str
    image_digest: str


def find(
    catalog: Catalog, configuration: Configuration, task: Task, role: str, found: references.Resolved
) -> Earlier | None:
    """The user's newest earlier task that computed what ``task`` would compute in ``role``.

    None when there is no such task, or when its outputs are not all there unchanged. ``found`` is what
    the task names and the user may read. A task that takes the next unclaimed input never matches, nor
    does one with an input whose checksum cannot be known, such as what a URL names, nor one with
    results to put. Where the catalog has no checksum
    of an input, the zone computes and records it. Raises the zone's errors.
    """
    if task.put or any(reference.kind in (InputKind.NEXT_OF, InputKind.URL) for reference in task.inputs):
        return None
    named = ((one.target, _checksum(catalog, one.data_object)) for one in found.inputs)
    identity = outcome.fingerprint(task, role, named, sandbox_paths.check(found))
    if not identity:
        return None
    fingerprint = configuration.attributes.named("fingerprint")
    own = Query(EntityKind.COLLECTION, fingerprint, identity, owner=catalog.user, newest_first=True, limit=_NEWEST)
    same = catalog.find(own)
    candidates = (_earlier(catalog, configuration, collection) for collection in same)
    return next((candidate for candidate in candidates if candidate is not None), None)


def _checksum(catalog: Catalog, data_object: DataObject) -> str:
    """The checksum in the catalog, else a computed one; '' when good replicas have different ones, or when
    the user may not have it computed."""
    known = {one.checksum for one in data_object.replicas if one.status is ReplicaStatus.GOOD and one.checksum}
    if known:
        return known.pop() if len(known) == 1 else ""
    try:
        return catalog.checksum(data_object.logical_path)
    except AccessDenied:
        return ""


def _earlier(catalog: Catalog, configuration: Configuration, collection: str) -> Earlier | None:
    """The task of a candidate's collection, if its record can be trusted and its outputs are there."""
    record = TaskRecord(catalog, configuration.attributes, collection, "")
    try:
        facts = record.facts("image", "image_digest", "outputs_digest", "resource", "completed_at")
        image = Image(facts.get("image", ""), facts.get("image_digest", ""))
        if (
            record.sealed_owner() != catalog.user
            or record.state() is not State.COMPLETED
            or not _is_current(catalog, configuration, image)
            or not _are_there(catalog, collection, facts.get("outputs_digest", ""))
        ):
            return None
    except (NotFound, Refused):  # another user could change the record, or it is being removed
        return None
    return Earlier(record.task_id, collection, facts.get("resource", ""), facts.get("completed_at", ""), image.digest)


def _is_current(catalog: Catalog, configuration: Configuration, image: Image) -> bool:
    """Whether the image's name still stands for this content, as far as a user can know.

    The site must allow it, and the user's newest task with an image of that name must have run it. Tasks that
    failed before the engine identified the image do not count.
    """
    if not image.digest or not any(rule.admits(image) for rule in configuration.images):
        return False
    attributes = configuration.attributes
    digest = attributes.named("image_digest")
    newest = Query(EntityKind.COLLECTION, attributes.named("image"), image.name, newest_first=True, limit=_NEWEST)
    for collection in catalog.find(newest):
        digests = {avu.value for avu in catalog.avus(Entity(EntityKind.COLLECTION, collection), digest)}
        if digests:
            return digests == {image.digest}
    return True


def _are_there(catalog: Catalog, collection: str, outputs_digest: str) -> bool:
    """Whether all outputs are there with the checksums they had.

    The crate names the outputs. The digest confirms that it names all of them, and that their
    checksums have not changed.
    """
    try:
        names = crate.output_names(catalog.read(f"{collection}/{CRATE_NAME}", crate.LARGEST))
    except (ZoneError, TooLarge):  # gone, or no replica of it can be read, or the owner put another file there
        return False
    outputs = {item.logical_path[len(collection) + 1 :]: item for item in data_objects(catalog, collection)}
    if names is None or not set(names) <= set(outputs):
        return False
    return outcome.outputs_digest((name, _agreed_checksum(outputs[name])) for name in names) == outputs_digest


def _agreed_checksum(data_object: DataObject) -> str:
    """The checksum of all good replicas; '' when they differ, or when there is none."""
    good = {replica.checksum for replica in data_object.replicas if replica.status is ReplicaStatus.GOOD}
    return good.pop() if len(good) == 1 else ""
