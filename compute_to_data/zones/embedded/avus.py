"""AVUs: putting them on entities, and finding entities by them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compute_to_data.errors import Code, NotFound, zone_error
from compute_to_data.irods_names import check_avus
from compute_to_data.model import Access, Avu, Bearer, CollectionQuestion, Entity, EntityKind, User, UserKind
from compute_to_data.zones.embedded import nodes, resources, rights
from compute_to_data.zones.embedded.rights import VISIBLE, Actor

_NODES = (EntityKind.DATA_OBJECT, EntityKind.COLLECTION)


def annotate(
    connection: sqlite3.Connection,
    actor: Actor,
    entities: Sequence[Entity],
    add: Sequence[Avu],
    remove: Sequence[Avu],
) -> None:
    """As ``Catalog.annotate``, the same for several entities."""
    check_avus((*remove, *add), entities[0].name if len(entities) == 1 else f"{len(entities)} entities")
    bearers = [_writable(connection, actor, entity) for entity in entities]
    columns = "entity = ? AND attribute = ? AND value = ? AND units = ?"
    connection.executemany(f"DELETE FROM avu WHERE {columns}", _rows(bearers, remove))
    connection.executemany("INSERT OR IGNORE INTO avu VALUES (?, ?, ?, ?)", _rows(bearers, add))


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
        cause = f"only a rodsadmin changes the AVUs of a {entity.kind.value}, and {actor.user} is none"
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


def read(connection: sqlite3.Connection, actor: Actor, entity: Entity) -> tuple[Avu, ...]:
    """As ``Catalog.avus``."""
    in_tree = entity.kind in _NODES
    identity = _node(connection, actor, entity).id if in_tree else _administered(connection, entity)
    query = "SELECT attribute, value, units FROM avu WHERE entity = ? ORDER BY 1, 2, 3"
    return tuple(Avu(*row) for row in connection.execute(query, (identity,)))


@dataclass(frozen=True)
class Question:
    """What ``Catalog.find`` and ``Storage.tasks`` are asked; their docstrings say what each part means."""

    kind: EntityKind
    attribute: str
    value: str | None = None
    units: str | None = None
    within: str = ""
    besides: Sequence[str] = ()
    limit: int | None = None


def find(connection: sqlite3.Connection, actor: Actor, question: Question) -> tuple[str, ...]:
    """As ``Catalog.find``. With a value and units, the index gives the oldest first and the
    search ends at ``limit``: the length of the queue does not matter."""
    of_nodes = question.kind in _NODES
    conditions = ["v.attribute = :attribute"]
    conditions += ["v.value = :value"] if question.value is not None else []
    conditions += ["v.units = :units"] if question.units is not None else []
    conditions += [VISIBLE] if of_nodes and not actor.administers else []
    if question.besides:
        conditions.append("n.parent NOT IN (SELECT id FROM node WHERE path IN (SELECT value FROM json_each(:besides)))")
    tables = _TABLES[question.kind]
    if question.within:
        conditions.append("n.parent = (SELECT id FROM node WHERE path = :within)" if of_nodes else "0")
    else:
        # A CROSS JOIN keeps the AVUs outermost, in the order of their index. Below one
        # collection its members are, and SQLite finds that out.
        tables = tables.replace(" JOIN ", " CROSS JOIN ")
    query = f"""
        SELECT {_NAMES[question.kind]} FROM {tables} WHERE {" AND ".join(conditions)}
        GROUP BY v.entity ORDER BY v.entity LIMIT :limit
    """
    limit = -1 if question.limit is None else question.limit
    asked = {**vars(question), "besides": json.dumps(question.besides), "me": actor.id, "kind": "", "limit": limit}
    rows = connection.execute(query, asked)
    return tuple(name for (name,) in rows)


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


_LAST = chr(0x10FFFF)


def bearing(connection: sqlite3.Connection, actor: Actor, question: CollectionQuestion) -> tuple[Bearer, ...]:
    """As ``ClientCatalog.bearing``."""
    conditions = ["v.attribute = :attribute"]
    conditions += ["v.value = :value"] if question.value is not None else []
    conditions += ["v.value >= :beginning AND v.value < :beyond"] if question.beginning else []
    conditions += ["v.units = :units"] if question.units is not None else []
    conditions += ["n.owner_name = :owner AND n.owner_zone = :owner_zone"] if question.owner else []
    conditions += ["n.parent = (SELECT id FROM node WHERE path = :within)"] if question.within else []
    conditions += [VISIBLE] if not actor.administers else []
    tables = _TABLES[EntityKind.COLLECTION]
    query = f"""
        SELECT n.path, n.owner_name, n.owner_zone, n.created, v.value, v.units
        FROM {tables if question.within else tables.replace(" JOIN ", " CROSS JOIN ")}
        WHERE {" AND ".join(conditions)}
        ORDER BY v.entity {"DESC" if question.newest_first else "ASC"}, v.value, v.units LIMIT :limit OFFSET :offset
    """
    asked = {
        **vars(question),
        "beyond": question.beginning + _LAST,
        "owner": question.owner.name if question.owner else "",
        "owner_zone": question.owner.zone if question.owner else "",
        "limit": -1 if question.limit is None else question.limit,
        "me": actor.id,
    }
    rows = connection.execute(query, asked)
    return tuple(Bearer(path, User(name, zone), created, *rest) for path, name, zone, created, *rest in rows)
