"""New data objects whose content arrives in pieces, each on a connection of its own.

A replica is intermediate until we close its descriptor, and iRODS lets no user read it. When the connection is lost
before that, the server marks the replica stale, and we remove the data object.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from irods.api_number import api_number
from irods.connection import Connection

from compute_to_data.errors import AlreadyExists, Code, NotFound, ZoneError, zone_error
from compute_to_data.local_files import Digest
from compute_to_data.model import ReplicaStatus
from compute_to_data.zones.irods import contents, lookup, tree
from compute_to_data.zones.irods.connections import Connections
from compute_to_data.zones.irods.contents import opened
from compute_to_data.zones.irods.failures import about, shown
from compute_to_data.zones.irods.transfer import CLOSE_SECONDS
from compute_to_data.zones.irods.wire import ServerError, ask

_REMOVAL_SECONDS: Final = 10.0
"""How long the server may take to notice that a connection is gone. Until then it refuses to remove the replica."""


class Arriving:
    """An :class:`~compute_to_data.zones.entrance.ArrivingDataObject`: an open descriptor of the server."""

    def __init__(self, connection: Connection, data_object: str, resource: str) -> None:
        if lookup.find_object(connection, data_object) is not None:
            cause = "a data object of that name is there"
            raise AlreadyExists(shown(data_object), cause, code=Code.OVERWRITE_WITHOUT_FORCE_FLAG)
        self._connection = connection
        self._data_object = data_object
        self._digest = Digest()
        self._descriptor = contents.create(connection, data_object, resource, 0)
        self.is_finished = False

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        block = b"".join(pieces)
        with about(self._data_object):
            ask(self._connection, api_number["DATA_OBJ_WRITE_AN"], opened(self._descriptor, len(block)), block)
        self._digest.update(block)

    def finish(self, sha256: bytes) -> str:
        self._digest.need(sha256)
        self._connection.socket.settimeout(CLOSE_SECONDS)
        with about(self._data_object):
            ask(self._connection, api_number["DATA_OBJ_CLOSE_AN"], opened(self._descriptor))
        found = lookup.find_object(self._connection, self._data_object)
        replicas = found.replicas if found is not None else ()
        recorded = {one.checksum for one in replicas if one.status is ReplicaStatus.GOOD}
        if self._digest.text not in recorded:
            cause = f"{self._digest.text} was sent, and the zone has {' and '.join(sorted(recorded)) or 'nothing good'}"
            raise zone_error(Code.USER_CHKSUM_MISMATCH, shown(self._data_object), cause, "Send it again")
        self.is_finished = True
        return self._digest.text


class _Unfinished(Exception):
    """Closes the connection of a data object that is not wanted any more."""


@contextmanager
def arriving(connections: Connections, data_object: str, resource: str) -> Iterator[Arriving]:
    """As ``GatewayCatalog.open_to_write``."""
    made: Arriving | None = None
    try:
        with about(data_object), connections.lent() as connection:
            made = Arriving(connection, data_object, resource)
            yield made
            if not made.is_finished:
                raise _Unfinished
    except _Unfinished:
        pass
    finally:
        if made is not None and not made.is_finished:
            _remove(connections, data_object)


def _remove(connections: Connections, data_object: str) -> None:
    """Remove what was left unfinished. The server frees it once it has seen that the connection is closed."""
    until = time.monotonic() + _REMOVAL_SECONDS
    while True:
        try:
            connections.call(lambda connection: tree.remove(connection, data_object, False), again=True)
            return
        except NotFound:
            return
        except (ZoneError, ServerError):
            if time.monotonic() > until:
                return  # the replica is stale: no user can read it, and its owner can overwrite or remove it
        time.sleep(0.1)
