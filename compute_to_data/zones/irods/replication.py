"""Makes, trims and verifies replicas."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from irods.api_number import api_number
from irods.connection import Connection

from compute_to_data import large_files
from compute_to_data.errors import Code, zone_error
from compute_to_data.model import DataObject, Replica, ReplicaStatus
from compute_to_data.zones.irods import lookup, older_servers
from compute_to_data.zones.irods.failures import about, shown
from compute_to_data.zones.irods.wire import about_object, ask, field

TRANSFER_SECONDS: Final = 24 * 3600.0
"""How long the server may copy one data object."""
_REPLICATE: Final = 6


def need_object(connection: Connection, data_object: str) -> DataObject:
    """The data object. NotFound (-817000) when it is missing or hidden."""
    found = lookup.find_object(connection, data_object)
    if found is None:
        raise lookup.missing(data_object, Code.CAT_UNKNOWN_FILE)
    return found


def replicate(connection: Connection, data_object: str, resource: str, *, administering: bool) -> None:
    """As ``Catalog.replicate``. The server does nothing when there is a good replica already."""
    need_object(connection, data_object)
    older_servers.need_one_that_uses(connection, data_object)
    options = {"destRescName": resource, **({"irodsAdmin": ""} if administering else {})}
    with about(f"{data_object} to {resource}"):
        ask(connection, api_number["DATA_OBJ_REPL_AN"], about_object(data_object, options, operation=_REPLICATE))


def trim(connection: Connection, data_object: str, number: int) -> None:
    """As ``Catalog.trim``."""
    found = need_object(connection, data_object)
    if all(replica.number != number for replica in found.replicas):
        raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, shown(data_object), f"there is no replica {number}")
    _trim(connection, found, [number], administering=False)


def trim_from(connection: Connection, data_object: str, resource: str) -> None:
    """As ``Storage.trim``: all replicas under the root resource."""
    lookup.resource_id(connection, resource)
    found = need_object(connection, data_object)
    numbers = [replica.number for replica in found.replicas if replica.root == resource]
    _trim(connection, found, numbers, administering=True)


def _trim(connection: Connection, found: DataObject, numbers: Sequence[int], *, administering: bool) -> None:
    """Trim replicas, but keep the last good one: iRODS keeps it too, but does not always report an error."""
    good = {replica.number for replica in found.replicas if replica.status is ReplicaStatus.GOOD}
    if good and good <= set(numbers):
        cause = "that would remove the last good replica"
        raise zone_error(Code.USER_INCOMPATIBLE_PARAMS, shown(found.logical_path), cause)
    for number in numbers:
        options = {"replNum": str(number), "copies": "1", **({"irodsAdmin": ""} if administering else {})}
        with about(found.logical_path):
            ask(connection, api_number["DATA_OBJ_TRIM_AN"], about_object(found.logical_path, options))


def need_replica(found: DataObject, number: int) -> Replica:
    """The replica of that number. NotFound (-164000)."""
    for replica in found.replicas:
        if replica.number == number:
            return replica
    raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, shown(found.logical_path), f"there is no replica {number}")


def verify_there(connection: Connection, replica: Replica, data_object: str) -> str:
    """As ``Storage.verify``, for a replica on another host: the server there reads the file."""
    options = {"replNum": str(replica.number), "irodsAdmin": ""}
    with about(data_object, {Code.CHECK_VERIFICATION_RESULTS: Code.USER_CHKSUM_MISMATCH}):
        request = about_object(data_object, {**options, "verifyChksum": ""} if replica.checksum else options)
        answer = ask(connection, api_number["DATA_OBJ_CHKSUM_AN"], request)
    return replica.checksum or field(answer.body, "myStr")


def verify_here(replica: Replica, data_object: str) -> str:
    """As ``Storage.verify``, for a replica on this host."""
    computed = _checksum_of(replica.physical_path)
    if replica.checksum and computed != replica.checksum:
        cause = f"replica {replica.number} has the checksum {computed}, the catalog {replica.checksum}"
        raise zone_error(Code.USER_CHKSUM_MISMATCH, shown(data_object), cause, "Trim that replica, or repair it")
    return computed


def _checksum_of(physical_path: str) -> str:
    digest = hashlib.sha256()
    try:
        # The file may have been replaced by a link or a FIFO: do not follow the one, or wait for the other.
        descriptor = os.open(physical_path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            large_files.add_file(digest, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        cause = f"cannot be read here: {error.strerror}"
        remedy = "The worker must run on the host of the resource, with the rights of the iRODS server"
        raise zone_error(Code.UNIX_FILE_OPEN_ERR, shown(physical_path), cause, remedy) from error
    return f"sha2:{base64.b64encode(digest.digest()).decode()}"
