"""Make a task for a data object that has arrived in a tagged collection.

The tag, an AVU of the collection, names a template: a task document with
``{"arriving_in": <that collection>}`` in the place of its input. Every user who may modify a
collection may tag it, and iRODS does not record who set an AVU. So the tag proves nothing. The
template must therefore belong to the arriving user or to an administrator, no other user may be able
to write it, it must be in a collection of its owner, and it must name the tagged collection. This
proves that the user for whom the task runs, or an administrator, asked for it in this collection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from compute_to_data.bounds import MOST_PERMISSIONS
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.errors import Code, ComputeToDataError, InvalidRequest, NotFound, OutOfReach, Refused, ZoneError
from compute_to_data.inputs import claims
from compute_to_data.irods_names import shown
from compute_to_data.model import (
    Avu,
    DataObject,
    Entity,
    EntityKind,
    Query,
    User,
    UserKind,
    name_of,
    parent_of,
    zone_of,
)
from compute_to_data.plain_text import CONTROL
from compute_to_data.ports.zone import Catalog
from compute_to_data.records import readable
from compute_to_data.records.access import refuse_displaced, refuse_tampering
from compute_to_data.records.arrival import at_rest
from compute_to_data.records.task import TaskRecord, new_task_id, place_of
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted

PLACE = "arriving_in"
"""In a template: the place of the data object that has arrived."""
USER = "%(USER)s"
"""In a template's output collection: the user whose data object has arrived."""
_MOST_TAGS = 8
_LONGEST_REASON = 900


def take(
    catalog: Catalog,
    configuration: Configuration,
    logical_path: str,
    *,
    written: bool = False,
    noted: Sequence[str] = (),
) -> Submitted | None:
    """Make the task for a data object that has arrived. None when there is nothing to do: the data
    object no longer exists, has a task already (it bears a claim), or its collection has no tag.

    ``written``: as for :func:`at_rest`, which raises BeingWritten. ``noted``: the ids that the task may have; one of
    them that a claim has already is the work of a worker that was killed, and is brought to its end. Raises Refused or
    the zone's error when no task can be made; then it leaves nothing behind.
    """
    data_object = at_rest(catalog, logical_path, written)
    attributes = configuration.attributes
    if data_object is None:
        return None
    begun = _begun(catalog, attributes, logical_path, noted)
    if begun is None:
        return None
    found = _template_or_no_claim(catalog, attributes, data_object, begun)
    if found is None:
        return None
    template, document = found
    task_id = begun[0].value if begun else next(iter(noted), "") or new_task_id()
    mine = _claimed(catalog, attributes, data_object, f"{document['output_collection']}/{task_id}", begun)
    if mine is None:
        return None
    try:
        submitted = submit.submit(catalog, configuration, document, task_id=task_id, patient=True)
    except BaseException as error:
        catalog.annotate(Entity(EntityKind.DATA_OBJECT, logical_path), remove=[mine])
        if isinstance(error, InvalidRequest):
            raise _of_template(error, template) from error
        raise
    explain(catalog, configuration, logical_path, "")
    return submitted


def _template_or_no_claim(
    catalog: Catalog, attributes: Attributes, data_object: DataObject, begun: Sequence[Avu]
) -> tuple[str, dict[str, Any]] | None:
    """As :func:`_template`. Without a template, whatever the reason, it removes the claims ``begun``."""
    found = None
    try:
        found = _template(catalog, attributes.named("trigger"), data_object)
    finally:
        if found is None:
            catalog.annotate(Entity(EntityKind.DATA_OBJECT, data_object.logical_path), remove=begun)
    return found


def _of_template(error: InvalidRequest, template: str) -> InvalidRequest:
    """The same error with the template's path before a JSON pointer: a collection may have several tags."""
    place = "" if error.subject == "document" else error.subject
    if place and (not place.startswith("/") or place.startswith(f"/{zone_of(template)}/")):
        return error
    return InvalidRequest(f"{template}#{place}".rstrip("#"), error.cause, error.remedy)


