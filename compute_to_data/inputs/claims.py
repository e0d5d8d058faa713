"""Claims: a task marks a data object of a collection as its input, so that no other task takes it."""

from __future__ import annotations

from collections.abc import Iterator

from compute_to_data.bounds import MOST_MEMBERS
from compute_to_data.coordination.pauses import step_back
from compute_to_data.errors import AccessDenied, Code, Refused
from compute_to_data.inputs.complete import has_content
from compute_to_data.inputs.references import members, readable
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind, Query
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import require

_CLAIM_ATTEMPTS = 50


def eligible(catalog: Catalog, collection: str, claim: str) -> Iterator[DataObject]:
    """The data objects directly in a collection that no task has claimed, by name, without those that are still
    being written."""
    require(catalog, collection, Access.MODIFY_OBJECT, "to claim its data objects as inputs")
    there = members(catalog, collection)
    claimed = set(catalog.find(Query(EntityKind.DATA_OBJECT, claim, within=collection)))
    for member in there:
        if member.logical_path not in claimed and has_content(member):
            yield member


def _claims(catalog: Catalog, data_object: DataObject, claim: str) -> set[Avu]:
    entity = Entity(EntityKind.DATA_OBJECT, data_object.logical_path)
    return set(catalog.avus(entity, claim))


def nothing_to_claim(collection: str, claim: str, *, further: bool = False) -> Refused:
    """The error for a collection that has no unclaimed data object, or no ``further`` one for the same request."""
    return Refused(
        collection,
        f"holds no {'further ' * further}unclaimed data object",
        f"Add a data object, or remove the AVU {claim} from one to process it again",
        code=Code.CAT_NO_ROWS_FOUND,
    )


def claim_next(catalog: Catalog, collection: str, mine: Avu) -> DataObject:
    """Claim the first unclaimed data object for a task, or return the one it has claimed before.

    The catalog has no compare-and-set, so the task writes its claim and then reads all claims. When
    its claim is the only one, the task has won. Otherwise each task that sees another's claim
    removes its own and tries again. Two tasks cannot both win, since each reads only after its own
    claim is visible.
    """
    for logical_path in _claimed(catalog, collection, mine):
        return readable(catalog, logical_path)
    for attempt in range(_CLAIM_ATTEMPTS):
        contested = False
        refusal: AccessDenied | None = None
        for member in eligible(catalog, collection, mine.attribute):
            entity = Entity(EntityKind.DATA_OBJECT, member.logical_path)
            try:
                catalog.annotate(entity, add=[mine])
            except AccessDenied as error:
                refusal = error
                continue
            if _claims(catalog, member, mine.attribute) == {mine}:
                return readable(catalog, member.logical_path)
            catalog.annotate(entity, remove=[mine])
            contested = True
        if not contested:
            raise refusal or nothing_to_claim(collection, mine.attribute)
        step_back(attempt)
    raise Refused(collection, "other tasks keep claiming its data objects first", "Submit the task again")


def claim(catalog: Catalog, data_object: DataObject, mine: Avu) -> bool:
    """Claim one data object, as :func:`claim_next` does; False when another task keeps its claim on it."""
    entity = Entity(EntityKind.DATA_OBJECT, data_object.logical_path)
    for attempt in range(_CLAIM_ATTEMPTS):
        catalog.annotate(entity, add=[mine])
        if _claims(catalog, data_object, mine.attribute) == {mine}:
            return True
        catalog.annotate(entity, remove=[mine])
        step_back(attempt)
        if _claims(catalog, data_object, mine.attribute):
            return False
    raise Refused(data_object.logical_path, "other tasks keep claiming it and giving it up", "Submit the task again")


def unclaim(catalog: Catalog, collection: str, mine: Avu) -> None:
    """Remove all claims of a task in a collection."""
    for logical_path in _claimed(catalog, collection, mine):
        entity = Entity(EntityKind.DATA_OBJECT, logical_path)
        catalog.annotate(entity, remove=[mine])


def _claimed(catalog: Catalog, collection: str, mine: Avu) -> tuple[str, ...]:
    """The data objects of a collection that a task has claimed."""
    return catalog.find(
        Query(EntityKind.DATA_OBJECT, mine.attribute, mine.value, mine.units, within=collection, limit=MOST_MEMBERS)
    )
