"""What all operations work on: a zone's catalog, its vault files, its name."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from compute_to_data.errors import ConfigurationError
from compute_to_data.zones.embedded.database import Database
from compute_to_data.zones.embedded.files import Files
from compute_to_data.zones.embedded.rights import Actor
from compute_to_data.zones.embedded.schema import APPLICATION_ID, UPGRADES, VERSION

DATABASE = "zone.db"

Who = Callable[[sqlite3.Connection], Actor]
"""Looks up a session's user in the current transaction, since users and groups change."""


class Store:
    """An open zone. Threads and processes may share it."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        file = os.path.join(self.directory, DATABASE)
        remedy = "Make one: c2d zone create, or EmbeddedZone.create"
        # SQLite would make a missing file, and an empty file is a valid database.
        if not os.path.isfile(file):
            raise ConfigurationError(self.directory, "no zone is there", remedy)
        self.database = Database(file)
        self.files = Files(self.database, self.directory)
        try:
            connection = self.database.connection()
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            if application == APPLICATION_ID:
                self._upgrade()
            version = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(file, f"not a zone's catalog: {error}", remedy) from error
        if application != APPLICATION_ID:
            raise ConfigurationError(file, "a database of something else, not a zone's catalog", remedy)
        if version != VERSION:
            cause = f"a catalog of version {version}, but this program reads version {VERSION}"
            raise ConfigurationError(file, cause, "Use the release that made it")
        query = "SELECT z.name, u.name FROM zone z JOIN user u ON u.id = z.admin"
        names: tuple[str, str] = connection.execute(query).fetchone()
        self.zone, self.admin = names

    def _upgrade(self) -> None:
        """Turn a catalog of an earlier version into one of this version."""
        query = "PRAGMA user_version"
        while (version := self.database.connection().execute(query).fetchone()[0]) in UPGRADES:
            with self.database.writing() as connection:
                if connection.execute(query).fetchone()[0] == version:  # else another process was faster
                    for statement in UPGRADES[version]:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {version + 1}")

    def close(self) -> None:
        """Close the connections."""
        self.database.close()
