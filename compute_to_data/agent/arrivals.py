"""Make a task for a data object that has arrived in a tagged collection.

The tag, an AVU of the collection, names a template: a task document with
``{"arriving_in": <that collection>}`` in the place of its input. Every user who may modify a
collection may tag it, and iRODS does not record who set an AVU. So the tag proves nothing. The
template must therefore belong to the arriving user or to an administrator, no other user may be able
to write it, it must be in a collection of its owner, and it must name the tagged collection. This
proves that the user for whom the task runs, or an administrator, asked for it in this collection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.configuration import Configuration
from compute_to_data.errors import Code, ComputeToDataError, InvalidRequest, NotFound, Refused
from compute_to_data.inputs import claims
from compute_to_data.model import (
    Avu,
    DataObject,
    Entity,
    EntityKind,
    ReplicaStatus,
    User,
    UserKind,
    parent_of,
)
from compute_to_data.ports import Catalog
from compute_to_data.records.task import new_task_id, place_of, refuse_displaced, refuse_tampering
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted

PLACE = "arriving_in"
"""In a template: the place of the data object that has arrived."""
USER = "%(USER)s"
"""In a template's output collection: the user whose data object has arrived."""
_MOST_TAGS = 8


class BeingWritten(Exception):
    """The data object is still being written, or was created empty and will be written later."""


def take(
    catalog: Catalog, configuration: Configuration, logical_path: str, *, written: bool = False
) -> Submitted | None:
    """Make the task for a data object that has arrived. None when there is nothing to do: the data
    object no longer exists, has a task already (it bears a claim), or its collection has no tag.

    ``written``: the data object was opened and closed; if it is empty, it may still be filled. Raises
    BeingWritten. Raises Refused or the zone's error when no task can be made; then it leaves nothing
    behind.
    """
    data_object = _at_rest(catalog, logical_path, written)
    attributes = configuration.attributes
    if data_object is None or _bears(catalog, logical_path, attributes.claim):
        return None
    document = _template(catalog, attributes.named("trigger"), data_object)
    if document is None:
        return None
    task_id = new_task_id()
    mine = Avu(attributes.claim, task_id, place_of(f"{document['output_collection']}/{task_id}"))
    if not claims.claim(catalog, data_object, mine):
        return None
    entity = Entity(EntityKind.DATA_OBJECT, logical_path)
    try:
        submitted = submit.submit(catalog, configuration, document, task_id=task_id, patient=True)
    except BaseException:
        catalog.annotate(entity, remove=[mine])
        raise
    note(catalog, configuration, logical_path, "")
    return submitted


def note(catalog: Catalog, configuration: Configuration, logical_path: str, text: str) -> None:
    """Write on the data object, for its owner, why it has no task; '' removes an earlier note."""
    entity = Entity(EntityKind.DATA_OBJECT, logical_path)
    attribute = configuration.attributes.named("arrival")
    old = {avu for avu in catalog.avus(entity) if avu.attribute == attribute}
    new = {Avu(attribute, text)} if text else set()
    if old != new:
        catalog.annotate(entity, remove=old - new, add=new)


def _at_rest(catalog: Catalog, logical_path: str, written: bool) -> DataObject | None:
    try:
        found = catalog.stat(logical_path)
    except NotFound:
        return None
    if not isinstance(found, DataObject):
        return None
    statuses = {replica.status for replica in found.replicas}
    if ReplicaStatus.GOOD not in statuses or statuses & {ReplicaStatus.INTERMEDIATE, ReplicaStatus.WRITE_LOCKED}:
        raise BeingWritten(logical_path)
    if written and found.size == 0:
        raise BeingWritten(logical_path)
    return found


def _bears(catalog: Catalog, logical_path: str, attribute: str) -> bool:
    return any(avu.attribute == attribute for avu in catalog.avus(Entity(EntityKind.DATA_OBJECT, logical_path)))


def _template(catalog: Catalog, tag: str, data_object: DataObject) -> dict[str, Any] | None:
    """The filled-in document of the first tag whose template is valid for this user; None without
    tags. Refused when no template is valid."""
    logical_path = data_object.logical_path
    collection = parent_of(logical_path)
    avus = catalog.avus(Entity(EntityKind.COLLECTION, collection))
    templates = sorted({avu.value for avu in avus if avu.attribute == tag})
    if logical_path in templates:  # the user updates a template in the tagged collection
        return None
    if len(templates) > _MOST_TAGS:
        raise Refused(collection, f"has {len(templates)} AVUs {tag}", f"Keep at most {_MOST_TAGS}")
    refusals = []
    for template in templates:
        try:
            return _filled(_consented(catalog, template), template, collection, data_object, catalog.user)
        except ComputeToDataError as error:
            refusals.append(error)
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        raise Refused(collection, "no task that it is tagged with can run: " + " ".join(map(str, refusals)))
    return None


def _consented(catalog: Catalog, template: str) -> Any:
    """A template's document. Refused unless it belongs to this user or an administrator, and no other
    user can write it."""
    found = catalog.stat(template)
    if not isinstance(found, DataObject):
        raise InvalidRequest(template, "is a collection, expected a task document")
    rows = catalog.permissions(template)
    administrators = {row.user for row in rows if row.kind is UserKind.RODSADMIN}
    if found.owner != catalog.user and found.owner not in administrators:
        raise Refused(
            template,
            f"belongs to {found.owner}, so it cannot start a task for {catalog.user}",
            "Tag the collection with a document of your own, or ask an administrator for one",
            code=Code.CAT_NO_ACCESS_PERMISSION,
        )
    refuse_tampering(template, rows, found.owner)
    refuse_displaced(catalog, found)
    return submit.read_request(catalog, template)


def _filled(document: Any, template: str, collection: str, data_object: DataObject, user: User) -> dict[str, Any]:
    """The template with the data object as its input."""
    inputs = document.get("inputs") if isinstance(document, Mapping) else None
    places = [one for one in inputs if isinstance(one, Mapping) and PLACE in one] if isinstance(inputs, list) else []
    if len(places) != 1 or places[0].get(PLACE) != collection or not places[0].keys() <= {PLACE, "name"}:
        expected = f'{{"{PLACE}": "{collection}"}}'
        raise InvalidRequest(
            f"{template}#/inputs", f"found no place for the arriving data object, expected {expected} once"
        )
    output = document.get("output_collection")
    if not isinstance(output, str):
        raise InvalidRequest(f"{template}#/output_collection", "found no logical path")
    home_zone = collection.split("/")[1]
    name = user.name if user.zone == home_zone else str(user)
    arrived = {**places[0], "object": data_object.logical_path}
    del arrived[PLACE]
    return {
        **document,
        "inputs": [arrived if one is places[0] else one for one in inputs or ()],
        "output_collection": output.replace(USER, name),
    }
