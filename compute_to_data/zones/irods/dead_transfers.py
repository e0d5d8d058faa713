"""Replicas that a dead server left in the middle of being written, and what can be done about them.

While a replica is being written iRODS calls it intermediate, and locks all others of its data object.
Only the agent that writes takes that back. When it is killed, nobody does: the data object can then be
neither read nor written nor replicated, until an administrator says that it is at rest.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any, Final

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import ModDataObjMeta_for_session, StringStringMap

from compute_to_data.errors import Code, ZoneOutOfReach
from compute_to_data.model import DataObject, ReplicaStatus, name_of, parent_of
from compute_to_data.zones.irods import lookup
from compute_to_data.zones.irods.failures import about, shown
from compute_to_data.zones.irods.query import Column, Equals, select
from compute_to_data.zones.irods.registration import description
from compute_to_data.zones.irods.wire import ask

QUIET_SECONDS: Final = 5.0
"""A replica must have been nobody's for so long: an agent closes its file before it tells the catalog."""
_LOCKED: Final = (ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED)


def is_left(connection: Connection, data_object: str, resource: str) -> bool:
    """Whether a replica under a root resource is being written, says the catalog, and nobody has its
    file open. ZoneOutOfReach when somebody has, or that cannot be told: then it is not ours to end."""
    found = lookup.find_object(connection, data_object)
    left = _intermediate(found, resource) if found else []
    for replica in left:
        if not lookup.is_here(connection, replica.leaf) or _may_be_open(replica.physical_path):
            raise ZoneOutOfReach(
                shown(data_object),
                f"replica {replica.number} on {replica.leaf} is still being written",
                "Should nobody write it any more: iadmin modrepl",
                code=Code.INTERMEDIATE_REPLICA_ACCESS,
            )
    return bool(left)


def put_to_rest(connection: Connection, data_object: str, resource: str) -> None:
    """Make such replicas stale, and unlock all others. Needs a rodsadmin; harmless when done twice.

    The others come first: whoever is killed on the way finds the intermediate one again.
    """
    found = lookup.find_object(connection, data_object)
    left = _intermediate(found, resource) if found else []
    if found is None or not left:
        return
    for number, before in _before_the_lock(connection, found).items():
        _set_status(connection, data_object, number, before)
    for replica in left:
        _set_status(connection, data_object, replica.number, ReplicaStatus.STALE)


def _intermediate(found: DataObject, resource: str) -> list[Any]:
    return [one for one in found.replicas if one.root == resource and one.status is ReplicaStatus.INTERMEDIATE]


def _may_be_open(physical_path: str) -> bool:
    """Whether any process may have the file open; agents that write to a resource run on its host.

    The kernel grants a lease on a file to nobody while another has it open, and to its owner only.
    """
    import fcntl  # only the service account gets here; a client may have no such module

    try:
        descriptor = os.open(physical_path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # who comes meanwhile must not kill us
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _before_the_lock(connection: Connection, found: DataObject) -> dict[int, ReplicaStatus]:
    """What each locked replica was, which the server has noted; those of which it has not are left out."""
    place = parent_of(found.logical_path), name_of(found.logical_path)
    at = [Equals(Column.COLL_NAME, place[0]), Equals(Column.DATA_NAME, place[1])]
    rows = select(connection, [Column.DATA_REPL_NUM, Column.DATA_STATUS_NOTE], at)
    noted = {int(number): note for number, note in rows}
    statuses = {}
    for replica in found.replicas:
        if replica.status in _LOCKED:
            try:
                before = ReplicaStatus(int(json.loads(noted[replica.number])["original_status"]))
            except (ValueError, KeyError, TypeError):
                continue
            statuses[replica.number] = before
    return statuses


def _set_status(connection: Connection, data_object: str, number: int, status: ReplicaStatus) -> None:
    info = description(connection, data_object, number)
    change = StringStringMap({"replStatus": str(int(status)), "statusString": "", "irodsAdmin": ""})
    with about(data_object):
        message = ModDataObjMeta_for_session(connection)(dataObjInfo=info, regParam=change)
        ask(connection, api_number["MOD_DATA_OBJ_META_AN"], message)
