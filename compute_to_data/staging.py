"""Bringing inputs to the compute resource: used where they lie, replicated only when they must.

Also which data objects a request means: one, all below a collection, or the next one that no task
has claimed.
"""

from __future__ import annotations

import os
import random
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from weakref import WeakValueDictionary

from compute_to_data.errors import Code, EngineError, InvalidRequest, NotFound, Refused, zone_error
from compute_to_data.job import Mount
from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
    EntityKind,
    Replica,
    ReplicaStatus,
    Resource,
    parent_of,
)
from compute_to_data.ports import Catalog
from compute_to_data.record import require
from compute_to_data.task import InputKind, InputReference

INPUTS = "/inputs"
OUTPUTS = "/outputs"
MOST_INPUTS = 1024
"""Each is a mount of its own; as many as a request may name one by one."""
_CLAIM_ATTEMPTS = 50


@dataclass(frozen=True)
class Staged:
    """An input on the compute resource: the object, the replica to read, where a job sees it."""

    data_object: DataObject
    replica: Replica
    target: str
    checksum: str

    @property
    def mount(self) -> Mount:
        """How the engine makes it visible."""
        return Mount(self.replica.physical_path, self.target)


def resolve(catalog: Catalog, references: Sequence[InputReference]) -> tuple[DataObject, ...]:
    """The data objects that objects and collections of a request name; claims are not made here.

    NotFound and AccessDenied as the zone says; InvalidRequest for a collection named as an object.
    """
    found: list[DataObject] = []
    for reference in references:
        if reference.kind is InputKind.OBJECT:
            found.append(_readable(catalog, reference.logical_path))
        elif reference.kind is InputKind.COLLECTION:
            room = MOST_INPUTS - len(found)
            found.extend(islice(tree(catalog, reference.logical_path, most_collections=MOST_INPUTS), room + 1))
            _bound(reference.logical_path, len(found))
    return tuple(found)


def _bound(collection: str, count: int) -> None:
    if count > MOST_INPUTS:
        raise InvalidRequest(
            collection, f"found {count} inputs, expected at most {MOST_INPUTS}", "Process them in several tasks"
        )


def _readable(catalog: Catalog, logical_path: str) -> DataObject:
    require(catalog, logical_path, Access.READ_OBJECT, "to use it as input")
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise InvalidRequest(
            logical_path,
            "is a collection, expected a data object",
            'Write {"collection": ...} to take all that is in it',
        )
    return found


def _members(catalog: Catalog, collection: str) -> list[DataObject]:
    """Data objects directly in a collection, by name."""
    if not isinstance(catalog.stat(collection), Collection):
        raise InvalidRequest(collection, "is a data object, expected a collection")
    return [child for child in catalog.children(collection) if isinstance(child, DataObject)]


def tree(catalog: Catalog, collection: str, most_collections: int = sys.maxsize) -> Iterator[DataObject]:
    """All data objects below a collection, at any depth, each of which the user may read; those
    directly in it first, by name.

    AccessDenied for one that they see and may not read; InvalidRequest for no collection, or one
    with more than ``most_collections`` below it.
    """
    if not isinstance(catalog.stat(collection), Collection):
        raise InvalidRequest(collection, "is a data object, expected a collection")
    pile, collections = [collection], 0
    while pile:
        for child in catalog.children(pile.pop()):
            if isinstance(child, Collection):
                pile.append(child.logical_path)
                collections += 1
                if collections > most_collections:
                    cause = f"has more than {most_collections} collections below it"
                    raise InvalidRequest(collection, cause, "Process them in several tasks")
            else:
                require(catalog, child.logical_path, Access.READ_OBJECT, "to use it as input")
                yield child


def eligible(catalog: Catalog, collection: str, claim: str) -> Iterator[DataObject]:
    """Members that bear no claim, by name."""
    require(catalog, collection, Access.MODIFY_OBJECT, "to claim its data objects as inputs")
    claimed = set(catalog.find(EntityKind.DATA_OBJECT, claim, within=collection))
    for member in _members(catalog, collection):
        if member.logical_path not in claimed:
            yield member


def _claims(catalog: Catalog, data_object: DataObject, claim: str) -> set[Avu]:
    entity = Entity(EntityKind.DATA_OBJECT, data_object.logical_path)
    return {avu for avu in catalog.avus(entity) if avu.attribute == claim}


def nothing_to_claim(collection: str, claim: str) -> Refused:
    """The refusal when a collection has no eligible input left."""
    return Refused(
        collection,
        "holds no data object that no task has claimed yet",
        f"Put one there, or remove the AVU {claim} from one that is to be processed again",
        code=Code.CAT_NO_ROWS_FOUND,
    )


def claim_next(catalog: Catalog, collection: str, mine: Avu) -> DataObject:
    """Claim the first eligible data object for a task, or find the one it has claimed before.

    The catalog has no compare-and-set. So a task puts its claim and then looks: alone, it has
    won; with others, all who see each other step back and try again. Two can never both win,
    since each looks only after its own claim is visible.
    """
    for logical_path in catalog.find(EntityKind.DATA_OBJECT, mine.attribute, mine.value, mine.units, within=collection):
        return _readable(catalog, logical_path)
    for attempt in range(_CLAIM_ATTEMPTS):
        contested = False
        for member in eligible(catalog, collection, mine.attribute):
            entity = Entity(EntityKind.DATA_OBJECT, member.logical_path)
            catalog.annotate(entity, add=[mine])
            if _claims(catalog, member, mine.attribute) == {mine}:
                return _readable(catalog, member.logical_path)
            catalog.annotate(entity, remove=[mine])
            contested = True
        if not contested:
            raise nothing_to_claim(collection, mine.attribute)
        time.sleep(random.uniform(0, 0.02 * (attempt + 1)))
    raise Refused(collection, "other tasks keep claiming its data objects first", "Submit the task again")


