"""Reads and changes AVUs, and finds entities by their AVUs."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence

from compute_to_data import bounds
from compute_to_data.errors import Code, NotFound, zone_error
from compute_to_data.irods_names import check_avus
from compute_to_data.model import Access, Avu, Entity, EntityKind, OwnerCount, Query, Row, User, UserKind
from compute_to_data.zones.embedded import nodes, resources, rights
from compute_to_data.zones.embedded.rights import VISIBLE, Actor

_NODES = (EntityKind.DATA_OBJECT, EntityKind.COLLECTION)
_INSERT = """
    INSERT OR IGNORE INTO avu (entity, attribute, value, units, owner) VALUES (?1, ?2, ?3, ?4, coalesce(
        (SELECT owner_name || '#' || owner_zone FROM node WHERE id = ?1 AND path NOTNULL), ''))
"""


def annotate(
    connection: sqlite3.Connection,
    actor: Actor,
    entities: Sequence[Entity],
    add: Sequence[Avu],
    remove: Sequence[Avu],
) -> None:
    """As ``Catalog.annotate``, with the same AVUs for several entities."""
    check_avus((*remove, *add), entities[0].name if len(entities) == 1 else f"{len(entities)} entities")
    bearers = [_writable(connection, actor, entity) for entity in entities]
    columns = "entity = ? AND attribute = ? AND value = ? AND units = ?"
    connection.executemany(f"DELETE FROM avu WHERE {columns}", _rows(bearers, remove))
    connection.executemany(_INSERT, _rows(bearers, add))


def _rows(bearers: Sequence[int], avus: Sequence[Avu]) -> Iterator[tuple[int, str, str, str]]:
    parts = [(avu.attribute, avu.value, avu.units) for avu in avus]
    return ((bearer, *part) for bearer in bearers for part in parts)


def _writable(connection: sqlite3.Connection, actor: Actor, entity: Entity) -> int:
    """The id of an entity whose AVUs the actor may change."""
    try:
        if entity.kind in _NODES:
            node = _node(connection, actor, entity)
            nodes.need(node, actor, Access.MODIFY_OBJECT)
            return node.id
        identity = _administered(connection, entity)
    except NotFound as error:
        cause = f"no such {entity.kind.value}, or {actor.user} may not read it"
        raise zone_error(Code.SYS_INVALID_INPUT_PARAM, entity.name, cause) from error
    if actor.kind is not UserKind.RODSADMIN:
        cause = f"only a rodsadmin may change the AVUs of a {entity.kind.value}, and {actor.user} is none"
        raise zone_error(Code.CAT_NO_ACCESS_PERMISSION, entity.name, cause)
    return identity


def _node(connection: sqlite3.Connection, actor: Actor, entity: Entity) -> nodes.Node:
    if entity.kind is EntityKind.COLLECTION:
        return nodes.see_collection(connection, actor, entity.name)
    return nodes.see_object(connection, actor, entity.name, Code.USER_FILE_DOES_NOT_EXIST)


def _administered(connection: sqlite3.Connection, entity: Entity) -> int:
    if entity.kind is EntityKind.RESOURCE:
        return resources.identity(connection, entity.name)
    name, _, zone = entity.name.rpartition("#")
    return rights.find_principal(connection, User(name, zone)).id


def set_one(connection: sqlite3.Connection, actor: Actor, collection: str, avu: Avu) -> None:
    """As ``Catalog.set_avu``."""
    check_avus([avu], collection)
    node = nodes.see_collection(connection, actor, collection)
    nodes.need(node, actor, Access.MODIFY_OBJECT)
    connection.execute("DELETE FROM avu WHERE entity = ? AND attribute = ?", (node.id, avu.attribute))
    connection.executemany(_INSERT, _rows([node.id], [avu]))


def read(
    connection: sqlite3.Connection, actor: Actor, entity: Entity, attributes: Sequence[str], most: int | None = None
) -> tuple[Avu, ...]:
    """As ``Catalog.avus``."""
    in_tree = entity.kind in _NODES
    identity = _node(connection, actor, entity).id if in_tree else _administered(connection, entity)
    named = "AND attribute IN (SELECT value FROM json_each(:attributes))" if attributes else ""
    query = f"SELECT attribute, value, units FROM avu WHERE entity = :entity {named} ORDER BY 1, 2, 3 LIMIT :most"
    values = {"entity": identity, "attributes": json.dumps(attributes), "most": bounds.most_avus(most) + 1}
    return bounds.check_avus(entity.name, attributes, [Avu(*row) for row in connection.execute(query, values)], most)


def read_many(
    connection: sqlite3.Connection, actor: Actor, collections: Sequence[str], attributes: Sequence[str]
) -> dict[str, tuple[Avu, ...]]:
    """As ``ClientCatalog.avus_of``."""
    found: dict[str, tuple[Avu, ...]] = {}
    together = 0
    for name in dict.fromkeys(collections):
        with contextlib.suppress(NotFound):
            found[name] = read(connection, actor, Entity(EntityKind.COLLECTION, name), attributes)
            together += len(found[name])
            bounds.check_together(together, attributes)
    return {name: avus for name, avus in found.items() if avus}


def of_resources(connection: sqlite3.Connection, attributes: Sequence[str]) -> dict[str, tuple[Avu, ...]]:
    """As ``Catalog.avus_of_resources``."""
    bounds.need_attributes(attributes)
    query = """
        SELECT r.name, v.attribute, v.value, v.units FROM resource r CROSS JOIN avu v ON v.entity = r.id
        WHERE v.attribute IN (SELECT value FROM json_each(:attributes)) ORDER BY 1, 2, 3, 4 LIMIT :most
    """
    values = {"attributes": json.dumps(attributes), "most": bounds.MOST_FOUND + 1}
    rows = connection.execute(query, values).fetchall()
    bounds.check_together(len(rows), attributes)
    found: dict[str, list[Avu]] = {}
    for name, *avu in rows:
        found.setdefault(name, []).append(Avu(*avu))
    return {name: tuple(avus) for name, avus in found.items()}


_LAST = chr(0x10FFFF)
_NAMES = {
    EntityKind.COLLECTION: "n.path",
    EntityKind.DATA_OBJECT: "p.path || '/' || n.name",
    EntityKind.RESOURCE: "r.name",
    EntityKind.USER: "u.name || '#' || u.zone",
}
_TABLES = {
    EntityKind.COLLECTION: "avu v JOIN node n ON n.id = v.entity AND n.path NOTNULL",
    EntityKind.DATA_OBJECT: """
        avu v JOIN node n ON n.id = v.entity AND n.path ISNULL JOIN node p ON p.id = n.parent
    """,
    EntityKind.RESOURCE: "avu v JOIN resource r ON r.id = v.entity",
    EntityKind.USER: "avu v JOIN user u ON u.id = v.entity",
}


def find(connection: sqlite3.Connection, actor: Actor, query: Query) -> tuple[str, ...]:
    """As ``Catalog.find``. With a value and units, the index gives the oldest first, and the search
    ends at ``limit``, however long the queue is."""
    order = f"GROUP BY v.entity ORDER BY v.entity {_way(query)}"
    rows = _select(connection, actor, bounds.bounded(query), _NAMES[query.kind], order)
    return bounds.check_found(query, [name for (name,) in rows])


def rows(connection: sqlite3.Connection, actor: Actor, query: Query) -> tuple[Row, ...]:
    """As ``ClientCatalog.query``."""
    query.need_collections()
    columns = "n.path, n.owner_name, n.owner_zone, n.created, v.value, v.units"
    order = f"ORDER BY v.entity {_way(query)}, v.value, v.units"
    found = _select(connection, actor, bounds.bounded(query), columns, order)
    rows = [Row(path, User(name, zone), created, *rest) for path, name, zone, created, *rest in found]
    return bounds.check_found(query, rows)


def owners(connection: sqlite3.Connection, actor: Actor, query: Query) -> tuple[User, ...]:
    """As ``Storage.owners``."""
    query.need_owned()
    found = _select(connection, actor, query, "DISTINCT n.owner_name, n.owner_zone", "")
    return tuple(sorted(User(*row) for row in found))


_OWNED = "attribute = :attribute AND value = :value AND owner <> ''"
_BY_OWNER = f"""
    WITH RECURSIVE line (units, owner) AS (
        SELECT u.value, (SELECT min(owner) FROM avu WHERE {_OWNED} AND units = u.value AND owner >= :first)
        FROM json_each(:units) u
        UNION ALL
        SELECT l.units, (SELECT min(owner) FROM avu WHERE {_OWNED} AND units = l.units AND owner > l.owner)
        FROM line l WHERE l.owner NOTNULL AND :first = ''
    )
    SELECT l.units, l.owner,
        (SELECT count(*) FROM (SELECT 1 FROM {{counted}} WHERE {{this}} LIMIT :most)),
        (SELECT n.created FROM avu v JOIN node n ON n.id = v.entity WHERE {{this}} ORDER BY v.entity LIMIT 1)
    FROM line l WHERE l.owner NOTNULL AND :first IN ('', l.owner)
