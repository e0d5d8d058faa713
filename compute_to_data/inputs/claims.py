"""Claims: which of the waiting data objects of a collection a task takes as its input."""

from __future__ import annotations

from collections.abc import Iterator

from compute_to_data.coordination.pauses import step_back
from compute_to_data.errors import Code, Refused
from compute_to_data.inputs.references import members, readable
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind, Query
from compute_to_data.ports import Catalog
from compute_to_data.records.task import require

_CLAIM_ATTEMPTS = 50


def eligible(catalog: Catalog, collection: str, claim: str) -> Iterator[DataObject]:
    """Members that bear no claim, by name."""
    require(catalog, collection, Access.MODIFY_OBJECT, "to claim its data objects as inputs")
    claimed = set(catalog.find(Query(EntityKind.DATA_OBJECT, claim, within=collection)))
    for member in members(catalog, collection):
        if member.logical_path not in claimed:
            yield member


def _claims(catalog: Catalog, data_object: DataObject, claim: str) -> set[Avu]:
    entity = Entity(EntityKind.DATA_OBJECT, data_object.logical_path)
    return {avu for avu in catalog.avus(entity) if avu.attribute == claim}


def nothing_to_claim(collection: str, claim: str) -> Refused:
    """The refusal when a collection has no eligible input left."""
    return Refused(
        collection,
        "holds no data object that no task has claimed yet",
        f"Put one there, or remove the AVU {claim} from one that is to be processed again",
        code=Code.CAT_NO_ROWS_FOUND,
    )


def claim_next(catalog: Catalog, collection: str, mine: Avu) -> DataObject:
    """Claim the first eligible data object for a task, or find the one it has claimed before.

    The catalog has no compare-and-set. So a task puts its claim and then looks: alone, it has
    won; with others, all who see each other step back and try again. Two can never both win,
    since each looks only after its own claim is visible.
    """
    for logical_path in _claimed(catalog, collection, mine):
        return readable(catalog, logical_path)
    for attempt in range(_CLAIM_ATTEMPTS):
        contested = False
        for member in eligible(catalog, collection, mine.attribute):
            entity = Entity(EntityKind.DATA_OBJECT, member.logical_path)
            catalog.annotate(entity, add=[mine])
            if _claims(catalog, member, mine.attribute) == {mine}:
                return readable(catalog, member.logical_path)
            catalog.annotate(entity, remove=[mine])
            contested = True
        if not contested:
            raise nothing_to_claim(collection, mine.attribute)
        step_back(attempt)
    raise Refused(collection, "other tasks keep claiming its data objects first", "Submit the task again")


def claim(catalog: Catalog, data_object: DataObject, mine: Avu) -> bool:
    """Claim one data object, as :func:`claim_next` does; False when another claim is there to stay."""
    entity = Entity(EntityKind.DATA_OBJECT, data_object.logical_path)
    for attempt in range(_CLAIM_ATTEMPTS):
        catalog.annotate(entity, add=[mine])
        if _claims(catalog, data_object, mine.attribute) == {mine}:
            return True
        catalog.annotate(entity, remove=[mine])
        step_back(attempt)
        if _claims(catalog, data_object, mine.attribute):
            return False
    raise Refused(data_object.logical_path, "others keep claiming it and stepping back")


def unclaim(catalog: Catalog, collection: str, mine: Avu) -> None:
    """Take back whatever a task has claimed in a collection."""
    for logical_path in _claimed(catalog, collection, mine):
        entity = Entity(EntityKind.DATA_OBJECT, logical_path)
        catalog.annotate(entity, remove=[mine])


def _claimed(catalog: Catalog, collection: str, mine: Avu) -> tuple[str, ...]:
    """The data objects of a collection that bear a task's claim."""
    return catalog.find(Query(EntityKind.DATA_OBJECT, mine.attribute, mine.value, mine.units, within=collection))
