"""Checks that the catalog is consistent with itself and with the vaults."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator

from compute_to_data.model import ReplicaStatus
from compute_to_data.zones.embedded import disk
from compute_to_data.zones.embedded.store import Store

_RULES = {
    "a collection whose path is not its parent's and its name": """
        SELECT n.path FROM node n JOIN node p ON p.id = n.parent
        WHERE n.path NOTNULL AND n.name <> '' AND n.path <> rtrim(p.path, '/') || '/' || n.name
    """,
    "something in a data object": """
        SELECT n.name FROM node n JOIN node p ON p.id = n.parent WHERE p.path ISNULL
    """,
    "a data object without a replica": """
        SELECT n.name FROM node n WHERE n.path ISNULL AND n.id NOT IN (SELECT node FROM replica)
    """,
    "a collection with a replica": """
        SELECT n.path FROM node n WHERE n.path NOTNULL AND n.id IN (SELECT node FROM replica)
    """,
    "an entity that is nothing": """
        SELECT id FROM entity WHERE id NOT IN
        (SELECT id FROM node UNION ALL SELECT id FROM user UNION ALL SELECT id FROM resource)
    """,
    "AVUs of nothing": "SELECT DISTINCT entity FROM avu WHERE entity NOT IN (SELECT id FROM entity)",
    "an access list of nothing": "SELECT DISTINCT node FROM access WHERE node NOT IN (SELECT id FROM node)",
    "an access list naming nobody": "SELECT node FROM access WHERE principal NOT IN (SELECT id FROM user)",
    "a user outside the group of their own name": """
        SELECT u.name FROM user u WHERE u.kind <> 'rodsgroup'
        AND NOT EXISTS (SELECT 1 FROM membership m WHERE m.member = u.id AND m.principal = u.id)
    """,
    "a replica's file about to be collected": """
        SELECT r.physical_path FROM replica r JOIN garbage g USING (physical_path) WHERE g.twin ISNULL
    """,
}


def audit(directory: str) -> list[str]:
    """Descriptions of all inconsistencies of the zone in a directory; none for a consistent zone.

    Reads all good replicas. Run it while no process writes.
    """
    store = Store(directory)
    try:
        with store.database.reading() as connection:
            return [*_broken_rules(connection), *_broken_replicas(connection)]
    finally:
        store.close()


def _broken_rules(connection: sqlite3.Connection) -> Iterator[str]:
    for (answer,) in connection.execute("PRAGMA integrity_check"):
        if answer != "ok":
            yield f"the database file: {answer}"
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        yield f"row {row} of {table} refers to a {parent} that is not there"
    for rule, query in _RULES.items():
        for (subject,) in connection.execute(query):
            yield f"{rule}: {subject}"


def _broken_replicas(connection: sqlite3.Connection) -> Iterator[str]:
    query = "SELECT physical_path, size, checksum FROM replica WHERE status = ?"
    for path, size, checksum in connection.execute(query, (int(ReplicaStatus.GOOD),)):
        if not os.path.isfile(path):
            yield f"a good replica without its file: {path}"
        elif os.path.getsize(path) != size:
            yield f"a good replica of {size} bytes whose file has {os.path.getsize(path)}: {path}"
        elif checksum:
            with open(path, "rb") as file:
                if disk.checksum_of_file(file) != checksum:
                    yield f"a good replica whose file has another checksum: {path}"
