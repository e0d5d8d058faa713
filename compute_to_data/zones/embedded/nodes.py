"""Collections and data objects by their logical paths, as one user sees them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from compute_to_data import bounds
from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_path
from compute_to_data.model import (
    Access,
    Collection,
    DataObject,
    Replica,
    ReplicaStatus,
    User,
    name_of,
    parent_of,
)
from compute_to_data.zones.embedded.resources import proper_path
from compute_to_data.zones.embedded.rights import LEVEL, VISIBLE, Actor, denied, rows_for_child

_COLUMNS = "n.id, n.parent, n.name, n.path, n.owner_name, n.owner_zone, n.inherits, n.created, n.modified"
_REPLICA_COLUMNS = """
    r.node, r.number, CASE WHEN root.name IS NULL THEN leaf.name ELSE root.name || ';' || leaf.name END,
    r.status, r.size, r.physical_path, r.checksum
"""
_REPLICA_JOIN = "JOIN resource leaf ON leaf.id = r.resource LEFT JOIN resource root ON root.id = leaf.parent"

BELOW = """
    WITH RECURSIVE below (id, depth) AS (
        SELECT :top, 0 UNION ALL SELECT n.id, depth + 1 FROM below JOIN node n ON n.parent = below.id
    )
"""
"""SQL: the ids of node ``:top`` and all below it, each with its depth."""


@dataclass(frozen=True)
class Node:
    """A row of the catalog's tree, with the level that the asking user has there."""

    id: int
    parent: int
    logical_path: str
    is_collection: bool
    owner: User
    inherits: bool
    created: float
    modified: float
    level: Access
    is_visible: bool


def find(connection: sqlite3.Connection, actor: Actor, logical_path: str) -> Node | None:
    """The node at a path, visible or not; None when there is none."""
    check_path(logical_path)
    query = f"""
        SELECT {_COLUMNS}, {LEVEL}, {VISIBLE} FROM node n
        WHERE n.parent = (SELECT id FROM node WHERE path = :parent) AND n.name = :name
    """
    where = {"me": actor.id, "parent": parent_of(logical_path), "name": name_of(logical_path)}
    row = connection.execute(query, where).fetchone()
    if row is None:
        return None
    identity, parent, _, path, owner, owner_zone, inherits, created, modified, level, visible = row
    return Node(
        id=identity,
        parent=parent,
        logical_path=logical_path,
        is_collection=path is not None,
        owner=User(owner, owner_zone),
        inherits=bool(inherits),
        created=created,
        modified=modified,
        level=Access.OWN if actor.administers else Access(level),
        is_visible=bool(visible) or actor.administers,
    )


def see(connection: sqlite3.Connection, actor: Actor, logical_path: str, missing: Code) -> Node:
    """The node at a path. NotFound, with the code ``missing``, when it is missing or hidden."""
    node = find(connection, actor, logical_path)
    if node is None or not node.is_visible:
        cause = f"no such data object or collection, or {actor.user} may not read it"
        raise zone_error(missing, logical_path, cause)
    return node


def see_object(connection: sqlite3.Connection, actor: Actor, logical_path: str, missing: Code) -> Node:
    """Like :func:`see`, for data objects only."""
    node = see(connection, actor, logical_path, missing)
    if node.is_collection:
        raise zone_error(missing, logical_path, "a collection, not a data object")
    return node


def see_collection(connection: sqlite3.Connection, actor: Actor, logical_path: str) -> Node:
    """Like :func:`see`, for collections only: -814000."""
    node = see(connection, actor, logical_path, Code.CAT_UNKNOWN_COLLECTION)
    if not node.is_collection:
        raise zone_error(Code.CAT_UNKNOWN_COLLECTION, logical_path, "a data object, not a collection")
    return node


def path_of(connection: sqlite3.Connection, actor: Actor, object_id: int) -> str:
    """The logical path of the data object with this id. NotFound (-310000) when it is missing or hidden."""
    query = f"""
        SELECT above.path, n.name FROM node n JOIN node above ON above.id = n.parent
        WHERE n.id = :id AND n.path IS NULL AND {VISIBLE}
    """
    known = abs(object_id) < 1 << 63  # what the column can hold
    row = connection.execute(query, {"me": actor.id, "id": object_id}).fetchone() if known else None
    if row is None:
        cause = f"no such data object, or {actor.user} may not read it"
        raise zone_error(Code.USER_FILE_DOES_NOT_EXIST, f"id {object_id}", cause)
    return f"{row[0].rstrip('/')}/{row[1]}"


def need(node: Node, actor: Actor, access: Access, code: Code = Code.CAT_NO_ACCESS_PERMISSION) -> None:
    """AccessDenied, with ``code``, when the actor's level on the node is too low."""
    if node.level < access:
        raise denied(code, node.logical_path, access, node.level, actor.user)


