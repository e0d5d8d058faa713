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
from collections.abc import Iterable, Mapping
from enum import Enum

from compute_to_data.configuration import Attributes
from compute_to_data.errors import AccessDenied, Code, InvalidRequest, NotFound, Refused
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
from compute_to_data.task import REQUEST_NAME

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

AFTER = "after"
"""The fact that names the collection of a task that this one waits for; a task may have several."""
CANCEL, FOLLOW = "cancel", "follow"
"""Users put these requests on the collection of an unfinished task: ``cancel`` to end it (value: the
user who asks, units: the resource), ``follow`` to get its live logs."""
NO_REQUESTS = {CANCEL: "", FOLLOW: ""}
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
    """One task's record, read and written in its owner's session."""

    def __init__(self, catalog: Catalog, attributes: Attributes, collection: str, resource: str) -> None:
        self.catalog = catalog
        self.attributes = attributes
        self.collection = collection
        self.resource = resource
        self.task_id = name_of(collection)
        self._entity = Entity(EntityKind.COLLECTION, collection)

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
        found = self._states()
        if not found:
            return None
        state = furthest(found)
        if state is None:
            raise Refused(self.collection, f"has states that no worker wrote ({', '.join(found)[:200]})")
        return state

    def _states(self) -> list[str]:
        return [avu.value for avu in self._avus() if avu.attribute == self.attributes.state]

    def facts(self) -> dict[str, str]:
        """All recorded facts by their short names (``exit_status``, ``reason``, ``state``...)."""
        prefix = f"{self.attributes.prefix}::"
        return {avu.attribute[len(prefix) :]: avu.value for avu in self._avus() if avu.attribute.startswith(prefix)}

    def _avus(self) -> tuple[Avu, ...]:
        return self.catalog.avus(self._entity)

    def move_to(self, state: State, facts: Mapping[str, str] | None = None, also: Iterable[Avu] = ()) -> None:
        """Record a state with its time, and facts, in one atomic change.

        A fact replaces an earlier one of the same name; an empty value only removes the earlier
        one. A final state also removes users' requests (cancel, follow). ``also``: AVUs that replace all those
        of the same attributes.
        """
        self._change(_dated(state, facts or {}), [self._avu(state), *also])

    def settle(self) -> None:
        """Remove earlier states, if any are left besides the one that the task has reached."""
        state = self.state()
        if state is not None and len(self._states()) > 1:
            self._change({}, [self._avu(state)])

    def end_without_owner(self, storage: Storage, facts: Mapping[str, str]) -> None:
        """Record FAILED with the service account's rights, unless the task has ended.

        For a task whose owner has no account any more.
        """
        present = storage.avus(self._entity)
        if any(avu.attribute == self.attributes.state and avu.value in _FINAL for avu in present):
            return
        storage.annotate(self._entity, **self._changed(present, _dated(State.FAILED, facts), [self._avu(State.FAILED)]))

    def decide(self, facts: Mapping[str, str], also: Iterable[Avu] = ()) -> None:
        """Record facts in one atomic change, without changing the state. ``also`` as for :meth:`move_to`."""
        self._change(facts, [*also])

    def _change(self, facts: Mapping[str, str], avus: list[Avu]) -> None:
        self.catalog.annotate(self._entity, **self._changed(self._avus(), facts, avus))

    def _changed(self, present: Iterable[Avu], facts: Mapping[str, str], avus: list[Avu]) -> dict[str, list[Avu]]:
        """The AVUs to remove and to add, as arguments of ``annotate``."""
        replaced = {self.attributes.named(name) for name in facts}
        replaced |= {avu.attribute for avu in avus}
        new = [*avus, *(self._fact(name, value) for name, value in facts.items() if value)]
        old = [avu for avu in present if avu.attribute in replaced]
        kept = set(new)
        return {"remove": [avu for avu in old if avu not in kept], "add": new}

    def _avu(self, state: State) -> Avu:
        return Avu(self.attributes.state, state.value, self.resource)

    def _fact(self, name: str, value: str) -> Avu:
        return Avu(self.attributes.named(name), value, "s" if name.endswith("_seconds") else "")

    def remember(self, name: str, *values: str) -> None:
        """Add values of a fact, keeping its others."""
        self.catalog.annotate(self._entity, add=[Avu(self.attributes.named(name), value) for value in values])

    def forget(self, name: str, value: str) -> None:
        """Remove one value of a fact, if it is there."""
        self.catalog.annotate(self._entity, remove=[Avu(self.attributes.named(name), value)])

    def seal(self, owner: User) -> None:
        """Remove the access of all other users to change the request or its record.

        A worker acts with the owner's rights on what ``task.json`` says, so another user who could
        write to it would gain those rights. In a collection that inherits a group's access, every
        member of the group could. Users with higher access keep read_object. The owner may have
        had access only as a member of such a group, so the owner gets a row of their own first.
        """
        for logical_path in (self.request_path, self.collection):
            rows = self.catalog.permissions(logical_path)
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
            refuse_tampering(logical_path, self.catalog.permissions(logical_path), request.owner)
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
