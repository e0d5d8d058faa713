"""Reads and changes AVUs."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import JSON_Message, MetadataRequest

from compute_to_data import bounds
from compute_to_data.errors import Code, NotFound, zone_error
from compute_to_data.irods_names import check_avus, is_misread_by_43
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.zones.irods import lookup
from compute_to_data.zones.irods.bearers import META, NAMES, among, the_one
from compute_to_data.zones.irods.failures import about, shown
from compute_to_data.zones.irods.query import Column, Condition, Equals, select
from compute_to_data.zones.irods.wire import ask

_OPTIONS = {
    EntityKind.DATA_OBJECT: "-d",
    EntityKind.COLLECTION: "-C",
    EntityKind.RESOURCE: "-R",
    EntityKind.USER: "-u",
}
_FEW = 256
"""How many rows one answer holds (``query.py``)."""


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
    first = META[entity.kind]
    columns = [first, first + 1, first + 2, first + 3]
    for conditions in _with(first, sorted({avu.attribute for avu in avus})):
        here = [*the_one(entity), *conditions]
        found = select(connection, columns, here, limit=_FEW)
        if len(found) < _FEW:
            yield from found
            continue
        for values in among(first + 1, sorted({avu.value for avu in avus})):
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
    first = META[entity.kind]
    found: list[Avu] = []
    for conditions in _with(first, attributes):
        limit = bounds.most_avus(most) + 1 - len(found)
        rows = select(connection, [first, first + 1, first + 2], [*the_one(entity), *conditions], limit=limit)
        found += [Avu(*row) for row in rows]
    if not found:
        _need(connection, entity)
    return bounds.check_avus(shown(entity.name), attributes, sorted(found), most)


def read_many(
    connection: Connection, collections: Sequence[str], attributes: Sequence[str]
) -> dict[str, tuple[Avu, ...]]:
    """As ``ClientCatalog.avus_of``."""
    first = META[EntityKind.COLLECTION]
    columns = [Column.COLL_NAME, first, first + 1, first + 2]
    found: defaultdict[str, list[Avu]] = defaultdict(list)
    for names in among(Column.COLL_NAME, list(dict.fromkeys(collections))):
        for conditions in _with(first, attributes):
            rows = select(connection, columns, [*names, *conditions], limit=bounds.MOST_AVUS + 1)
            if len(rows) > bounds.MOST_AVUS:  # one of them may have more than are read of one
                return _read_singly(connection, collections, attributes)
            for name, *avu in rows:
                found[name].append(Avu(*avu))
            bounds.check_together(sum(map(len, found.values())), attributes)
    return {name: tuple(sorted(some)) for name, some in found.items()}


def _read_singly(
    connection: Connection, collections: Sequence[str], attributes: Sequence[str]
) -> dict[str, tuple[Avu, ...]]:
    found: dict[str, tuple[Avu, ...]] = {}
    for name in dict.fromkeys(collections):
        with contextlib.suppress(NotFound):
            found[name] = read(connection, Entity(EntityKind.COLLECTION, name), attributes)
            bounds.check_together(sum(map(len, found.values())), attributes)
    return {name: some for name, some in found.items() if some}


def of_resources(connection: Connection, attributes: Sequence[str]) -> dict[str, tuple[Avu, ...]]:
    """As ``Catalog.avus_of_resources``."""
    bounds.need_attributes(attributes)
    first = META[EntityKind.RESOURCE]
    columns = [Column.RESC_NAME, first, first + 1, first + 2]
    found: defaultdict[str, list[Avu]] = defaultdict(list)
    for conditions in _with(first, attributes):
        for name, *avu in select(connection, columns, conditions, limit=bounds.MOST_FOUND + 1):
            found[name].append(Avu(*avu))
        bounds.check_together(sum(map(len, found.values())), attributes)
    return {name: tuple(sorted(some)) for name, some in sorted(found.items())}


def _with(column: int, attributes: Sequence[str]) -> Iterator[Sequence[Condition]]:
    """The conditions of each request for AVUs of these attributes; of one request without any, for all."""
    if not attributes:
        yield []
    elif len(attributes) == 1:
        yield [Equals(column, attributes[0])]
    else:
        yield from among(column, attributes)


def _need(connection: Connection, entity: Entity) -> None:
    """NotFound when the entity is missing or hidden."""
    identity = NAMES[entity.kind][0]
    if select(connection, [identity], the_one(entity)):
        return
    if entity.kind is EntityKind.RESOURCE:
        raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, entity.name, "no such resource")
    if entity.kind is EntityKind.USER:
        raise zone_error(Code.CAT_INVALID_USER, entity.name, "no such user")
    raise lookup.missing(entity.name)
