"""Reads and changes AVUs, and finds entities by their AVUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import JSON_Message, MetadataRequest

from compute_to_data import bounds
from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_avus, is_misread_by_43
from compute_to_data.model import Avu, Entity, EntityKind, OwnerCount, Query, Row, User, name_of, parent_of
from compute_to_data.zones.irods import lookup
from compute_to_data.zones.irods.failures import about, shown
from compute_to_data.zones.irods.query import COUNT, MINIMUM, Among, Begins, Column, Condition, Differs, Equals, select
from compute_to_data.zones.irods.wire import ask

_META = {
    EntityKind.DATA_OBJECT: Column.META_DATA,
    EntityKind.COLLECTION: Column.META_COLL,
    EntityKind.RESOURCE: Column.META_RESC,
    EntityKind.USER: Column.META_USER,
}
_NAMES = {
    EntityKind.DATA_OBJECT: (Column.DATA_ID, Column.COLL_NAME, Column.DATA_NAME),
    EntityKind.COLLECTION: (Column.COLL_ID, Column.COLL_NAME),
    EntityKind.RESOURCE: (Column.RESC_ID, Column.RESC_NAME),
    EntityKind.USER: (Column.USER_ID, Column.USER_NAME, Column.USER_ZONE),
}
_OPTIONS = {
    EntityKind.DATA_OBJECT: "-d",
    EntityKind.COLLECTION: "-C",
    EntityKind.RESOURCE: "-R",
    EntityKind.USER: "-u",
}
_OWNERS = {
    EntityKind.DATA_OBJECT: (Column.DATA_OWNER, Column.DATA_OWNER_ZONE),
    EntityKind.COLLECTION: (Column.COLL_OWNER, Column.COLL_OWNER_ZONE),
}
_HOLDERS = {EntityKind.DATA_OBJECT: Column.COLL_NAME, EntityKind.COLLECTION: Column.COLL_PARENT}
"""The column of the collection that an entity is a direct member of."""
_NAMES_AT_ONCE, _LETTERS_AT_ONCE = 50, 4000
"""How many names one request has, and their letters together: the server limits the length of its statement."""
_FEW = 256
"""How many rows one answer holds (``query.py``)."""
_BETWEEN = {EntityKind.DATA_OBJECT: "/", EntityKind.USER: "#"}


def annotate(
    connection: Connection, entity: Entity, add: Sequence[Avu], remove: Sequence[Avu], *, administering: bool = False
) -> None:
    """As ``Catalog.annotate``: one atomic call, and further calls for AVUs that it did not remove."""
    check_avus((*remove, *add), shown(entity.name))
    request = {
        "admin_mode": administering,
        "entity_name": _name_in_a_call(connection, entity),
        "entity_type": entity.kind.value,
        "operations": [*_operations("remove", remove), *_operations("add", add)],
    }
    with about(entity.name):
        if connection.server_version < (5,) and is_misread_by_43(entity):
            _annotate_singly(connection, entity, add, {*remove} - {*add}, administering)
            return
        message = JSON_Message(request, connection.server_version)
        ask(connection, api_number["ATOMIC_APPLY_METADATA_OPERATIONS_APN"], message)
        if remove:
            _remove_twins(connection, entity, {*remove} - {*add}, administering)


def _annotate_singly(
    connection: Connection, entity: Entity, add: Sequence[Avu], remove: set[Avu], administering: bool
) -> None:
    """Each AVU in a call of its own, for an entity that the atomic call of iRODS 4.3 does not find.

    It adds before it removes: if it is cut short, a task has its old state besides the new one, and never none.
    """
    options = {"irodsAdmin": ""} if administering else {}
    there = {Avu(*row[:3]) for row in _rows_like(connection, entity, {*add})} if add else set()
    for avu in dict.fromkeys(add):
        if avu not in there:
            words = (avu.attribute, avu.value, avu.units)
            message = MetadataRequest("add", _OPTIONS[entity.kind], entity.name, *words, **options)
            ask(connection, api_number["MOD_AVU_METADATA_AN"], message)
    _remove_twins(connection, entity, remove, administering)


def _remove_twins(connection: Connection, entity: Entity, unwanted: set[Avu], administering: bool) -> None:
    """Remove the AVUs that the atomic call did not remove.

    When several agents add the same new triple at the same moment, each of them makes a row for it
    in the catalog. To remove a triple, iRODS looks up one of these rows. If the entity has another
    one, iRODS removes nothing and reports no error. Removing by the row's number always works.
    """
    options = {"irodsAdmin": ""} if administering else {}
    for attribute, value, units, number in _rows_like(connection, entity, unwanted) if unwanted else ():
        if Avu(attribute, value, units) in unwanted:
            # The server ignores the value here, but without one its agent crashes.
            message = MetadataRequest("rmi", _OPTIONS[entity.kind], entity.name, number, value, **options)
            ask(connection, api_number["MOD_AVU_METADATA_AN"], message)


def _rows_like(connection: Connection, entity: Entity, avus: set[Avu]) -> Iterator[tuple[str, ...]]:
    """The rows of an entity's AVUs with the attributes of these; where there are many, with their values, too."""
    first = _META[entity.kind]
    columns = [first, first + 1, first + 2, first + 3]
    for conditions in _with(first, sorted({avu.attribute for avu in avus})):
        here = [*_the_one(entity), *conditions]
        found = select(connection, columns, here, limit=_FEW)
        if len(found) < _FEW:
            yield from found
            continue
        for values in _among(first + 1, sorted({avu.value for avu in avus})):
            yield from select(connection, columns, [*here, *values], limit=_FEW)


