"""Replicates, trims and verifies data objects."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from compute_to_data.errors import Code, zone_error
from compute_to_data.local_files import Digest
from compute_to_data.model import Access, Replica
from compute_to_data.zones.embedded import disk, nodes, replicas, resources
from compute_to_data.zones.embedded.files import Draft
from compute_to_data.zones.embedded.replicas import Copy
from compute_to_data.zones.embedded.resources import Leaf
from compute_to_data.zones.embedded.store import Store, Who
from compute_to_data.zones.embedded.writing import put_good


@dataclass(frozen=True)
class _Plan:
    """What a replication will do: ``leaves`` need a good replica, ``held`` is a good one that is already
    under the root."""

    node: int
    source: Copy | None
    leaves: tuple[Leaf, ...]
    held: Copy | None


_Look = Callable[[sqlite3.Connection], _Plan]


def replicate(store: Store, who: Who, data_object: str, resource: str) -> Replica:
    """As ``Catalog.replicate``; returns a good replica under that root."""

    def look(connection: sqlite3.Connection) -> _Plan:
        actor = who(connection)
        node = nodes.see_object(connection, actor, data_object, Code.CAT_UNKNOWN_FILE)
        nodes.need(node, actor, Access.MODIFY_OBJECT, Code.SYS_USER_NO_PERMISSION)
        return _plan(connection, node.id, data_object, resource)

    while True:
        with store.database.reading() as connection:
            plan = look(connection)
        if not plan.leaves and plan.held is not None:
            return plan.held.shown
        made = _carry_out(store, look, plan, data_object)
        if made is not None:
            return made


def _plan(connection: sqlite3.Connection, node: int, data_object: str, resource: str) -> _Plan:
    leaves = resources.usable_leaves(connection, resource, Code.SYS_REPLICA_INACCESSIBLE)
    copies = replicas.copies_of(connection, node)
    good = {copy.resource: copy for copy in copies if copy.is_good}
    held = next((good[leaf.id] for leaf in leaves if leaf.id in good), None)
    wanting = tuple(leaf for leaf in leaves if leaf.id not in good)
    if not wanting:
        return _Plan(node, None, (), held)
    replicas.need_at_rest(copies, data_object)
    return _Plan(node, replicas.readable(copies, data_object), wanting, held)


def _carry_out(store: Store, look: _Look, plan: _Plan, data_object: str) -> Replica | None:
    """Copy the bytes and record the replicas. None when the catalog has changed in the meantime."""
    with store.files.stage() as stage:
        drafts = stage.drafts([leaf.proper_path(data_object) for leaf in plan.leaves])
        try:
            for draft in drafts:
                _fill(draft, store, look, plan, data_object)
        except _Changed:
            return None
        with store.database.writing() as connection:
            if plan.source is None or look(connection) != plan:
                return None
            made = []
            for leaf, draft in zip(plan.leaves, drafts):
                place = stage.settle(connection, draft)
                shown = replace(plan.source.shown, hierarchy=leaf.hierarchy, physical_path=place)
                made.append(put_good(connection, stage, plan.node, leaf, shown))
    return made[0]


class _Changed(Exception):
    """Raised when the data object needs no replica any more, or has another source for it."""


def _fill(draft: Draft, store: Store, look: _Look, plan: _Plan, data_object: str) -> None:
    """Copy the planned source to a draft. _Changed when it is no longer the source."""

    def source_of(connection: sqlite3.Connection) -> Copy:
        source = look(connection).source
        if source is None:
            raise _Changed
        return source

    with replicas.opened(store.database, source_of) as (copy, file):
        if copy != plan.source:
            raise _Changed
        _copy_bytes(draft, copy, file, data_object)


def _copy_bytes(draft: Draft, copy: Copy, file: BinaryIO, data_object: str) -> None:
    """Copy the source to the draft; -27000 or -314000 when size or checksum differ from the catalog's."""
    digest = Digest()
    disk.create(draft.physical_path, disk.blocks_of(file, digest))
    if digest.size != copy.shown.size:
        cause = f"the catalog has {copy.shown.size} bytes, the file {digest.size}"
        raise zone_error(Code.SYS_COPY_LEN_ERR, data_object, cause, "Repair the replica, or trim it")
    if copy.shown.checksum and digest.text != copy.shown.checksum:
        raise replicas.mismatch(data_object, copy.shown.checksum, digest.text)


def trim(store: Store, who: Who, data_object: str, number: int) -> None:
    """As ``Catalog.trim``."""

    def choose(copies: list[Copy]) -> list[Copy]:
        return [replicas.numbered(copies, number, data_object)]

    _drop(store, who, data_object, choose)


def trim_from(store: Store, who: Who, data_object: str, resource: str) -> None:
    """As ``Storage.trim``: all replicas under the root resource."""

    def choose(copies: list[Copy]) -> list[Copy]:
        return [copy for copy in copies if copy.shown.root == resource]

    with store.database.reading() as connection:
        resources.leaves(connection, resource)
    _drop(store, who, data_object, choose)


def _drop(store: Store, who: Who, data_object: str, choose: Callable[[list[Copy]], list[Copy]]) -> None:
    with store.files.stage() as stage, store.database.writing() as connection:
        actor = who(connection)
        node = nodes.see_object(connection, actor, data_object, Code.CAT_UNKNOWN_FILE)
        nodes.need(node, actor, Access.MODIFY_OBJECT)
        copies = replicas.copies_of(connection, node.id)
        dropped = choose(copies)
        if not dropped:
            return
        replicas.need_at_rest(dropped, data_object)
        replicas.need_another_good(copies, dropped, data_object)
        stage.discard(connection, [copy.shown.physical_path for copy in dropped])
        connection.executemany(
            "DELETE FROM replica WHERE node = ? AND number = ?",
            [(node.id, copy.shown.number) for copy in dropped],
        )


def checksum(store: Store, who: Who, data_object: str) -> str:
    """As ``Catalog.checksum``."""

    def find(connection: sqlite3.Connection) -> Copy:
        node = nodes.see_object(connection, who(connection), data_object, Code.OBJ_PATH_DOES_NOT_EXIST)
        copies = replicas.copies_of(connection, node.id)
        recorded = [copy for copy in copies if copy.is_good and copy.shown.checksum]
        return recorded[0] if recorded else replicas.readable(copies, data_object)

    with store.database.reading() as connection:
        known = find(connection).shown.checksum
    if known:
        return known
    with replicas.opened(store.database, find) as (copy, file):
        computed = disk.checksum_of_file(file)
    with store.database.writing() as connection:
        # Only for the replica that was read, since a session may have overwritten it in the meantime.
        if copy in replicas.copies_of(connection, copy.node):
            replicas.update(connection, copy.node, replace(copy.shown, checksum=computed))
    return computed


def verify(store: Store, who: Who, data_object: str, number: int) -> str:
    """As ``Storage.verify``."""

    def find(connection: sqlite3.Connection) -> Copy:
        node = nodes.see_object(connection, who(connection), data_object, Code.CAT_UNKNOWN_FILE)
        return replicas.numbered(replicas.copies_of(connection, node.id), number, data_object)

    with replicas.opened(store.database, find) as (copy, file):
        computed = disk.checksum_of_file(file)
    if copy.shown.checksum and computed != copy.shown.checksum:
        raise replicas.mismatch(data_object, copy.shown.checksum, computed)
    return computed
