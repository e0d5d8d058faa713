"""A task's own record in the catalog: its collection, ``task.json`` and state.

The catalog is the queue and the database. ``<output collection>/<task id>/`` holds ``task.json``
(the request, as accepted), and AVUs on that collection say how far the task is. The state is one
AVU whose units name the compute resource, so one plain query finds the next task of a resource.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

from compute_to_data.bounds import MOST_PERMISSIONS
from compute_to_data.configuration import Attributes
from compute_to_data.errors import AccessDenied, Code, InvalidRequest, NotFound, Refused, TooLarge
from compute_to_data.model import (
    Access,
    Avu,
    Collection,
    DataObject,
    Entity,
    EntityKind,
    Permission,
    User,
    UserKind,
    name_of,
    parent_of,
)
from compute_to_data.ports import Catalog, Storage
from compute_to_data.task import HIGHEST_PRIORITY, LOWEST_PRIORITY, REQUEST_NAME

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class State(str, Enum):
    """How far a task is. The last three are final: each task reaches exactly one of them, once.

    A task is WAITING while it waits for the success of other tasks; most tasks never are.
    """

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    STAGING_IN = "STAGING_IN"
    RUNNING = "RUNNING"
    STAGING_OUT = "STAGING_OUT"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether no other state follows."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


UNFINISHED = (State.STAGING_OUT, State.RUNNING, State.STAGING_IN)
_FINAL = frozenset(state.value for state in State if state.is_final)
_NEVER_BEGUN = {State.QUEUED.value, State.COMPLETED.value}
"""A worker never leaves both, since a task is RUNNING before it is COMPLETED."""
_ONLY_BEGUN = frozenset(state.value for state in (*UNFINISHED, State.COMPLETED))
"""A worker never leaves WAITING beside one of these, since a task is QUEUED before it begins."""

_AT_ONCE, _OF_ONE = 255, 63
"""How many AVUs of a record are read at once, and of each attribute when there are more. A task that reads hundreds of
datasets has more, and so has one whose owner puts thousands of AVUs there: then each question still takes one answer
of a zone, and each change replaces all AVUs of an attribute with one call."""

AFTER = "after"
"""The fact that names the collection of a task that this one waits for; a task may have several."""
CANCEL, FOLLOW = "cancel", "follow"
"""Users put these requests on the collection of an unfinished task: ``cancel`` to end it (value: the
user who asks, units: the resource), ``follow`` to get its live logs."""
NO_REQUESTS = {CANCEL: "", FOLLOW: ""}
ARCHIVED = "archived"
"""The fact of an archived task in the place of its state, with the same value and units (``records/archive.py``)."""
READS = "reads"
"""The collection of an unfinished task has this fact once for each dataset and each task that it reads."""


def furthest(found: Iterable[str]) -> State | None:
    """The latest of the states on a task's collection; None when no worker could have left them.

    A collection may briefly have two states, the earlier one and the new one, because iRODS may
    need a second call to remove the earlier one (``zones/irods/avus.py``). Both also stay when a
    worker is killed between the two calls.
    """
    names = set(found)
    if not names or not names <= State.__members__.keys():
        return None
    if len(names & _FINAL) > 1 or names >= _NEVER_BEGUN:
        return None
    if State.WAITING.value in names and names & _ONLY_BEGUN:
        return None
    return max((State(name) for name in names), key=list(State).index)


def queue_units(resource: str, priority: int = 0) -> str:
    """The units of a QUEUED task's state: its resource, and its priority unless that is 0. Names of resources have no
    semicolon."""
    return f"{resource};priority={priority}" if priority else resource


def queue_levels(resource: str) -> tuple[str, ...]:
    """The units of the states of all tasks that may be queued on a resource, the highest priority first. No worker
    looks at any other, so a priority that a user has written by hand is one of these."""
    return tuple(queue_units(resource, one) for one in range(HIGHEST_PRIORITY, LOWEST_PRIORITY - 1, -1))


def resource_of(units: str) -> str:
    """The resource in the units of a task's state."""
    return units.partition(";")[0]