def parent_for_creation(connection: sqlite3.Connection, actor: Actor, logical_path: str) -> Node:
    """The parent collection of a new ``logical_path``, if the actor may add members to it.

    -818000 also for a hidden one, as with iRODS; -814000 when there is none.
    """
    parent = find(connection, actor, parent_of(logical_path))
    if parent is None or not parent.is_collection:
        raise zone_error(Code.CAT_UNKNOWN_COLLECTION, parent_of(logical_path), "no such collection")
    need(parent, actor, Access.MODIFY_OBJECT)
    return parent


def insert(connection: sqlite3.Connection, actor: Actor, parent: Node, name: str, collection: bool) -> int:
    """Add a node below a collection, with its access list; returns its id."""
    kind = "collection" if collection else "data_object"
    identity = int(connection.execute("INSERT INTO entity (kind) VALUES (?)", (kind,)).lastrowid or 0)
    path = f"{parent.logical_path.rstrip('/')}/{name}" if collection else None
    inherits, now = int(collection and parent.inherits), time.time()
    connection.execute(
        "INSERT INTO node VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (identity, parent.id, name, path, actor.user.name, actor.user.zone, inherits, now, now),
    )
    rows = rows_for_child(connection, parent.id, parent.inherits, actor)
    connection.executemany(
        "INSERT INTO access VALUES (?, ?, ?)", [(identity, principal, level) for principal, level in rows]
    )
    return identity


def touch(connection: sqlite3.Connection, node: int) -> None:
    """Record that a data object's content has changed now."""
    connection.execute("UPDATE node SET modified = ? WHERE id = ?", (time.time(), node))


def describe(connection: sqlite3.Connection, node: Node) -> Collection | DataObject:
    """A node as a value of the ports."""
    if node.is_collection:
        return Collection(node.logical_path, node.owner, node.inherits, node.created)
    query = f"SELECT {_REPLICA_COLUMNS} FROM replica r {_REPLICA_JOIN} WHERE r.node = ? ORDER BY r.number"
    replicas = tuple(_replica(row) for row in connection.execute(query, (node.id,)))
    return DataObject(node.logical_path, node.owner, replicas, node.created, node.modified)


def members(
    connection: sqlite3.Connection, actor: Actor, collection: Node, most: int | None = None
) -> tuple[Collection | DataObject, ...]:
    """The direct members a user can see, by name. TooLarge for more than ``most``, or more replicas of them."""
    at_most = -1 if most is None else most + 1
    replicas = f"""
        SELECT {_REPLICA_COLUMNS} FROM node n JOIN replica r ON r.node = n.id {_REPLICA_JOIN}
        WHERE n.parent = :parent AND {VISIBLE} ORDER BY n.id, r.number LIMIT :most
    """
    given = {"me": actor.id, "parent": collection.id, "most": at_most}
    held: dict[int, list[Replica]] = {}
    for count, row in enumerate(connection.execute(replicas, given), 1):
        bounds.check_members(collection.logical_path, count, most)
        held.setdefault(row[0], []).append(_replica(row))
    query = f"""
        SELECT {_COLUMNS} FROM node n
        WHERE n.parent = :parent AND n.name <> '' AND {VISIBLE} ORDER BY n.name LIMIT :most
    """
    found: list[Collection | DataObject] = []
    above = collection.logical_path.rstrip("/")
    for count, row in enumerate(connection.execute(query, given), 1):
        bounds.check_members(collection.logical_path, count, most)
        identity, _, name, path, owner, owner_zone, inherits, created, modified = row
        if path is not None:
            found.append(Collection(path, User(owner, owner_zone), bool(inherits), created))
        else:
            copies = tuple(held.get(identity, ()))
            found.append(DataObject(f"{above}/{name}", User(owner, owner_zone), copies, created, modified))
    return tuple(found)


def _replica(row: Sequence[str | int]) -> Replica:
    _, number, hierarchy, status, size, physical_path, checksum = row
    return Replica(
        int(number), str(hierarchy), ReplicaStatus(int(status)), int(size), str(physical_path), str(checksum)
    )


def subtree(connection: sqlite3.Connection, node: int) -> list[int]:
    """The ids of a node and all below it, parents before their children."""
    query = f"{BELOW} SELECT id FROM below ORDER BY depth"
    return [row[0] for row in connection.execute(query, {"top": node})]


def directories_below(connection: sqlite3.Connection, node: int, vaults: Sequence[str]) -> list[str]:
    """The directories of a collection and those below it in these vaults, deepest first."""
    query = f"""
        {BELOW} SELECT n.path FROM below JOIN node n ON n.id = below.id
        WHERE n.path NOTNULL ORDER BY depth DESC
    """
    paths = [path for (path,) in connection.execute(query, {"top": node})]
    return [proper_path(vault, path) for path in paths for vault in vaults]


def delete(connection: sqlite3.Connection, nodes: Sequence[int]) -> None:
    """Remove nodes, listed parents first, from the catalog with their rows in other tables."""
    connection.executemany("DELETE FROM entity WHERE id = ?", [(node,) for node in reversed(nodes)])