def _begun(catalog: Catalog, attributes: Attributes, logical_path: str, noted: Sequence[str]) -> list[Avu] | None:
    """The claims by which a worker that was killed had begun this work. None when the data object has a task, be it of
    this work or another one."""
    entity = Entity(EntityKind.DATA_OBJECT, logical_path)
    held = catalog.avus(entity, attributes.claim)
    begun = [avu for avu in held if avu.value in noted]
    if len(begun) < len(held):
        catalog.annotate(entity, remove=begun)
        return None
    return None if begun and _is_recorded(catalog, attributes, begun[0].value) else begun


def _claimed(
    catalog: Catalog, attributes: Attributes, data_object: DataObject, collection: str, begun: Sequence[Avu]
) -> Avu | None:
    """Claim a data object for the task with this collection; None when another task has claimed it. ``begun``: the
    claims of a worker that was killed, whose work is removed first."""
    mine = Avu(attributes.claim, name_of(collection), place_of(collection))
    if begun:
        _clear(TaskRecord(catalog, attributes, collection, ""))
        entity = Entity(EntityKind.DATA_OBJECT, data_object.logical_path)
        catalog.annotate(entity, add=[mine], remove={*begun} - {mine})
        return mine
    return mine if claims.claim(catalog, data_object, mine) else None


def _is_recorded(catalog: Catalog, attributes: Attributes, task_id: str) -> bool:
    """Whether this user has a task of this id."""
    query = Query(EntityKind.COLLECTION, attributes.named("task_id"), task_id, owner=catalog.user, limit=1)
    return bool(catalog.find(query))


def _clear(record: TaskRecord) -> None:
    """Remove what a killed worker left of a task whose state it had not recorded. The zone's error (-821000) when
    anything else is in its collection."""
    try:
        if record.state() is not None:
            return
    except NotFound:
        return
    with contextlib.suppress(NotFound):
        record.catalog.remove(record.request_path)
    record.catalog.remove(record.collection)


def explain(catalog: Catalog, configuration: Configuration, logical_path: str, text: str) -> None:
    """Write on the data object, for its owner, why it has no task: the first 900 characters of that. '' removes what
    was written before."""
    entity = Entity(EntityKind.DATA_OBJECT, logical_path)
    attribute = configuration.attributes.named("arrival")
    old = set(catalog.avus(entity, attribute))
    new = {Avu(attribute, text[:_LONGEST_REASON])} if text else set()
    if old != new:
        catalog.annotate(entity, remove=old - new, add=new)


def _template(catalog: Catalog, tag: str, data_object: DataObject) -> tuple[str, dict[str, Any]] | None:
    """The first template of the tags that is valid for this user, and its filled-in document; None without
    tags. Refused when no template is valid."""
    logical_path = data_object.logical_path
    collection = parent_of(logical_path)
    templates = sorted({avu.value for avu in catalog.avus(Entity(EntityKind.COLLECTION, collection), tag)})
    if logical_path in templates:  # the user updates a template in the tagged collection
        return None
    if len(templates) > _MOST_TAGS:
        raise Refused(collection, f"has {len(templates)} AVUs {tag}", f"Keep at most {_MOST_TAGS}")
    refusals: list[ComputeToDataError] = []
    for template in templates:
        try:
            return template, _filled(_consented(catalog, template), template, collection, data_object, catalog.user)
        except OutOfReach:
            raise
        except ZoneError as error:
            readable.need_after(catalog, error, template)
            remedy = f"Correct or remove the AVU {tag} of {collection}, which names it"
            if isinstance(error, NotFound):
                remedy = f"{remedy}; or, if it is another user's, leave it, and add one of your own"
            refusals.append(type(error)(f"template {shown(template)}", error.cause, remedy, code=error.code))
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
    rows = catalog.permissions(template, MOST_PERMISSIONS)
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
    if CONTROL.search(data_object.logical_path):
        cause = "has a control character in its path, which no request can hold"
        raise InvalidRequest(shown(data_object.logical_path), cause, "Put it again under another name")
    home_zone = collection.split("/")[1]
    name = user.name if user.zone == home_zone else str(user)
    arrived = {**places[0], "object": data_object.logical_path}
    del arrived[PLACE]
    return {
        **document,
        "inputs": [arrived if one is places[0] else one for one in inputs or ()],
        "output_collection": output.replace(USER, name),
    }