def priority_of(units: str) -> int:
    """The priority in units that are one of :func:`queue_levels`."""
    _, _, priority = units.partition(";priority=")
    return int(priority) if priority else 0


def is_task_collection(logical_path: str) -> bool:
    """Whether a collection has a name that a task's collection may have."""
    return _TASK_ID.fullmatch(name_of(logical_path)) is not None


def new_task_id() -> str:
    """A new, unique id."""
    return str(uuid.uuid4())


def checked_task_id(task_id: str) -> str:
    """Return ``task_id`` if it can name a collection and a container, else raise InvalidRequest."""
    if not _TASK_ID.fullmatch(task_id):
        raise InvalidRequest(
            "task id",
            f"found {task_id[:80]!r}, expected 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
            "Leave it empty to get a new one",
        )
    return task_id


def timestamp(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC with milliseconds: ``2026-11-21T09:30:00.125Z``."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


def place_of(collection: str) -> str:
    """A short digest of a task's collection, which its claims hold as units."""
    return hashlib.sha256(collection.encode()).hexdigest()[:20]


class TaskRecord:
    """One task's record, read and written in its owner's session. ``confirm`` raises when the writer may not change it
    any more; it is called before each change."""

    def __init__(
        self,
        catalog: Catalog,
        attributes: Attributes,
        collection: str,
        resource: str,
        confirm: Callable[[], None] = lambda: None,
    ) -> None:
        self.catalog = catalog
        self.attributes = attributes
        self.collection = collection
        self.resource = resource
        self.task_id = name_of(collection)
        self._entity = Entity(EntityKind.COLLECTION, collection)
        self.confirm = confirm

    @property
    def request_path(self) -> str:
        """The logical path of ``task.json``."""
        return f"{self.collection}/{REQUEST_NAME}"

    @property
    def place(self) -> str:
        """Distinguishes tasks that have the same id: users choose ids, but collections are unique."""
        return place_of(self.collection)

    def state(self) -> State | None:
        """The recorded state; None when the collection has none.

        Refused when no worker can have written the states: unknown ones, two final ones, or QUEUED
        together with COMPLETED.
        """
        found = self._states() or [avu.value for avu in self._avus(self.attributes.named(ARCHIVED))]
        if not found:
            return None
        state = furthest(found)
        if state is None:
            raise Refused(self.collection, f"has states that no worker wrote ({', '.join(found)[:200]})")
        return state

    def _states(self) -> list[str]:
        return [avu.value for avu in self._avus(self.attributes.state)]

    def facts(self, *names: str) -> dict[str, str]:
        """Recorded facts by their short names (``exit_status``, ``reason``...), without those that are missing.

        With no names, all of them: name those that you use, since a flood of other AVUs then does not matter.
        """
        prefix = f"{self.attributes.prefix}::"
        found = self._avus(*map(self.attributes.named, names))
        return {avu.attribute[len(prefix) :]: avu.value for avu in found if avu.attribute.startswith(prefix)}

    def _avus(self, *attributes: str, storage: Storage | None = None) -> tuple[Avu, ...]:
        """The AVUs with these attributes; with none named, all. ``storage``: read with the service account's rights.

        A task's owner can put any number of them there. Of more than are read, this returns the first, so that the
        task goes on and can end all the same.
        """
        return self._read(attributes, storage)[0]

    def _read(self, attributes: Sequence[str], storage: Storage | None = None) -> tuple[tuple[Avu, ...], list[str]]:
        """What :meth:`_avus` returns, and the attributes of which there are more."""
        session = storage or self.catalog
        try:
            return session.avus(self._entity, *attributes, most=_AT_ONCE if attributes else None), []
        except TooLarge as error:
            if not attributes:
                return error.first, []
        found: list[Avu] = []
        crowded = []
        for attribute in attributes:
            try:
                found += session.avus(self._entity, attribute, most=_OF_ONE)
            except TooLarge as error:
                found += error.first
                crowded.append(attribute)
        return tuple(found), crowded

    def move_to(
        self, state: State, facts: Mapping[str, str] | None = None, also: Iterable[Avu] = (), *, priority: int = 0
    ) -> None:
        """Record a state with its time, and facts, in one atomic change. ``priority``: of a task that is QUEUED.

        A fact replaces an earlier one of the same name; an empty value only removes the earlier
        one. A final state also removes users' requests (cancel, follow). ``also``: AVUs that replace all those
        of the same attributes.
        """
        self._change(_dated(state, facts or {}), [self._avu(state, priority), *also])

    def settle(self) -> None:
        """Remove earlier states, if any are left besides the one that the task has reached."""
        state = self.state()
        if state is not None and len(self._states()) > 1:
            self._change({}, [self._avu(state)])

    def end_without_owner(self, storage: Storage, facts: Mapping[str, str]) -> None:
        """Record FAILED with the service account's rights, unless the task has ended.

        For a task whose owner has no account any more.
        """
        self.confirm()
        dated, avus = _dated(State.FAILED, facts), [self._avu(State.FAILED)]
        present = self._avus(*self._replaced(dated, avus), storage=storage)
        if any(avu.attribute == self.attributes.state and avu.value in _FINAL for avu in present):
            return
        storage.annotate(self._entity, **self._changed(present, dated, avus))

    def decide(self, facts: Mapping[str, str], also: Iterable[Avu] = ()) -> None:
        """Record facts in one atomic change, without changing the state. ``also`` as for :meth:`move_to`."""
        self._change(facts, [*also])

    def _change(self, facts: Mapping[str, str], avus: list[Avu]) -> None:
        self.confirm()
        replaced = self._replaced(facts, avus)
        present, crowded = self._read(replaced) if replaced else ((), [])
        state = self.attributes.state
        for attribute in crowded:
            if attribute != state:
                present = self._leave_one(attribute, present, self._new(facts, avus))
        change = self._changed(present, facts, avus)
        if state not in crowded:
            self.catalog.annotate(self._entity, **change)
            return
        others = {how: [avu for avu in some if avu.attribute != state] for how, some in change.items()}
        self.catalog.annotate(self._entity, **others)
        for avu in change["add"]:  # last, since the task may have ended by this
            if avu.attribute == state:
                self.catalog.set_avu(self.collection, avu)

    def _leave_one(self, attribute: str, present: Sequence[Avu], new: Sequence[Avu]) -> tuple[Avu, ...]:
        """Remove all AVUs of an attribute but one, a new one if there is any; return what is present then."""
        one = next(avu for avu in (*new, *present) if avu.attribute == attribute)
        self.catalog.set_avu(self.collection, one)
        return (one, *(avu for avu in present if avu.attribute != attribute))

    def _replaced(self, facts: Mapping[str, str], avus: list[Avu]) -> list[str]:
        """The attributes whose AVUs a change replaces."""
        return sorted({*map(self.attributes.named, facts), *(avu.attribute for avu in avus)})

    def _changed(self, present: Iterable[Avu], facts: Mapping[str, str], avus: list[Avu]) -> dict[str, list[Avu]]:
        """The AVUs to remove and to add, as arguments of ``annotate``. ``present``: those with replaced attributes."""
        new = self._new(facts, avus)
        kept = set(new)
        return {"remove": [avu for avu in present if avu not in kept], "add": new}

    def _new(self, facts: Mapping[str, str], avus: list[Avu]) -> list[Avu]:
        return [*avus, *(self._fact(name, value) for name, value in facts.items() if value)]

    def _avu(self, state: State, priority: int = 0) -> Avu:
        return Avu(self.attributes.state, state.value, queue_units(self.resource, priority))

    def _fact(self, name: str, value: str) -> Avu:
        return Avu(self.attributes.named(name), value, "s" if name.endswith("_seconds") else "")

    def remember(self, name: str, *values: str) -> None:
        """Add values of a fact, keeping its others."""
        self.catalog.annotate(self._entity, add=[Avu(self.attributes.named(name), value) for value in values])

    def forget(self, name: str, value: str) -> None:
        """Remove one value of a fact, if it is there."""
        self.catalog.annotate(self._entity, remove=[Avu(self.attributes.named(name), value)])

    def seal(self, owner: User, *paths: str) -> None:
        """Remove the access of all other users to change the request or its record, or these paths of it.

        A worker acts with the owner's rights on what ``task.json`` says, so another user who could
        write to it would gain those rights. In a collection that inherits a group's access, every
        member of the group could. Users with higher access keep read_object. The owner may have
        had access only as a member of such a group, so the owner gets a row of their own first.
        """
        for logical_path in paths or (self.request_path, self.collection):
            rows = self.catalog.permissions(logical_path, MOST_PERMISSIONS)
            if not any(row.user == owner and row.access is Access.OWN for row in rows):
                self.catalog.set_access(logical_path, owner, Access.OWN)
            for row in rows:
                if _could_tamper(row.user, row.kind, row.access, owner):
                    self.catalog.set_access(logical_path, row.user, Access.READ_OBJECT)

    def sealed_owner(self) -> User:
        """The owner of ``task.json`` according to the catalog. The task runs on this user's behalf.

        Refused when another user, administrators aside, could have changed the request or the
        record. The collection must belong to the same user: see :func:`refuse_displaced`.
        """
        request = self.catalog.stat(self.request_path)
        if not isinstance(request, DataObject):
            raise NotFound(self.request_path, "is not a data object", code=Code.OBJ_PATH_DOES_NOT_EXIST)
        refuse_displaced(self.catalog, request)
        for logical_path in (self.request_path, self.collection):
            rows = self.catalog.permissions(logical_path, MOST_PERMISSIONS)
            refuse_tampering(logical_path, rows, request.owner)
        return request.owner


def refuse_tampering(logical_path: str, rows: Iterable[Permission], owner: User) -> None:
    """Refused when the access list lets a user other than the owner and administrators write there."""
    for row in rows:
        if _could_tamper(row.user, row.kind, row.access, owner):
            raise Refused(
                logical_path,
                f"{row.user} has {row.access.name.lower()} on it, so the request may not be what {owner} asked for",
                "Remove that access, and submit the task again",
                code=Code.CAT_NO_ACCESS_PERMISSION,
            )


def refuse_displaced(catalog: Catalog, data_object: DataObject) -> None:
    """Refused when a data object is in another user's collection.

    When a collection passes its access list on, a data object that Alice puts into Bob's collection
    also belongs to Bob. Bob could then change its content, remove his own access and make it look
    like Alice's request. Bob gets no such access to a collection of Alice's own.
    """
    collection = parent_of(data_object.logical_path)
    found = catalog.stat(collection)
    if isinstance(found, Collection) and found.owner != data_object.owner:
        raise Refused(
            data_object.logical_path,
            f"belongs to {data_object.owner}, but its collection belongs to {found.owner}, who may have put it there",
            "Put it into a collection of your own",
            code=Code.CAT_NO_ACCESS_PERMISSION,
        )


def _dated(state: State, facts: Mapping[str, str]) -> dict[str, str]:
    requests = {**NO_REQUESTS, READS: ""} if state.is_final else {}
    return {f"{state.value.lower()}_at": timestamp(time.time()), **facts, **requests}


def _could_tamper(user: User, kind: UserKind, access: Access, owner: User) -> bool:
    """Whether a row gives a user other than the owner and administrators the right to change things.

    Any group counts, whoever its members are today, except the group of the owner's own name.
    """
    if user == owner or kind is UserKind.RODSADMIN:
        return False
    return access > Access.READ_OBJECT


def require(catalog: Catalog, logical_path: str, needed: Access, purpose: str) -> None:
    """NotFound or AccessDenied unless the session's user has at least ``needed`` access to a path.

    ``purpose`` completes the error's sentence: "to claim inputs there".
    """
    catalog.stat(logical_path)
    actual = catalog.access(logical_path)
    if actual < needed:
        raise AccessDenied(
            logical_path,
            f"{catalog.user} has {actual.name.lower()} and needs {needed.name.lower()} {purpose}",
            f"Ask its owner to run: ichmod {needed.name.lower()} {catalog.user.name} {logical_path}",
        )