def copy(connection: Connection, source: str, target: str) -> None:
    """Give a data object all AVUs of another: all of them or none. ServerError.

    One statement in the catalog (``imeta cp``), 5 times as fast as the atomic call for 15 AVUs. It
    fails with -809000 when the target already has one of them.
    """
    message = MetadataRequest("cp", "-d", "-d", source, target)
    ask(connection, api_number["MOD_AVU_METADATA_AN"], message)


def _name_in_a_call(connection: Connection, entity: Entity) -> str:
    """The entity's name in the atomic call, which names users without their zone.

    SYS_NOT_SUPPORTED for a user when another zone's user has the same name.
    """
    if entity.kind is not EntityKind.USER:
        return entity.name
    name, _, zone = entity.name.rpartition("#")
    zones = [row[0] for row in select(connection, [Column.USER_ZONE], [Equals(Column.USER_NAME, name)])]
    if zone not in zones:
        raise zone_error(Code.SYS_INVALID_INPUT_PARAM, entity.name, "no such user")
    if len(zones) > 1:
        raise zone_error(Code.SYS_NOT_SUPPORTED, entity.name, "a user of another zone has that name too")
    return name


def _operations(operation: str, avus: Sequence[Avu]) -> list[dict[str, str]]:
    return [
        {
            "operation": operation,
            "attribute": avu.attribute,
            "value": avu.value,
            **({"units": avu.units} if avu.units else {}),
        }
        for avu in avus
    ]


def set_one(connection: Connection, collection: str, avu: Avu) -> None:
    """As ``Catalog.set_avu`` (``imeta set``): the server removes the others with one statement, and adds this one, in
    one transaction."""
    check_avus([avu], shown(collection))
    message = MetadataRequest("set", "-C", collection, avu.attribute, avu.value, avu.units)
    with about(collection):
        ask(connection, api_number["MOD_AVU_METADATA_AN"], message)


def read(connection: Connection, entity: Entity, attributes: Sequence[str], most: int | None = None) -> tuple[Avu, ...]:
    """As ``Catalog.avus``."""
    first = _META[entity.kind]
    found: list[Avu] = []
    for conditions in _with(first, attributes):
        limit = bounds.most_avus(most) + 1 - len(found)
        rows = select(connection, [first, first + 1, first + 2], [*_the_one(entity), *conditions], limit=limit)
        found += [Avu(*row) for row in rows]
    if not found:
        _need(connection, entity)
    return bounds.check_avus(shown(entity.name), attributes, sorted(found), most)


def _with(column: int, attributes: Sequence[str]) -> Iterator[Sequence[Condition]]:
    """The conditions of each request for AVUs of these attributes; of one request without any, for all."""
    if not attributes:
        yield []
    elif len(attributes) == 1:
        yield [Equals(column, attributes[0])]
    else:
        yield from _among(column, attributes)


def _the_one(entity: Entity) -> list[Equals]:
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


