"""The columns of what bears AVUs, and the conditions of questions about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compute_to_data.model import Entity, EntityKind, Query, name_of, parent_of
from compute_to_data.zones.irods.query import Among, Begins, Column, Condition, Differs, Equals

META = {
    EntityKind.DATA_OBJECT: Column.META_DATA,
    EntityKind.COLLECTION: Column.META_COLL,
    EntityKind.RESOURCE: Column.META_RESC,
    EntityKind.USER: Column.META_USER,
}
NAMES = {
    EntityKind.DATA_OBJECT: (Column.DATA_ID, Column.COLL_NAME, Column.DATA_NAME),
    EntityKind.COLLECTION: (Column.COLL_ID, Column.COLL_NAME),
    EntityKind.RESOURCE: (Column.RESC_ID, Column.RESC_NAME),
    EntityKind.USER: (Column.USER_ID, Column.USER_NAME, Column.USER_ZONE),
}
OWNERS = {
    EntityKind.DATA_OBJECT: (Column.DATA_OWNER, Column.DATA_OWNER_ZONE),
    EntityKind.COLLECTION: (Column.COLL_OWNER, Column.COLL_OWNER_ZONE),
}
_HOLDERS = {EntityKind.DATA_OBJECT: Column.COLL_NAME, EntityKind.COLLECTION: Column.COLL_PARENT}
"""The column of the collection that an entity is a direct member of."""
_NAMES_AT_ONCE, _LETTERS_AT_ONCE = 50, 4000
"""How many names one request has, and their letters together: the server limits the length of its statement."""


def the_one(entity: Entity) -> list[Equals]:
    """The conditions that select an entity."""
    if entity.kind is EntityKind.DATA_OBJECT:
        above, name = parent_of(entity.name), name_of(entity.name)
        return [Equals(Column.COLL_NAME, above), Equals(Column.DATA_NAME, name)]
    if entity.kind is EntityKind.COLLECTION:
        return [Equals(Column.COLL_NAME, entity.name)]
    if entity.kind is EntityKind.RESOURCE:
        return [Equals(Column.RESC_NAME, entity.name)]
    name, _, zone = entity.name.rpartition("#")
    return [Equals(Column.USER_NAME, name), Equals(Column.USER_ZONE, zone)]


def among(column: int, texts: Sequence[str]) -> Iterator[Sequence[Condition]]:
    """The conditions of the requests that together find the rows with one of these texts in a column."""
    plain = [name for name in texts if Among.can_hold(name)]
    yield from ([Equals(column, name)] for name in texts if not Among.can_hold(name))
    while plain:
        some: list[str] = []
        size = 0
        while plain and (not some or (len(some) < _NAMES_AT_ONCE and size + len(plain[-1]) < _LETTERS_AT_ONCE)):
            size += len(plain[-1])
            some.append(plain.pop())
        yield [Among(column, some)]


def of_avu(query: Query) -> list[Condition]:
    """The conditions for the AVU of a query."""
    attribute = META[query.kind]
    conditions: list[Condition] = [Equals(attribute, query.attribute)]
    conditions += [Equals(attribute + 1, query.value)] if query.value is not None else []
    conditions += [Begins(attribute + 1, query.beginning)] if query.beginning else []
    if query.units is not None:
        listed = query.units_listed
        conditions.append(Equals(attribute + 2, listed[0]) if len(listed) == 1 else Among(attribute + 2, listed))
    return conditions


def admits(query: Query, value: str, units: str) -> bool:
    """Whether an AVU with the attribute of a query has a value and units that match it."""
    if query.value is not None and value != query.value:
        return False
    return value.startswith(query.beginning) and (query.units is None or units in query.units_listed)


def of_place(query: Query) -> list[Condition]:
    """The conditions for the owner and the place of what bears the AVU."""
    conditions: list[Condition] = []
    if query.owner is not None:
        owner, zone = OWNERS[query.kind]
        conditions += [Equals(owner, query.owner.name), Equals(zone, query.owner.zone)]
    conditions += [Equals(_HOLDERS[query.kind], query.within)] if query.within else []
    conditions += [Differs(_HOLDERS[query.kind], collection) for collection in query.excluding]
    return conditions