def claim(catalog: Catalog, data_object: DataObject, mine: Avu) -> bool:
    """Claim one data object, as :func:`claim_next` does; False when another claim is there to stay."""
    entity = Entity(EntityKind.DATA_OBJECT, data_object.logical_path)
    for attempt in range(_CLAIM_ATTEMPTS):
        catalog.annotate(entity, add=[mine])
        if _claims(catalog, data_object, mine.attribute) == {mine}:
            return True
        catalog.annotate(entity, remove=[mine])
        time.sleep(random.uniform(0, 0.02 * (attempt + 1)))
        if _claims(catalog, data_object, mine.attribute):
            return False
    raise Refused(data_object.logical_path, "others keep claiming it and stepping back")


def unclaim(catalog: Catalog, collection: str, mine: Avu) -> None:
    """Take back whatever a task has claimed in a collection."""
    for logical_path in catalog.find(EntityKind.DATA_OBJECT, mine.attribute, mine.value, mine.units, within=collection):
        entity = Entity(EntityKind.DATA_OBJECT, logical_path)
        catalog.annotate(entity, remove=[mine])


def targets(data_objects: Iterable[DataObject], references: Sequence[InputReference]) -> tuple[str, ...]:
    """Where a job sees each input of a task's ``references``: ``/inputs/<name>``, and what lies in a
    collection's own collections in directories as there. InvalidRequest when two would be one."""
    collections = [one.logical_path for one in references if one.kind is InputKind.COLLECTION]
    seen: dict[str, str] = {}
    for data_object in data_objects:
        logical_path = data_object.logical_path
        above = next((one for one in collections if logical_path.startswith(f"{one}/")), parent_of(logical_path))
        name = logical_path[len(above) + 1 :]
        if name in seen:
            raise _twice(logical_path, f"has the same name as {seen[name]}, and both would be {INPUTS}/{name}")
        seen[name] = logical_path
    for name in seen:
        for place in (name[:end] for end, letter in enumerate(name) if letter == "/"):
            if place in seen:
                raise _twice(seen[place], f"and the collection of {seen[name]} would both be {INPUTS}/{place}")
    return tuple(f"{INPUTS}/{name}" for name in seen)


def _twice(logical_path: str, cause: str) -> InvalidRequest:
    return InvalidRequest(logical_path, cause, "Rename one, or process them in two tasks")


def anew(catalog: Catalog, logical_path: str) -> DataObject:
    """A data object as it is now: another task may have had it staged meanwhile. NotFound."""
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise NotFound(logical_path, "is not a data object any more")
    return found


def usable_replica(data_object: DataObject, resource: Resource) -> Replica | None:
    """The good replica on the compute resource, or None when one must be made.

    -405000 or -406000 when a replica is there but in the middle of being written.
    """
    good = data_object.good_replica_on(resource.name)
    if good is not None:
        return good
    for replica in data_object.replicas:
        if resource.name not in replica.hierarchy.split(";"):
            continue
        if replica.status in (ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED):
            raise _busy(Code.LOCKED_DATA_OBJECT_ACCESS, data_object, replica)
        if replica.status is ReplicaStatus.INTERMEDIATE:
            raise _busy(Code.INTERMEDIATE_REPLICA_ACCESS, data_object, replica)
    return None


def _busy(code: Code, data_object: DataObject, replica: Replica) -> Exception:
    return zone_error(
        code,
        data_object.logical_path,
        f"replica {replica.number} on {replica.leaf} is {replica.status.name.lower()}",
        "Submit the task again when the transfer has ended",
    )


def check_physical(staged: Staged) -> None:
    """EngineError unless the replica is a regular file where the catalog says it is.

    A symbolic link would be followed by the mount, so it is not one.
    """
    try:
        status = os.lstat(staged.replica.physical_path)
    except OSError as error:
        raise EngineError(
            staged.data_object.logical_path,
            f"its replica {staged.replica.number} cannot be found in the vault of "
            f"{staged.replica.leaf} ({error.strerror})",
            "Check the resource: ichksum and the vault's files should agree",
            code=Code.UNIX_FILE_STAT_ERR,
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise EngineError(
            staged.data_object.logical_path,
            f"its replica {staged.replica.number} is not a regular file in the vault",
            code=Code.UNIX_FILE_STAT_ERR,
        )


class InUse:
    """Which inputs tasks of this worker are using, so that none trims what another reads or stages.

    One worker serves a compute resource, so counting in memory is enough.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    @contextmanager
    def alone(self, logical_path: str) -> Iterator[None]:
        """One task at a time inside, for each path: what one has replicated, the next finds there, and
        none meets a replica that another is having made."""
        with self._lock:
            lock = self._locks.setdefault(logical_path, threading.Lock())
        with lock:
            yield

    @contextmanager
    def using(self, logical_paths: Sequence[str]) -> Iterator[None]:
        """Count one user more of each path while inside."""
        with self._lock:
            self._users.update(logical_paths)
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract(logical_paths)
                self._users = +self._users  # a worker runs for weeks: forget what nobody uses

    def if_unused(self, logical_path: str, action: Callable[[], object]) -> None:
        """Do ``action`` unless a task uses the path; none can begin to while it is being done."""
        with self._lock:
            if self._users[logical_path] <= 0:
                action()