def _need(connection: Connection, entity: Entity) -> None:
    """NotFound when the entity is missing or hidden."""
    identity = _NAMES[entity.kind][0]
    if select(connection, [identity], _the_one(entity)):
        return
    if entity.kind is EntityKind.RESOURCE:
        raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, entity.name, "no such resource")
    if entity.kind is EntityKind.USER:
        raise zone_error(Code.CAT_INVALID_USER, entity.name, "no such user")
    raise lookup.missing(entity.name)


def find(connection: Connection, query: Query) -> tuple[str, ...]:
    """As ``Catalog.find``. Orders by id, since ids grow with time and times have only whole seconds."""
    found = _select(connection, bounds.bounded(query), _NAMES[query.kind])
    return bounds.check_found(query, [_BETWEEN.get(query.kind, "").join(row[1:]) for row in found])


def rows(connection: Connection, query: Query) -> tuple[Row, ...]:
    """As ``ClientCatalog.query``."""
    query.need_collections()
    value, units = Column.META_COLL + 1, Column.META_COLL + 2
    names, owners = _NAMES[EntityKind.COLLECTION], _OWNERS[EntityKind.COLLECTION]
    found = _select(connection, bounds.bounded(query), (*names, *owners, Column.COLL_CREATED, value, units))
    rows = [Row(name, User(owner, zone), float(created), *rest) for _, name, owner, zone, created, *rest in found]
    return bounds.check_found(query, rows)


def by_owner(connection: Connection, query: Query) -> tuple[OwnerCount, ...]:
    """As ``ClientCatalog.count_by_owner``: the database counts, and answers with a row for each owner and units."""
    query.need_countable()
    columns = (*_OWNERS[EntityKind.COLLECTION], Column.META_COLL + 2, Column.COLL_ID, Column.COLL_CREATED)
    how = {Column.COLL_ID: COUNT, Column.COLL_CREATED: MINIMUM}
    found = select(connection, columns, _conditions(query), summing=how)
    return tuple(
        OwnerCount(User(name, zone), units, int(count), float(oldest)) for name, zone, units, count, oldest in found
    )


def owners(connection: Connection, query: Query) -> tuple[User, ...]:
    """As ``Storage.owners``: the server merges equal rows."""
    query.need_owned()
    found = {row for conditions in _named(query) for row in _owners(connection, query, conditions)}
    return tuple(sorted(User(*row) for row in found))


def _owners(connection: Connection, query: Query, also: Sequence[Condition]) -> list[tuple[str, ...]]:
    return select(connection, _OWNERS[query.kind], [*_conditions(query), *also])


def _select(connection: Connection, query: Query, columns: Sequence[int]) -> list[tuple[str, ...]]:
    """The rows of a query. The first of ``columns`` must be the entity's id."""
    found = []
    for conditions in _named(query):
        found += select(
            connection,
            columns,
            [*_conditions(query), *conditions],
            order_by=columns[0],
            descending=query.newest_first,
            limit=query.limit,
            offset=query.offset,
        )
    if query.among is None:
        return found
    return sorted(found, key=lambda row: int(row[0]), reverse=query.newest_first)[: query.limit]


def _named(query: Query) -> Iterator[Sequence[Condition]]:
    """The additional conditions of each request that a query needs: a request can name few collections, and a
    collection with a quote in its name needs one of its own."""
    if query.among is None:
        yield []
    else:
        yield from _among(Column.COLL_NAME, query.among)


def _among(column: int, texts: Sequence[str]) -> Iterator[Sequence[Condition]]:
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


def _conditions(query: Query) -> list[Condition]:
    attribute = _META[query.kind]
    conditions: list[Condition] = [Equals(attribute, query.attribute)]
    conditions += [Equals(attribute + 1, query.value)] if query.value is not None else []
    conditions += [Begins(attribute + 1, query.beginning)] if query.beginning else []
    if query.units is not None:
        listed = query.units_listed
        conditions.append(Equals(attribute + 2, listed[0]) if len(listed) == 1 else Among(attribute + 2, listed))
    if query.owner is not None:
        owner, zone = _OWNERS[query.kind]
        conditions += [Equals(owner, query.owner.name), Equals(zone, query.owner.zone)]
    conditions += [Equals(_HOLDERS[query.kind], query.within)] if query.within else []
    conditions += [Differs(_HOLDERS[query.kind], collection) for collection in query.excluding]
    return conditions
