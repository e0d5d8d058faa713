"""The bytes of data objects: reading, writing, checksums."""

from __future__ import annotations

from typing import Final

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import OpenedDataObjRequest, StringStringMap

from compute_to_data.errors import Code, zone_error
from compute_to_data.model import ReplicaStatus
from compute_to_data.zones.irods import lookup
from compute_to_data.zones.irods.failures import about, shown, translated
from compute_to_data.zones.irods.wire import ServerError, about_object, ask, field

_BLOCK: Final = 4 * 1024 * 1024
_PUT_OPERATION: Final = 1
_FILE_MODE: Final = 0o600


def read(connection: Connection, data_object: str) -> bytes:
    """As ``Catalog.read``. iRODS itself would hand out a stale replica: it is asked first."""
    found = lookup.find_object(connection, data_object)
    if found is not None and all(replica.status is ReplicaStatus.STALE for replica in found.replicas):
        raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, shown(data_object), "all its replicas are stale")
    absent = dict.fromkeys((Code.USER_FILE_DOES_NOT_EXIST, Code.CAT_NO_ROWS_FOUND), Code.OBJ_PATH_DOES_NOT_EXIST)
    with about(data_object, {**absent, Code.CAT_NO_ACCESS_PERMISSION: Code.OBJ_PATH_DOES_NOT_EXIST}):
        descriptor = ask(connection, api_number["DATA_OBJ_OPEN_AN"], about_object(data_object)).info
        content = b"".join(_blocks(connection, descriptor))
        ask(connection, api_number["DATA_OBJ_CLOSE_AN"], _opened(descriptor))
    return content


def _blocks(connection: Connection, descriptor: int) -> list[bytes]:
    blocks: list[bytes] = []
    while True:
        block = ask(connection, api_number["DATA_OBJ_READ_AN"], _opened(descriptor, _BLOCK)).content
        if not block:
            return blocks
        blocks.append(block)


def _opened(descriptor: int, length: int = 0) -> OpenedDataObjRequest:
    return OpenedDataObjRequest(
        l1descInx=descriptor,
        len=length,
        whence=0,
        oprType=0,
        offset=0,
        bytesWritten=0,
        KeyValPair_PI=StringStringMap({}),
    )


def write(connection: Connection, data_object: str, content: bytes, resource: str, force: bool) -> None:
    """As ``Catalog.write``: one call holds all, so that there is never half an object."""
    options = {"dataType": "generic", "dataIncluded": "", "regChksum": ""}
    options.update({"destRescName": resource} if resource else {})
    options.update({"forceFlag": ""} if force else {})
    request = about_object(data_object, options, operation=_PUT_OPERATION, size=len(content), mode=_FILE_MODE)
    try:
        ask(connection, api_number["DATA_OBJ_PUT_AN"], request, content)
    except ServerError as error:
        # An object that the user may read and not modify counts as one to be made, and is in the way.
        in_the_way = force and error.code == Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME
        denied = in_the_way and lookup.find_object(connection, data_object) is not None
        instead = {Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME: Code.CAT_NO_ACCESS_PERMISSION} if denied else {}
        raise translated(error, data_object, instead) from error


def checksum(connection: Connection, data_object: str) -> str:
    """As ``Catalog.checksum``."""
    found = lookup.find_object(connection, data_object)
    for replica in found.replicas if found is not None else ():
        if replica.status is ReplicaStatus.GOOD and replica.checksum:
            return replica.checksum
    absent = {Code.CAT_NO_ACCESS_PERMISSION: Code.OBJ_PATH_DOES_NOT_EXIST} if found is None else {}
    with about(data_object, absent):
        answer = ask(connection, api_number["DATA_OBJ_CHKSUM_AN"], about_object(data_object, size=0))
    return field(answer.body, "myStr")
