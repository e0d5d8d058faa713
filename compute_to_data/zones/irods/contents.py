"""Reads and writes the content of data objects, and computes checksums."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from irods.api_number import api_number
from irods.connection import Connection
from irods.message import OpenedDataObjRequest, StringStringMap

from compute_to_data import bounds
from compute_to_data.errors import Code, zone_error
from compute_to_data.model import DataObject, ReplicaStatus
from compute_to_data.zones.irods import lookup, older_servers
from compute_to_data.zones.irods.failures import about, shown, translated
from compute_to_data.zones.irods.wire import ServerError, about_object, ask, field

_BLOCK: Final = 4 * 1024 * 1024
_PUT_OPERATION: Final = 1
_FILE_MODE: Final = 0o600


def read(connection: Connection, data_object: str, most_bytes: int) -> bytes:
    """As ``Catalog.read``. Checks the replicas first, since iRODS itself would return a stale one."""
    descriptor = _open_to_read(connection, data_object, most_bytes)
    with about(data_object, _ABSENT):
        content = _blocks(connection, descriptor, most_bytes)
        ask(connection, api_number["DATA_OBJ_CLOSE_AN"], opened(descriptor))
    bounds.check_growing(shown(data_object), sum(map(len, content)), most_bytes)
    return b"".join(content)


_ABSENT = dict.fromkeys(
    (Code.USER_FILE_DOES_NOT_EXIST, Code.CAT_NO_ROWS_FOUND, Code.CAT_NO_ACCESS_PERMISSION), Code.OBJ_PATH_DOES_NOT_EXIST
)


def _open_to_read(connection: Connection, data_object: str, most_bytes: int | None = None) -> int:
    found = lookup.find_object(connection, data_object)
    if found is not None and most_bytes is not None:
        bounds.check_size(shown(data_object), found.size, most_bytes)
    if found is not None and all(replica.status is ReplicaStatus.STALE for replica in found.replicas):
        raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, shown(data_object), "all its replicas are stale")
    if found is not None:
        older_servers.need_one_that_uses(connection, data_object)
    with about(data_object, _ABSENT):
        return ask(connection, api_number["DATA_OBJ_OPEN_AN"], about_object(data_object)).info


class OpenObject:
    """An :class:`~compute_to_data.ports.OpenDataObject`, on a connection of its own. Use it as a context."""

    def __init__(self, connection: Connection, data_object: str) -> None:
        """Open it. Errors as for ``Catalog.read``."""
        self._connection = connection
        self._data_object = data_object
        self._descriptor = _open_to_read(connection, data_object)
        self._offset = 0

    def __enter__(self) -> OpenObject:
        return self

    def __exit__(self, *error: object) -> None:
        # The data object may be gone by now. Then the server refuses, but it has closed the file.
        with suppress(ServerError):
            ask(self._connection, api_number["DATA_OBJ_CLOSE_AN"], opened(self._descriptor))

    def read(self, offset: int, size: int) -> bytes:
        """As the port says."""
        with about(self._data_object):
            if offset != self._offset:
                ask(self._connection, api_number["DATA_OBJ_LSEEK_AN"], opened(self._descriptor, offset=offset))
            request = opened(self._descriptor, min(size, _BLOCK))
            content = bytes(ask(self._connection, api_number["DATA_OBJ_READ_AN"], request).content)
        self._offset = offset + len(content)
        return content


def need_readable(connection: Connection, data_object: str) -> DataObject:
    """The data object, if it has a good replica. Errors as for ``Catalog.read``."""
    found = lookup.find_object(connection, data_object)
    if found is None:
        raise lookup.missing(data_object, Code.OBJ_PATH_DOES_NOT_EXIST)
    if not any(replica.status is ReplicaStatus.GOOD for replica in found.replicas):
        code = lookup.at_work(connection, data_object) or Code.SYS_REPLICA_DOES_NOT_EXIST
        raise zone_error(code, shown(data_object), "it has no good replica")
    older_servers.need_one_that_uses(connection, data_object)
    return found


def _blocks(connection: Connection, descriptor: int, most_bytes: int) -> list[memoryview]:
    """The content in blocks, with at most one byte more than ``most_bytes``."""
    blocks: list[memoryview] = []
    left = most_bytes + 1
    while left:
        block = ask(connection, api_number["DATA_OBJ_READ_AN"], opened(descriptor, min(_BLOCK, left))).content
        if not block:
            break
        blocks.append(block)
        left -= len(block)
    return blocks


def opened(descriptor: int, length: int = 0, *, offset: int = 0) -> OpenedDataObjRequest:
    """A request about an open replica."""
    return OpenedDataObjRequest(
        l1descInx=descriptor,
        len=length,
        whence=0,
        oprType=0,
        offset=offset,
        bytesWritten=0,
        KeyValPair_PI=StringStringMap({}),
    )


def write(
    connection: Connection,
    data_object: str,
    content: bytes | memoryview,
    resource: str,
    force: bool,
    checksum: str = "",
) -> None:
    """As ``Catalog.write``, in one call, so that there is never half a data object.

    With ``checksum``, the server compares it with what it wrote (-314000).
    """
    options = {"dataType": "generic", "dataIncluded": "", "verifyChksum" if checksum else "regChksum": checksum}
    options.update({"destRescName": resource} if resource else {})
    options.update({"forceFlag": ""} if force else {})
    request = about_object(data_object, options, operation=_PUT_OPERATION, size=len(content), mode=_FILE_MODE)
    with _making(connection, data_object, resource, force):
        ask(connection, api_number["DATA_OBJ_PUT_AN"], request, content)


def create(connection: Connection, data_object: str, resource: str, size: int) -> int:
    """Open a new replica for writing, or truncate an existing one; returns its descriptor.

    Closing the descriptor records the checksum.
    """
    options = {"dataType": "generic", "regChksum": "", **({"destRescName": resource} if resource else {})}
    flags = os.O_CREAT | os.O_RDWR | os.O_TRUNC
    request = about_object(data_object, options, flags=flags, size=size, mode=_FILE_MODE)
    with _making(connection, data_object, resource, force=True):
        return ask(connection, api_number["DATA_OBJ_OPEN_AN"], request).info


@contextmanager
def _making(connection: Connection, data_object: str, resource: str, force: bool) -> Iterator[None]:
    try:
        yield
    except ServerError as error:
        if not resource and error.code == Code.SYS_INVALID_INPUT_PARAM:
            _blame_default_resource(connection, data_object)
        # For a data object that the user may read but not modify, iRODS tries to make a new one and
        # then reports that the name is taken.
        in_the_way = force and error.code == Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME
        denied = in_the_way and lookup.find_object(connection, data_object) is not None
        instead = {Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME: Code.CAT_NO_ACCESS_PERMISSION} if denied else {}
        raise translated(error, data_object, instead) from error


def _blame_default_resource(connection: Connection, data_object: str) -> None:
    """ZoneError (-105000) if resources are down: the server gives no reason when its default resource is."""
    down = [one.name for one in lookup.resources(connection) if not one.is_up]
    if down:
        cause = f"the server found no resource to write to. Marked down: {', '.join(down)}"
        raise zone_error(
            Code.SYS_RESC_IS_DOWN, shown(data_object), cause, "Name one that is up, or have one brought up"
        )


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
