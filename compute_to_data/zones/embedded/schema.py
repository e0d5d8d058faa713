"""The catalog's tables.

All entities that can have AVUs share one sequence of ids (``entity``). An id is never used twice, and
older entities have lower ids. Deleting an entity also deletes its access list, replicas and AVUs, so
none of them can be orphaned. A collection is a node with a ``path``; a data object is a node without.

Columns have their types as checks, because STRICT tables need SQLite 3.37 and the oldest platform has
3.34.
"""

from __future__ import annotations

APPLICATION_ID = 0x63326431
"""Marks the database file as a catalog of this kind ("c2d1")."""

VERSION = 3
"""Of the tables below; kept as the database's ``user_version``."""

_OWNERS_INDEX = """
    CREATE INDEX avu_by_owner ON avu (attribute, value, units, owner, entity) WHERE owner <> ''
"""
_LISTING_INDEX = "CREATE INDEX avu_of_owner ON avu (attribute, owner, entity) WHERE owner <> ''"
_FROM_1 = (
    "ALTER TABLE avu ADD COLUMN owner TEXT NOT NULL DEFAULT ''",
    """
    UPDATE avu SET owner = (SELECT owner_name || '#' || owner_zone FROM node WHERE id = avu.entity)
    WHERE entity IN (SELECT id FROM node WHERE path NOTNULL)
    """,
    _OWNERS_INDEX,
)
UPGRADES = {1: _FROM_1, 2: (_LISTING_INDEX,)}
"""For each earlier version, the statements that turn a catalog into one of the next version."""

TABLES = (
    """
    CREATE TABLE entity (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('user', 'resource', 'collection', 'data_object'))
    )
    """,
    """
    CREATE TABLE user (
        id INTEGER PRIMARY KEY REFERENCES entity (id) ON DELETE CASCADE,
        name TEXT NOT NULL CHECK (typeof(name) = 'text' AND name <> ''),
        zone TEXT NOT NULL CHECK (typeof(zone) = 'text' AND zone <> ''),
        kind TEXT NOT NULL CHECK (kind IN ('rodsuser', 'groupadmin', 'rodsadmin', 'rodsgroup')),
        UNIQUE (name, zone)
    )
    """,
    # Each user is also a member of themselves, as of iRODS's group of the same name.
    """
    CREATE TABLE membership (
        member INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
        principal INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
        PRIMARY KEY (member, principal)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX membership_by_principal ON membership (principal)",
    """
    CREATE TABLE resource (
        id INTEGER PRIMARY KEY REFERENCES entity (id) ON DELETE CASCADE,
        name TEXT NOT NULL UNIQUE CHECK (typeof(name) = 'text' AND name <> ''),
        kind TEXT NOT NULL CHECK (kind IN ('unixfilesystem', 'replication', 'passthru')),
        host TEXT NOT NULL,
        vault TEXT NOT NULL,
        parent INTEGER REFERENCES resource (id),
        status TEXT NOT NULL DEFAULT '' CHECK (status IN ('', 'up', 'down', 'auto-up', 'auto-down'))
    )
    """,
    """
    CREATE TABLE node (
        id INTEGER PRIMARY KEY REFERENCES entity (id) ON DELETE CASCADE,
        parent INTEGER NOT NULL REFERENCES node (id),
        name TEXT NOT NULL CHECK (typeof(name) = 'text' AND instr(name, '/') = 0),
        path TEXT CHECK (path LIKE '/%'),
        owner_name TEXT NOT NULL,
        owner_zone TEXT NOT NULL,
        inherits INTEGER NOT NULL DEFAULT 0 CHECK (inherits IN (0, 1)),
        created REAL NOT NULL,
        modified REAL NOT NULL,
        UNIQUE (parent, name)
    )
    """,
    "CREATE UNIQUE INDEX node_by_path ON node (path) WHERE path NOTNULL",
    """
    CREATE TABLE access (
        node INTEGER NOT NULL REFERENCES node (id) ON DELETE CASCADE,
        principal INTEGER NOT NULL REFERENCES user (id) ON DELETE CASCADE,
        level INTEGER NOT NULL CHECK (level BETWEEN 1001 AND 1200),
        PRIMARY KEY (node, principal)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE replica (
        node INTEGER NOT NULL REFERENCES node (id) ON DELETE CASCADE,
        number INTEGER NOT NULL CHECK (number >= 0),
        resource INTEGER NOT NULL REFERENCES resource (id),
        status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 4),
        size INTEGER NOT NULL CHECK (typeof(size) = 'integer' AND size >= 0),
        physical_path TEXT NOT NULL CHECK (typeof(physical_path) = 'text'),
        checksum TEXT NOT NULL CHECK (typeof(checksum) = 'text'),
        PRIMARY KEY (node, number),
        UNIQUE (node, resource)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE avu (
        entity INTEGER NOT NULL REFERENCES entity (id) ON DELETE CASCADE,
        attribute TEXT NOT NULL CHECK (typeof(attribute) = 'text' AND attribute <> ''),
        value TEXT NOT NULL CHECK (typeof(value) = 'text' AND value <> ''),
        units TEXT NOT NULL DEFAULT '' CHECK (typeof(units) = 'text'),
        owner TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (entity, attribute, value, units)
    ) WITHOUT ROWID
    """,
    # For the queue: finds all entities with one (attribute, value, units), oldest first, without sorting.
    "CREATE INDEX avu_by_value ON avu (attribute, value, units, entity)",
    # For fair queues: the owners of collections with one (attribute, value, units), without reading the collections.
    # ``owner`` (``name#zone``) repeats the node's owner, which never changes; it is '' for all but collections.
    _OWNERS_INDEX,
    # For a user's own collections with an attribute, the newest first, whatever its value.
    _LISTING_INDEX,
    # Files that may be removed; files.py explains how.
    """
    CREATE TABLE garbage (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        physical_path TEXT NOT NULL,
        twin TEXT
    )
    """,
    "CREATE INDEX garbage_by_path ON garbage (physical_path)",
    "CREATE INDEX garbage_by_twin ON garbage (twin) WHERE twin IS NOT NULL",
    """
    CREATE TABLE zone (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        name TEXT NOT NULL,
        admin INTEGER NOT NULL REFERENCES user (id),
        default_resource INTEGER NOT NULL REFERENCES resource (id)
    )
    """,
)
