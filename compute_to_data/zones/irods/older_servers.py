"""Refuses what iRODS before 5.0 does wrong with some names: it stops half-way, or its agent ends."""

from __future__ import annotations

from irods.connection import Connection

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import KEPT_BY_5, is_broken_by_43
from compute_to_data.zones.irods.failures import shown
from compute_to_data.zones.irods.query import Begins, Column, Equals, Row, select


def need_one_that_keeps(connection: Connection, logical_path: str) -> None:
    """ZoneError -317000 from a server before 5.0, for a path that ``irods_names.is_broken_by_43``."""
    if _breaks(connection, logical_path):
        cause = f"iRODS before 5.0 cannot keep {KEPT_BY_5}"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(logical_path), cause, "Choose another name")


def need_one_that_uses(connection: Connection, data_object: str) -> None:
    """The same, for a data object that got its path when its collection was renamed.

    An agent that is to open it ends, and the connection with it. Replicating or removing it fails with a code.
    Renaming, trimming, computing its checksum and removing its collection work.
    """
    if _breaks(connection, data_object):
        cause = f"iRODS before 5.0 cannot read, replicate or remove {KEPT_BY_5}"
        raise zone_error(Code.USER_INPUT_PATH_ERR, shown(data_object), cause, "Rename it, or the collection")


def need_one_that_keeps_members(connection: Connection, collection: str, destination: str) -> None:
    """The same, for members of a collection that is to be renamed."""
    if connection.server_version >= (5,) or "'" not in destination:
        return
    for row in _members(connection, collection):
        renamed = destination + "/".join(row)[len(collection) :]
        if is_broken_by_43(renamed):
            cause = f"iRODS before 5.0 cannot keep {KEPT_BY_5}, which a member would have"
            raise zone_error(Code.USER_INPUT_PATH_ERR, shown(renamed), cause, "Choose another name")


def _members(connection: Connection, collection: str) -> list[Row]:
    columns = [Column.COLL_NAME, Column.DATA_NAME]
    return [
        *select(connection, columns, [Equals(Column.COLL_NAME, collection)]),
        *select(connection, columns, [Begins(Column.COLL_NAME, f"{collection}/")]),
        *select(connection, columns[:1], [Begins(Column.COLL_NAME, f"{collection}/")]),
    ]


def _breaks(connection: Connection, logical_path: str) -> bool:
    return is_broken_by_43(logical_path) and connection.server_version < (5,)
