"""Registers files where they are, many at once, and unregisters them."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from compute_to_data.errors import AccessDenied, Code, ZoneError, zone_error
from compute_to_data.irods_names import check_in_zone, check_name, check_path
from compute_to_data.model import Access, Registration, ReplicaStatus
from compute_to_data.zones.embedded import nodes, resources, rights
from compute_to_data.zones.embedded.database import TURN_SECONDS
from compute_to_data.zones.embedded.nodes import Node
from compute_to_data.zones.embedded.rights import Actor


def refusal(connection: sqlite3.Connection, actor: Actor, files: Sequence[Registration]) -> AccessDenied:
    """The error for a user's own session, which may not register files: -128000 or -129000."""
    first = files[0]
    in_vault = resources.is_in_a_vault(connection, first.physical_path)
    code = Code.CANT_REG_IN_VAULT_FILE if in_vault else Code.PATH_REG_NOT_ALLOWED
    cause = f"{actor.user} may not register files"
    return AccessDenied(first.physical_path, cause, "The service account registers on a user's behalf", code=code)


def register(
    connection: sqlite3.Connection, actor: Actor, zone: str, resource: str, files: Sequence[Registration]
) -> None:
    """As ``Catalog.register``. Like iRODS's bulk call it does not look at the files."""
    storage = resources.storage(connection, resource)
    parents = _parents(connection, actor, zone, files)
    first = 1 + int(connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entity'").fetchone()[0])
    now, good, owner = time.time(), int(ReplicaStatus.GOOD), (actor.user.name, actor.user.zone)
    members, rows, access = [], [], []
    for identity, file in enumerate(files, first):
        collection, _, name = file.logical_path.rpartition("/")
        parent, lists = parents[collection]
        members.append((identity, parent.id, name, *owner, now, now))
        rows.append((identity, storage, good, file.size, file.physical_path, file.checksum))
        access += [(identity, principal, level) for principal, level in lists]
    connection.execute(_NEW_ENTITIES, (len(files),))
    try:
        connection.executemany("INSERT INTO node VALUES (?, ?, ?, NULL, ?, ?, 0, ?, ?)", members)
    except sqlite3.IntegrityError as error:
        raise _taken(connection, parents, files, first) from error
    connection.executemany("INSERT INTO replica VALUES (?, 0, ?, ?, ?, ?, ?)", rows)
    connection.executemany("INSERT INTO access VALUES (?, ?, ?)", access)


_NEW_ENTITIES = """
    INSERT INTO entity (kind)
    WITH RECURSIVE file (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM file WHERE number < ?)
    SELECT 'data_object' FROM file
"""
"""SQL: adds the given number of entities, with consecutive ids."""

_Parents = dict[str, tuple[Node, list[tuple[int, int]]]]


def _parents(connection: sqlite3.Connection, actor: Actor, zone: str, files: Sequence[Registration]) -> _Parents:
    """The collections that the files go to, with the access lists of their new children.

    Checks all names, and each collection once.
    """
    found: _Parents = {}
    for file in files:
        collection, _, name = file.logical_path.rpartition("/")
        check_name(name, file.logical_path)
        if collection not in found:
            check_in_zone(file.logical_path, zone)
            parent = nodes.parent_for_creation(connection, actor, file.logical_path)
            found[collection] = parent, rights.rows_for_child(connection, parent.id, parent.inherits, actor)
        if len(file.logical_path) > 250:
            check_path(file.logical_path)  # only these can be too long in bytes
    return found


def _taken(connection: sqlite3.Connection, parents: _Parents, files: Sequence[Registration], first: int) -> ZoneError:
    """The error -809000 for the first file whose name is taken, by an older node or an earlier one of
    these files. ``first``: the id of the first of these files."""
    query = "SELECT 1 FROM node WHERE parent = ? AND name = ? AND id < ?"
    names: set[str] = set()
    for file in files:
        collection, _, name = file.logical_path.rpartition("/")
        if file.logical_path in names or connection.execute(query, (parents[collection][0].id, name, first)).fetchone():
            break
        names.add(file.logical_path)
    cause = "something of that name is there, or in this registration twice"
    return zone_error(Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME, file.logical_path, cause)


def unregister(connection: sqlite3.Connection, actor: Actor, data_objects: Sequence[str]) -> int:
    """Unregister the first of these, for a while; returns how many. Errors as for ``Catalog.unregister``.

    A data object may have many AVUs, and other writers wait for this transaction.
    """
    began = time.monotonic()
    for number, data_object in enumerate(data_objects, 1):
        node = nodes.find(connection, actor, data_object)
        if node is not None and node.is_visible:
            if node.is_collection:
                raise zone_error(Code.CAT_UNKNOWN_FILE, data_object, "a collection, not a data object")
            nodes.need(node, actor, Access.DELETE_OBJECT)
            nodes.delete(connection, [node.id])
        if time.monotonic() - began > TURN_SECONDS:
            return number
    return len(data_objects)