"""
"""Goes from owner to owner in the index, and does not read all collections of each."""


def by_owner(connection: sqlite3.Connection, actor: Actor, query: Query, most: int | None) -> tuple[OwnerCount, ...]:
    """As ``ClientCatalog.count_by_owner``."""
    query.need_countable()
    this = "v.attribute = :attribute AND v.value = :value AND v.units = l.units AND v.owner = l.owner AND v.owner <> ''"
    counted = "avu v"  # the index suffices, unless access lists count
    if not actor.administers:
        this, counted = f"{this} AND {VISIBLE}", "avu v JOIN node n ON n.id = v.entity"
    statement = _BY_OWNER.format(this=this, counted=counted)
    values = {
        "attribute": query.attribute,
        "value": query.value,
        "units": json.dumps(query.units_listed),
        "first": str(query.owner or ""),
        "most": -1 if most is None else most,
        "me": actor.id,
    }
    found = connection.execute(statement, values)
    return tuple(
        OwnerCount(User(*owner.rpartition("#")[::2]), units, count, oldest)
        for units, owner, count, oldest in found
        if count
    )


def _way(query: Query) -> str:
    return "DESC" if query.newest_first else "ASC"


def _select(connection: sqlite3.Connection, actor: Actor, query: Query, columns: str, order: str) -> sqlite3.Cursor:
    tables = _TABLES[query.kind]
    if not query.within and query.among is None:
        # A CROSS JOIN keeps the AVUs in the outer loop, in the order of their index. For the members of
        # one collection, or for named ones, these should be in the outer loop; SQLite chooses that by itself.
        tables = tables.replace(" JOIN ", " CROSS JOIN ")
    statement = f"SELECT {columns} FROM {tables} WHERE {_conditions(actor, query)} {order} LIMIT :limit OFFSET :offset"
    values = {
        **vars(query),
        "among": json.dumps(query.among or ()),
        "units": query.units if isinstance(query.units, str) else json.dumps(query.units),
        "beyond": query.beginning + _LAST,
        "owner": query.owner.name if query.owner else "",
        "owner_zone": query.owner.zone if query.owner else "",
        "owner_here": str(query.owner or ""),
        "excluding": json.dumps(query.excluding),
        "limit": -1 if query.limit is None else query.limit,
        "me": actor.id,
    }
    return connection.execute(statement, values)


def _conditions(actor: Actor, query: Query) -> str:
    conditions = ["v.attribute = :attribute"]
    conditions += ["v.value = :value"] if query.value is not None else []
    conditions += ["v.value >= :beginning AND v.value < :beyond"] if query.beginning else []
    if query.units is not None:
        one = isinstance(query.units, str)
        conditions.append("v.units = :units" if one else "v.units IN (SELECT value FROM json_each(:units))")
    if query.owner and query.kind is EntityKind.COLLECTION:
        conditions.append("v.owner = :owner_here AND v.owner <> ''")  # in an index
    elif query.owner:
        conditions.append("n.owner_name = :owner AND n.owner_zone = :owner_zone")
    conditions += ["n.parent = (SELECT id FROM node WHERE path = :within)"] if query.within else []
    if query.excluding:
        excluded = "SELECT id FROM node WHERE path IN (SELECT value FROM json_each(:excluding))"
        conditions.append(f"n.parent NOT IN ({excluded})")
    conditions += ["n.path IN (SELECT value FROM json_each(:among))"] if query.among is not None else []
    conditions += [VISIBLE] if query.kind in _NODES and not actor.administers else []
    return " AND ".join(conditions)
