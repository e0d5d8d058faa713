"""Makes and overwrites data objects."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from compute_to_data.errors import Code, zone_error
from compute_to_data.irods_names import check_in_zone
from compute_to_data.local_files import Digest
from compute_to_data.model import Access, Replica, ReplicaStatus, name_of, parent_of
from compute_to_data.zones.embedded import disk, nodes, replicas, resources
from compute_to_data.zones.embedded.files import Draft, Stage
from compute_to_data.zones.embedded.replicas import Copy
from compute_to_data.zones.embedded.resources import Leaf
from compute_to_data.zones.embedded.rights import Actor
from compute_to_data.zones.embedded.store import Store, Who


@dataclass(frozen=True)
class Plan:
    """What a write will do to the current catalog. ``node``: None for a new data object."""

    actor: Actor
    parent: nodes.Node
    node: int | None
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class NewObject:
    """A data object to write. ``make`` writes the new file at a physical path and returns its digest."""

    data_object: str
    make: Callable[[str], Digest]


def write(store: Store, who: Who, data_object: str, content: bytes, resource: str, force: bool) -> None:
    """As ``Catalog.write``."""

    def make(physical_path: str) -> Digest:
        digest = Digest()
        digest.update(content)
        disk.create(physical_path, [content])
        return digest

    make_objects(store, who, [NewObject(data_object, make)], resource, force)


def make_objects(store: Store, who: Who, wanted: Sequence[NewObject], resource: str, force: bool) -> list[str]:
    """Write all of them or none, in one transaction; returns their checksums."""
    for one in wanted:
        check_in_zone(one.data_object, store.zone)
    while True:
        with store.database.reading() as connection:
            planner = Planner(connection, who(connection), resource, force)
            plans = [planner.plan(one.data_object) for one in wanted]
        with suppress(_Changed), store.files.stage() as stage:
            return _carry_out(store, who, stage, list(zip(wanted, plans)), resource, force)


class _Changed(Exception):
    """Raised when the catalog has changed since the plan was made."""


def _carry_out(
    store: Store, who: Who, stage: Stage, planned: Sequence[tuple[NewObject, Plan]], resource: str, force: bool
) -> list[str]:
    paths = [leaf.proper_path(one.data_object) for one, plan in planned for leaf in plan.leaves]
    drafts = iter(stage.drafts(paths))
    made = [[(draft, one.make(draft.physical_path)) for _, draft in zip(plan.leaves, drafts)] for one, plan in planned]
    with store.database.writing() as connection:
        planner = Planner(connection, who(connection), resource, force)
        for (one, plan), files in zip(planned, made):
            now = planner.plan(one.data_object)
            if now.leaves != plan.leaves:
                raise _Changed
            record(connection, stage, now, files, one.data_object)
    return [files[0][1].text for files in made]


class Planner:
    """Plans for many data objects in one transaction. It looks up only once what new ones share."""

    def __init__(self, connection: sqlite3.Connection, actor: Actor, resource: str, force: bool) -> None:
        self._connection = connection
        self._actor = actor
        self._resource = resource
        self._force = force
        self._parents: dict[str, nodes.Node] = {}
        self._leaves: tuple[Leaf, ...] = ()

    def plan(self, data_object: str) -> Plan:
        """What writing this data object will do. Errors as for ``Catalog.write``."""
        connection, actor = self._connection, self._actor
        node = nodes.find(connection, actor, data_object)
        if node is None:
            return Plan(actor, self._parent(data_object), None, self._usable_leaves())
        nodes.need(node, actor, Access.MODIFY_OBJECT)
        if node.is_collection:
            raise zone_error(Code.CAT_NAME_EXISTS_AS_COLLECTION, data_object, "a collection of that name is there")
        if not self._force:
            cause = "a data object of that name is there"
            raise zone_error(Code.OVERWRITE_WITHOUT_FORCE_FLAG, data_object, cause, "Overwrite it with force")
        copies = replicas.copies_of(connection, node.id)
        replicas.need_at_rest(copies, data_object)
        leaves = _overwritten(connection, copies, data_object, self._resource)
        return Plan(actor, node, node.id, tuple(leaves))

    def _parent(self, data_object: str) -> nodes.Node:
        above = parent_of(data_object)
        if above not in self._parents:
            self._parents[above] = nodes.parent_for_creation(self._connection, self._actor, data_object)
        return self._parents[above]

    def _usable_leaves(self) -> tuple[Leaf, ...]:
        if not self._leaves:
            name = self._resource or resources.default(self._connection)
            self._leaves = tuple(resources.usable_leaves(self._connection, name, Code.SYS_RESC_IS_DOWN))
        return self._leaves


def _overwritten(connection: sqlite3.Connection, copies: list[Copy], data_object: str, resource: str) -> list[Leaf]:
    """The leaves that an overwrite goes to: those of the named root, else of the best replica's root."""
    ranked = sorted(copies, key=lambda copy: (not copy.is_up, not copy.is_good, copy.shown.number))
    root = resource or ranked[0].shown.root
    leaves = resources.usable_leaves(connection, root, Code.SYS_RESC_IS_DOWN)
    if not any(copy.shown.root == root for copy in copies):
        cause = f"it has no replica on {root} to overwrite"
        raise zone_error(Code.HIERARCHY_ERROR, data_object, cause, "Replicate it there, or name no resource")
    return leaves


def record(
    connection: sqlite3.Connection,
    stage: Stage,
    plan: Plan,
    files: Sequence[tuple[Draft, Digest]],
    data_object: str,
) -> None:
    """Put the new replicas in the catalog; the others turn stale."""
    node = plan.node
    if node is None:
        node = nodes.insert(connection, plan.actor, plan.parent, name_of(data_object), collection=False)
    else:
        nodes.touch(connection, node)
        statement = "UPDATE replica SET status = ? WHERE node = ?"
        connection.execute(statement, (int(ReplicaStatus.STALE), node))
    for number, (leaf, (draft, digest)) in enumerate(zip(plan.leaves, files)):
        path = stage.settle(connection, draft)
        replica = Replica(number, leaf.hierarchy, ReplicaStatus.GOOD, digest.size, path, digest.text)
        if plan.node is None:
            replicas.insert(connection, node, leaf.id, replica)
        else:
            put_good(connection, stage, node, leaf, replica)


def put_good(connection: sqlite3.Connection, stage: Stage, node: int, leaf: Leaf, replica: Replica) -> Replica:
    """Record a good replica on a leaf; returns it with its number.

    It replaces the leaf's replica, whose file is given up, or gets the next number.
    """
    copies = replicas.copies_of(connection, node)
    for copy in copies:
        if copy.resource == leaf.id:
            settled = replace(replica, number=copy.shown.number, hierarchy=copy.shown.hierarchy)
            stage.discard(connection, [copy.shown.physical_path])
            replicas.update(connection, node, settled)
            return settled
    number = max((copy.shown.number for copy in copies), default=-1) + 1
    settled = replace(replica, number=number)
    replicas.insert(connection, node, leaf.id, settled)
    return settled
