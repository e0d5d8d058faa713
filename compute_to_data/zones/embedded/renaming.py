"""Moves collections and data objects in the catalog, and their files in the vaults.

As with iRODS, a file whose physical path follows the logical path moves along, so that its old path
is free for the next data object of that logical path. A file with another physical path stays.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import MAXIMUM_PATH_BYTES, check_in_zone
from compute_to_data.model import Access, name_of
from compute_to_data.zones.embedded import disk, nodes, replicas, resources
from compute_to_data.zones.embedded.nodes import Node
from compute_to_data.zones.embedded.replicas import VaultFile
from compute_to_data.zones.embedded.rights import Actor
from compute_to_data.zones.embedded.store import Store, Who


@dataclass(frozen=True)
class _Plan:
    """The node to rename, its new collection, and the files that move along, with their new paths.

    ``emptied``: directories that should be empty afterwards.
    """

    node: Node
    parent: Node
    files: tuple[tuple[VaultFile, str], ...]
    emptied: tuple[str, ...]


def rename(store: Store, who: Who, source: str, destination: str) -> None:
    """As ``Catalog.rename``."""
    check_in_zone(source, store.zone)
    check_in_zone(destination, store.zone)
    while True:
        with store.files.stage() as stage:
            with store.database.writing() as connection:
                plan = _plan(connection, who(connection), source, destination)
                moves = stage.moves(connection, [(file.physical_path, new) for file, new in plan.files])
            with store.database.writing() as connection:
                if _plan(connection, who(connection), source, destination) != plan:
                    continue
                _move(connection, plan, destination)
                for (file, _), move in zip(plan.files, moves):
                    replicas.relocate(connection, file, stage.follow(connection, move))
        disk.remove_empty(plan.emptied)
        return


def _plan(connection: sqlite3.Connection, actor: Actor, source: str, destination: str) -> _Plan:
    node = nodes.see(connection, actor, source, Code.CAT_UNKNOWN_FILE)
    nodes.need(node, actor, Access.OWN)
    if node.is_collection and f"{destination}/".startswith(f"{source}/"):
        raise zone_error(Code.CAT_RECURSIVE_MOVE, source, f"it cannot be moved into itself, to {destination}")
    there = nodes.find(connection, actor, destination)
    if there is not None:
        code = Code.CAT_NAME_EXISTS_AS_COLLECTION if there.is_collection else Code.CAT_NAME_EXISTS_AS_DATAOBJ
        raise zone_error(code, destination, "something of that name is there already")
    parent = nodes.parent_for_creation(connection, actor, destination)
    _check_lengths(connection, node, destination)
    vaults = resources.vaults(connection)
    followers = []
    for file in replicas.files_below(connection, node.id, source):
        for vault in vaults:
            old, new = (resources.proper_path(vault, path) for path in (source, destination))
            if file.physical_path == old or file.physical_path.startswith(f"{old}/"):
                followers.append((file, new + file.physical_path[len(old) :]))
    emptied = nodes.directories_below(connection, node.id, vaults)
    return _Plan(node, parent, tuple(followers), tuple(emptied))


def _check_lengths(connection: sqlite3.Connection, node: Node, destination: str) -> None:
    """ZoneError when a path below a renamed collection would become too long."""
    query = f"""
        {nodes.BELOW} SELECT max(length(CAST(coalesce(n.path, p.path || '/' || n.name) AS BLOB)))
        FROM below JOIN node n ON n.id = below.id JOIN node p ON p.id = n.parent
    """
    longest = connection.execute(query, {"top": node.id}).fetchone()[0]
    growth = len(destination.encode()) - len(node.logical_path.encode())
    if longest + growth > MAXIMUM_PATH_BYTES:
        cause = f"a path below it would be longer than {MAXIMUM_PATH_BYTES} bytes"
        raise zone_error(Code.USER_INPUT_PATH_ERR, destination, cause, "Choose a shorter name")


def _move(connection: sqlite3.Connection, plan: _Plan, destination: str) -> None:
    """Only the top node changes its parent and name. Collections below it store whole paths, which change."""
    connection.execute(
        "UPDATE node SET parent = ?, name = ?, modified = ? WHERE id = ?",
        (plan.parent.id, name_of(destination), time.time(), plan.node.id),
    )
    if plan.node.is_collection:
        query = f"""
            {nodes.BELOW} UPDATE node SET path = :destination || substr(path, :rest)
            WHERE path NOTNULL AND id IN (SELECT id FROM below)
        """
        rest = len(plan.node.logical_path) + 1
        connection.execute(query, {"top": plan.node.id, "destination": destination, "rest": rest})
