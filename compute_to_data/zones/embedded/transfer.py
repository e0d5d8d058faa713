"""A person's files into data objects, and back."""

from __future__ import annotations

import sqlite3

from compute_to_data.errors import Code, zone_error
from compute_to_data.zones import local_files
from compute_to_data.zones.embedded import disk, nodes, replicas, writing
from compute_to_data.zones.embedded.replicas import Copy
from compute_to_data.zones.embedded.store import Store, Who
from compute_to_data.zones.local_files import Digest, Moved, silent


def put(store: Store, who: Who, file: str, data_object: str, resource: str, force: bool, moved: Moved) -> str:
    """As ``ClientCatalog.put``."""
    with local_files.source(file) as source:
        listeners = iter([moved])  # a second replica's bytes are not told

        def make(physical_path: str) -> Digest:
            return disk.copy_in(source, physical_path, next(listeners, silent))

        return writing.make_object(store, who, data_object, make, resource, force)


def get(store: Store, who: Who, data_object: str, file: str, moved: Moved) -> str:
    """As ``ClientCatalog.get``."""

    def find(connection: sqlite3.Connection) -> Copy:
        node = nodes.see_object(connection, who(connection), data_object, Code.OBJ_PATH_DOES_NOT_EXIST)
        return replicas.readable(replicas.copies_of(connection, node.id), data_object)

    with local_files.arriving(file) as target, replicas.opened(store.database, find) as (copy, content):
        digest = local_files.copy(content, target, moved)
        if digest.size != copy.shown.size:
            cause = f"the catalog has {copy.shown.size} bytes, the file {digest.size}"
            raise zone_error(Code.SYS_COPY_LEN_ERR, data_object, cause, "Mend the replica, or trim it")
        if copy.shown.checksum and digest.text != copy.shown.checksum:
            raise replicas.mismatch(data_object, copy.shown.checksum, digest.text)
    return digest.text
