"""Makes an empty zone: its directory, tables, first user, resource and collections."""

from __future__ import annotations

import os
import sqlite3
import time

from compute_to_data.errors import AlreadyExists
from compute_to_data.model import Access, User, UserKind
from compute_to_data.zones.embedded.database import Database
from compute_to_data.zones.embedded.resources import STORAGE
from compute_to_data.zones.embedded.schema import APPLICATION_ID, TABLES, VERSION
from compute_to_data.zones.embedded.store import DATABASE

FIRST_RESOURCE = "demoResc"
PUBLIC = "public"


def create(directory: str, zone: str, admin: str) -> None:
    """Make a zone in ``directory``, and the directory if it is missing. AlreadyExists if it holds a zone."""
    os.makedirs(directory, exist_ok=True)
    os.chmod(directory, 0o700)
    file = os.path.join(directory, DATABASE)
    database = Database(file)
    try:
        database.connection().execute("PRAGMA journal_mode = WAL")
        with database.writing() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                raise AlreadyExists(directory, "a zone is there already", "Open it, or choose another directory")
            for statement in TABLES:
                connection.execute(statement)
            _fill(
                connection,
                User(admin, zone),
                os.path.join(os.path.abspath(directory), "vaults", FIRST_RESOURCE),
            )
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
    finally:
        database.close()


def _fill(connection: sqlite3.Connection, admin: User, vault: str) -> None:
    insert_principal(connection, User(PUBLIC, admin.zone), UserKind.RODSGROUP)
    first = insert_principal(connection, admin, UserKind.RODSADMIN)
    resource = insert_resource(connection, FIRST_RESOURCE, STORAGE, "localhost", vault, None)
    root = _insert_collection(connection, None, "/", admin)
    top = _insert_collection(connection, root, f"/{admin.zone}", admin)
    home = _insert_collection(connection, top, f"/{admin.zone}/home", admin)
    for collection in (root, top, home):
        connection.execute("INSERT INTO access VALUES (?, ?, ?)", (collection, first, int(Access.OWN)))
    make_home(connection, admin, first)
    connection.execute("INSERT INTO zone VALUES (1, ?, ?, ?)", (admin.zone, first, resource))


def insert_entity(connection: sqlite3.Connection, kind: str) -> int:
    """The next id."""
    return int(connection.execute("INSERT INTO entity (kind) VALUES (?)", (kind,)).lastrowid or 0)


def insert_principal(connection: sqlite3.Connection, user: User, kind: UserKind) -> int:
    """Add a user or group; a user also joins ``public``. sqlite3.IntegrityError when the name is taken."""
    identity = insert_entity(connection, "user")
    connection.execute("INSERT INTO user VALUES (?, ?, ?, ?)", (identity, user.name, user.zone, kind.value))
    if kind is not UserKind.RODSGROUP:
        connection.execute("INSERT INTO membership VALUES (?, ?)", (identity, identity))
        query = "INSERT INTO membership SELECT ?, id FROM user WHERE name = ? AND kind = ?"
        connection.execute(query, (identity, PUBLIC, UserKind.RODSGROUP.value))
    return identity


def insert_resource(
    connection: sqlite3.Connection, name: str, kind: str, host: str, vault: str, parent: int | None
) -> int:
    """Add a resource. sqlite3.IntegrityError when the name is taken."""
    identity = insert_entity(connection, "resource")
    row = (identity, name, kind, host, vault, parent)
    connection.execute("INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, '')", row)
    return identity


def make_home(connection: sqlite3.Connection, user: User, identity: int) -> None:
    """Make ``/<zone>/home/<user>``, which the user owns; for a user of another zone ``name#zone``."""
    home, path = connection.execute(
        "SELECT id, path FROM node WHERE name = 'home' AND path LIKE '/%/home' ORDER BY id LIMIT 1"
    ).fetchone()
    name = user.name if path == f"/{user.zone}/home" else str(user)
    made = _insert_collection(connection, home, f"{path}/{name}", user)
    connection.execute("INSERT INTO access VALUES (?, ?, ?)", (made, identity, int(Access.OWN)))


def _insert_collection(connection: sqlite3.Connection, parent: int | None, path: str, owner: User) -> int:
    identity, now = insert_entity(connection, "collection"), time.time()
    connection.execute(
        "INSERT INTO node VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)",
        # Only "/" is its own parent, so that queries find it like all others, by parent and name.
        (
            identity,
            identity if parent is None else parent,
            path.rpartition("/")[2],
            path,
            owner.name,
            owner.zone,
            now,
            now,
        ),
    )
    return identity
