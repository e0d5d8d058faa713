"""Users' rights: a session's user, and what this user may do.

A user's level on a node is the highest in the rows of its access list that name the user or one of
the user's groups. Levels are ordered. A node is hidden from users with a level below read_object, and
looks as if it did not exist. So does a data object in a hidden collection.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from compute_to_data.errors import Code, ZoneError, zone_error
from compute_to_data.model import Access, Permission, User, UserKind


def _readable(node: str) -> str:
    return f"""
        EXISTS (SELECT 1 FROM access a
                WHERE a.node = {node} AND a.level >= {int(Access.READ_OBJECT)}
                  AND a.principal IN (SELECT principal FROM membership WHERE member = :me))
    """


LEVEL = """
    (SELECT coalesce(max(a.level), 1000) FROM access a
     WHERE a.node = n.id AND a.principal IN (SELECT principal FROM membership WHERE member = :me))
"""
"""SQL: the level of user ``:me`` on node ``n``."""

VISIBLE = f"({_readable('n.id')} AND (n.path NOTNULL OR {_readable('n.parent')}))"
"""SQL: whether user ``:me`` can see node ``n``. A data object also needs a readable collection."""


@dataclass(frozen=True)
class Actor:
    """The user whose rights an operation has. ``administers``: it has all rights, regardless of access lists."""

    id: int
    user: User
    kind: UserKind
    administers: bool = False


def find_principal(connection: sqlite3.Connection, user: User) -> Actor:
    """A user or group of the catalog. NotFound -827000."""
    query = "SELECT id, kind FROM user WHERE name = ? AND zone = ?"
    row = connection.execute(query, (user.name, user.zone)).fetchone()
    if row is None:
        raise zone_error(Code.CAT_INVALID_USER, str(user), "no such user or group")
    return Actor(row[0], user, UserKind(row[1]))


def find_user(connection: sqlite3.Connection, user: User) -> Actor:
    """A user, who can have a session; a group cannot. NotFound -827000."""
    actor = find_principal(connection, user)
    if actor.kind is UserKind.RODSGROUP:
        raise zone_error(Code.CAT_INVALID_USER, str(user), "a group, not a user")
    return actor


def denied(code: Code, subject: str, needed: Access, held: Access, user: User) -> ZoneError:
    """The error for a level that is too low."""
    needs, has = (level.name.lower() for level in (needed, held))
    cause = f"this needs {needs}, and {user} has {has}"
    return zone_error(code, subject, cause, f"Ask an owner for {needs}")


def rows_of(connection: sqlite3.Connection, node: int) -> list[tuple[int, int]]:
    """A node's access list as the catalog holds it: (principal, level)."""
    return connection.execute("SELECT principal, level FROM access WHERE node = ?", (node,)).fetchall()


def rows_for_child(
    connection: sqlite3.Connection, parent: int, inherits: bool, creator: Actor
) -> list[tuple[int, int]]:
    """The access list of a new child: the rows of a parent that inherits, else own for the creator."""
    return rows_of(connection, parent) if inherits else [(creator.id, int(Access.OWN))]


def permissions(connection: sqlite3.Connection, node: int, most: int | None) -> tuple[Permission, ...]:
    """A node's access list, ordered by user; at most one row more than ``most``."""
    query = """
        SELECT u.name, u.zone, u.kind, a.level FROM access a JOIN user u ON u.id = a.principal
        WHERE a.node = ? ORDER BY u.name, u.zone LIMIT ?
    """
    return tuple(
        Permission(User(name, zone), UserKind(kind), Access(level))
        for name, zone, kind, level in connection.execute(query, (node, -1 if most is None else most + 1))
    )


def put(connection: sqlite3.Connection, nodes: list[int], principal: int, access: Access) -> None:
    """Set a user's row in the access lists of these nodes; NULL removes it."""
    if access is Access.NULL:
        statement = "DELETE FROM access WHERE node = ? AND principal = ?"
        connection.executemany(statement, [(node, principal) for node in nodes])
    else:
        statement = "INSERT OR REPLACE INTO access (node, principal, level) VALUES (?, ?, ?)"
        connection.executemany(statement, [(node, principal, int(access)) for node in nodes])
