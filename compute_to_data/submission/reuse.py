"""An earlier task that computed the very same, so that its results need not be computed again.

The same: image content, process or notebook with its parameters, role, and the inputs' names and
checksums, for the same user. Whoever owns a task can write any fact on its record, and nobody
else can; so only the user's own, sealed tasks count, and whoever forges one misleads themselves.
In a shared collection others may be able to change outputs and crate: the digest among the facts
tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compute_to_data.catalog_tree import data_objects
from compute_to_data.configuration import Configuration
from compute_to_data.errors import AccessDenied, NotFound, Refused, ZoneError
from compute_to_data.inputs import references
from compute_to_data.job import Image
from compute_to_data.model import DataObject, Entity, EntityKind, Query, ReplicaStatus
from compute_to_data.ports import Catalog
from compute_to_data.provenance import crate, outcome
from compute_to_data.records.task import State, TaskRecord
from compute_to_data.task import CRATE_NAME, InputKind, Task


@dataclass(frozen=True)
class Earlier:
    """A COMPLETED task with the same results: where they are, where it ran and when it ended
    (ISO 8601), and the digest of its image."""

    task_id: str
    collection: str
    resource: str
    completed_at: str
    image_digest: str


def find(
    catalog: Catalog, configuration: Configuration, task: Task, role: str, inputs: Sequence[DataObject]
) -> Earlier | None:
    """The user's newest earlier task that computed what ``task`` would in ``role``, if all its
    outputs are still there, unchanged; else None.

    ``inputs`` are the data objects that the task names, which the user may read. A task that
    takes the next unclaimed input is like no other. Checksums that the catalog does not hold are
    computed and recorded. Raises what the zone raises.
    """
    if any(reference.kind is InputKind.NEXT_OF for reference in task.inputs):
        return None
    places = references.targets(inputs, task.inputs)
    named = ((place, _checksum(catalog, one)) for place, one in zip(places, inputs))
    identity = outcome.fingerprint(task, role, named)
    if not identity:
        return None
    fingerprint = configuration.attributes.named("fingerprint")
    found = catalog.find(Query(EntityKind.COLLECTION, fingerprint, identity, newest_first=True))
    candidates = (_earlier(catalog, configuration, collection) for collection in found)
    return next((one for one in candidates if one is not None), None)


def _checksum(catalog: Catalog, data_object: DataObject) -> str:
    """The catalog's, computed where it has none; '' where the user may not have that done."""
    for replica in data_object.replicas:
        if replica.status is ReplicaStatus.GOOD and replica.checksum:
            return replica.checksum
    try:
        return catalog.checksum(data_object.logical_path)
    except AccessDenied:
        return ""


def _earlier(catalog: Catalog, configuration: Configuration, collection: str) -> Earlier | None:
    """What a candidate is, if it holds what it says."""
    record = TaskRecord(catalog, configuration.attributes, collection, "")
    try:
        facts = record.facts()
        image = Image(facts.get("image", ""), facts.get("image_digest", ""))
        if (
            record.sealed_owner() != catalog.user
            or record.state() is not State.COMPLETED
            or not _is_current(catalog, configuration, image)
            or not _are_there(catalog, collection, facts.get("outputs_digest", ""))
        ):
            return None
    except (NotFound, Refused):  # a record that somebody else could change, or that is going just now
        return None
    return Earlier(record.task_id, collection, facts.get("resource", ""), facts.get("completed_at", ""), image.digest)


def _is_current(catalog: Catalog, configuration: Configuration, image: Image) -> bool:
    """Whether the image's name still stands for this content, as far as a user can know: the
    site allows it, and the user's newest task of that image ran it."""
    if not image.digest or not any(rule.admits(image) for rule in configuration.images):
        return False
    attributes = configuration.attributes
    newest = catalog.find(
        Query(EntityKind.COLLECTION, attributes.named("image"), image.name, newest_first=True, limit=1)
    )
    digests = {
        avu.value
        for collection in newest
        for avu in catalog.avus(Entity(EntityKind.COLLECTION, collection))
        if avu.attribute == attributes.named("image_digest")
    }
    return digests <= {image.digest}


def _are_there(catalog: Catalog, collection: str, outputs_digest: str) -> bool:
    """Whether all outputs are there with the checksums they had. The crate names them; that it
    names them all, and that the checksums are the old ones, the digest says."""
    try:
        names = crate.output_names(catalog.read(f"{collection}/{CRATE_NAME}"))
    except ZoneError:  # gone, or no replica of it can be read
        return False
    there = {one.logical_path[len(collection) + 1 :]: one for one in data_objects(catalog, collection)}
    if names is None or not set(names) <= set(there):
        return False
    return outcome.outputs_digest((name, _agreed_checksum(there[name])) for name in names) == outputs_digest


def _agreed_checksum(data_object: DataObject) -> str:
    """What all its good replicas have; '' when they differ, or there is none."""
    good = {one.checksum for one in data_object.replicas if one.status is ReplicaStatus.GOOD}
    return good.pop() if len(good) == 1 else ""
