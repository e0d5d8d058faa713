"""Resources: storage resources with a vault, and coordinating resources above them.

A hierarchy has one or two levels: a storage resource alone, several under one ``replication``
resource, or one under a ``passthru``. A write to a root goes to all its leaves that are up.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass

from compute_to_data.errors import Code, zone_error
from compute_to_data.model import Resource

NO_HOST = "EMPTY_RESC_HOST"
NO_VAULT = "EMPTY_RESC_PATH"
STORAGE = "unixfilesystem"
_DOWN = ("down", "auto-down")


@dataclass(frozen=True)
class Leaf:
    """A storage resource, and whether it and its parent are up."""

    id: int
    name: str
    hierarchy: str
    vault: str
    is_up: bool

    def proper_path(self, logical_path: str) -> str:
        """The physical path of a data object's file on this resource."""
        return proper_path(self.vault, logical_path)


def proper_path(vault: str, logical_path: str) -> str:
    """The usual physical path: the vault, then the logical path below the zone."""
    return vault + logical_path[logical_path.index("/", 1) :]


def list_all(connection: sqlite3.Connection) -> tuple[Resource, ...]:
    """All resources, by name."""
    query = """
        SELECT r.name, r.kind, r.host, r.vault, coalesce(p.name, ''), r.status
        FROM resource r LEFT JOIN resource p ON p.id = r.parent ORDER BY r.name
    """
    return tuple(Resource(*row) for row in connection.execute(query))


def _find(connection: sqlite3.Connection, name: str) -> tuple[int, str, str, int | None, str]:
    query = "SELECT id, kind, vault, parent, status FROM resource WHERE name = ?"
    row: tuple[int, str, str, int | None, str] | None = connection.execute(query, (name,)).fetchone()
    if row is None:
        raise zone_error(Code.SYS_RESC_DOES_NOT_EXIST, name, "no such resource")
    return row


def identity(connection: sqlite3.Connection, name: str) -> int:
    """A resource's id. NotFound -78000."""
    return _find(connection, name)[0]


def leaves(connection: sqlite3.Connection, root: str) -> list[Leaf]:
    """The storage resources under a root, or the root itself.

    NotFound -78000; -1816000 for a child resource; -1803000 for a coordinating resource without
    children.
    """
    number, kind, vault, parent, status = _find(connection, root)
    if parent is not None:
        remedy = "Name the root of its hierarchy"
        raise zone_error(Code.DIRECT_CHILD_ACCESS, root, "a child resource cannot be written to by name", remedy)
    if kind == STORAGE:
        return [Leaf(number, root, root, vault, status not in _DOWN)]
    query = "SELECT id, name, vault, status FROM resource WHERE parent = ? ORDER BY id"
    found = [
        Leaf(child, name, f"{root};{name}", below, status not in _DOWN and own not in _DOWN)
        for child, name, below, own in connection.execute(query, (number,))
    ]
    if not found:
        raise zone_error(Code.HIERARCHY_ERROR, root, "a coordinating resource with no storage below it")
    return found


def usable_leaves(connection: sqlite3.Connection, root: str, when_down: Code) -> list[Leaf]:
    """Like :func:`leaves`, only those that are up; ZoneError with ``when_down`` when none is."""
    found = [leaf for leaf in leaves(connection, root) if leaf.is_up]
    if not found:
        raise zone_error(when_down, root, "the resource is down", "Use another, or have it brought up")
    return found


def storage(connection: sqlite3.Connection, name: str) -> int:
    """The id of a storage resource, child or not, for registering files.

    NotFound -78000; -1803000 for a coordinating resource, -105000 for one that is down.
    """
    number, kind, _, _, status = _find(connection, name)
    if kind != STORAGE:
        raise zone_error(Code.HIERARCHY_ERROR, name, "a coordinating resource, which has no vault")
    if status in _DOWN:
        raise zone_error(Code.SYS_RESC_IS_DOWN, name, "the resource is down")
    return number


def parent_for(connection: sqlite3.Connection, parent: str, name: str, has_vault: bool) -> int:
    """The id of the coordinating resource that a new resource goes under.

    NotFound -78000; -816000 when the new resource cannot be its child.
    """
    identity, kind, _, above, _ = _find(connection, parent)
    occupied = connection.execute("SELECT 1 FROM resource WHERE parent = ?", (identity,)).fetchone()
    if not has_vault or above is not None or kind == STORAGE:
        cause = f"it cannot be under {parent}: a hierarchy is a storage resource under a coordinating one"
        raise zone_error(Code.CAT_INVALID_ARGUMENT, name, cause)
    if kind == "passthru" and occupied:
        raise zone_error(Code.CAT_INVALID_ARGUMENT, name, f"{parent}, a passthru, has its one child already")
    return identity


def vaults(connection: sqlite3.Connection) -> list[str]:
    """The physical paths of all vaults."""
    query = "SELECT vault FROM resource WHERE kind = ?"
    return [vault for (vault,) in connection.execute(query, (STORAGE,))]


def default(connection: sqlite3.Connection) -> str:
    """The default resource for new data objects."""
    query = "SELECT r.name FROM zone z JOIN resource r ON r.id = z.default_resource"
    return str(connection.execute(query).fetchone()[0])


def is_in_a_vault(connection: sqlite3.Connection, physical_path: str) -> bool:
    """Whether a file is in a vault."""
    plain = os.path.normpath(physical_path)
    return any(plain.startswith(vault.rstrip("/") + "/") for vault in vaults(connection))
