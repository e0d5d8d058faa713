"""Repairs replicas that a killed agent left unfinished.

While an agent writes a replica, the replica is intermediate, and all others of its data object are
locked. Only that agent changes this back. If it is killed, the data object can be neither read nor
written nor replicated until an administrator corrects the states.
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
"""How long no process may have had the file open: an agent closes it before it updates the catalog."""
_LOCKED: Final = (ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED)


def is_left(connection: Connection, data_object: str, resource: str) -> bool:
    """Whether a replica under a root resource is intermediate, but no process has its file open.

    ZoneOutOfReach when a process has it open, or may have, for example on another host.
    """
    found = lookup.find_object(connection, data_object)
    left = _intermediate(found, resource) if found else []
    for replica in left:
        if not lookup.is_here(connection, replica.leaf) or _may_be_open(replica.physical_path):
            raise ZoneOutOfReach(
                shown(data_object),
                f"replica {replica.number} on {replica.leaf} is still being written",
                "If no transfer runs any more, correct its state with: iadmin modrepl",
                code=Code.INTERMEDIATE_REPLICA_ACCESS,
            )
    return bool(left)


def put_to_rest(connection: Connection, data_object: str, resource: str) -> None:
    """Make such replicas stale, and unlock all others. Needs a rodsadmin; may be repeated.

    Unlocks the others first: if this process is killed on the way, the next one still finds the
    intermediate replica.
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
    return [
        replica
        for replica in found.replicas
        if replica.root == resource and replica.status is ReplicaStatus.INTERMEDIATE
    ]


def _may_be_open(physical_path: str) -> bool:
    """Whether a process may have the file open. Agents that write to a resource run on its host.

    The kernel grants a lease on a file only to its owner, and only while no other process has the
    file open.
    """
    import fcntl  # here, since a client's platform may lack it, and only the service account needs it

    try:
        descriptor = os.open(physical_path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # another process that opens the file must not kill us
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _before_the_lock(connection: Connection, found: DataObject) -> dict[int, ReplicaStatus]:
    """The status of each locked replica before the lock, as far as the server has recorded it."""
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
