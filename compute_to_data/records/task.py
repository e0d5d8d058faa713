"""A task's own record in the catalog: its collection, ``task.json`` and state.

The catalog is the queue and the database: ``<output collection>/<task id>/`` holds
``task.json`` (the request, as accepted), and AVUs on that collection say how far the task is.
The state is one AVU whose units name the compute resource, so that one plain query finds the
next task of a resource.
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
    """How far a task is. The last three are final: a task reaches exactly one of them, once."""

    QUEUED = "QUEUED"
    STAGING_IN = "STAGING_IN"
    RUNNING = "RUNNING"
    STAGING_OUT = "STAGING_OUT"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


UNFINISHED = (State.STAGING_OUT, State.RUNNING, State.STAGING_IN)
_FINAL = frozenset(state.value for state in State if state.is_final)
_NEVER_BEGUN = {State.QUEUED.value, State.COMPLETED.value}
"""None follows the other: what is COMPLETED has been RUNNING."""

CANCEL, FOLLOW = "cancel", "follow"
"""What people put on a task's collection while it is not finished: that it is to end (value: who
says so, units: the resource), that somebody reads along."""
NO_REQUESTS = {CANCEL: "", FOLLOW: ""}


def furthest(found: Iterable[str]) -> State | None:
    """The one state that those on a task's collection mean; None when no worker could have left them.

    For an instant, or when a worker was killed in it, the one before is still there: iRODS may need
    a call of its own to take it away (``zones/irods/avus.py``).
    """
    names = set(found)
    if not names or not names <= State.__members__.keys():
        return None
    if len(names & _FINAL) > 1 or names >= _NEVER_BEGUN:
        return None
    return max((State(name) for name in names), key=list(State).index)


def new_task_id() -> str:
    """An id nobody else has."""
    return str(uuid.uuid4())


def checked_task_id(task_id: str) -> str:
    """``task_id`` itself if it can name a collection and a container, else InvalidRequest."""
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
    """The short name of a task's collection that stands as units in its claims."""
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
        """Tells this task from others of its id: users choose ids, but collections differ."""
        return place_of(self.collection)

    def state(self) -> State | None:
        """The recorded state; None when the collection bears none. Refused when it bears two ends, or
        one that there is not, or cannot be yet: somebody else than a worker wrote it."""
        found = self._states()
        if not found:
            return None
        state = furthest(found)
        if state is None:
            raise Refused(self.collection, f"bears states that no worker wrote ({', '.join(found)[:200]})")
        return state

    def _states(self) -> list[str]:
        return [avu.value for avu in self._avus() if avu.attribute == self.attributes.state]

    def facts(self) -> dict[str, str]:
        """Every recorded fact by its short name (``exit_status``, ``reason``, ``state``...)."""
        prefix = f"{self.attributes.prefix}::"
        return {avu.attribute[len(prefix) :]: avu.value for avu in self._avus() if avu.attribute.startswith(prefix)}

    def _avus(self) -> tuple[Avu, ...]:
        return self.catalog.avus(self._entity)

    def move_to(self, state: State, facts: Mapping[str, str] | None = None) -> None:
        """Record a state with its time, and facts, in one atomic change.

        A fact replaces an earlier one of its name; an empty one only takes that away. With a final
        state, what people wished of the task until then goes too.
        """
        self._change(_dated(state, facts or {}), [self._avu(state)])

    def settle(self) -> None:
        """Take away states before the one that the task has reached, should any be left."""
        state = self.state()
        if state is not None and len(self._states()) > 1:
            self._change({}, [self._avu(state)])

    def end_without_owner(self, storage: Storage, facts: Mapping[str, str]) -> None:
        """Record FAILED with the service account's rights, unless the task has ended: the owner has no
        account any more."""
        present = storage.avus(self._entity)
        if any(avu.attribute == self.attributes.state and avu.value in _FINAL for avu in present):
            return
        storage.annotate(self._entity, **self._changed(present, _dated(State.FAILED, facts), [self._avu(State.FAILED)]))

    def decide(self, facts: Mapping[str, str]) -> None:
        """Record facts, all at once, without changing the state."""
        self._change(facts, [])

    def _change(self, facts: Mapping[str, str], state: list[Avu]) -> None:
        self.catalog.annotate(self._entity, **self._changed(self._avus(), facts, state))

    def _changed(self, present: Iterable[Avu], facts: Mapping[str, str], state: list[Avu]) -> dict[str, list[Avu]]:
        """What to ``remove`` and to ``add``."""
        replaced = {self.attributes.named(name) for name in facts}
        replaced |= {avu.attribute for avu in state}
        return {
            "remove": [avu for avu in present if avu.attribute in replaced],
            "add": [*state, *(self._fact(name, value) for name, value in facts.items() if value)],
        }

    def _avu(self, state: State) -> Avu:
        return Avu(self.attributes.state, state.value, self.resource)

    def _fact(self, name: str, value: str) -> Avu:
        return Avu(self.attributes.named(name), value, "s" if name.endswith("_seconds") else "")

    def remember(self, name: str, value: str) -> None:
        """Add one value of a fact, keeping its others."""
        self.catalog.annotate(self._entity, add=[Avu(self.attributes.named(name), value)])

    def forget(self, name: str, value: str) -> None:
        """Take one value of a fact away; nothing happens when it is not there."""
        self.catalog.annotate(self._entity, remove=[Avu(self.attributes.named(name), value)])

    def seal(self, owner: User) -> None:
        """Take away everybody else's right to change the request or its record.

        A worker acts with the owner's rights on what ``task.json`` says, so whoever could write
        there could borrow those rights; in a collection that inherits a group's access, that
        would be the whole group. Others keep read_object where they had more; the owner, who may
        have been there as a member of that group only, gets a row of their own first.
        """
        for logical_path in (self.request_path, self.collection):
            rows = self.catalog.permissions(logical_path)
            if not any(row.user == owner and row.access is Access.OWN for row in rows):
                self.catalog.set_access(logical_path, owner, Access.OWN)
            for row in rows:
                if _could_tamper(row.user, row.kind, row.access, owner):
                    self.catalog.set_access(logical_path, row.user, Access.READ_OBJECT)

    def sealed_owner(self) -> User:
        """The owner of ``task.json``, on whose behalf the task runs.

        Refused when anyone else (administrators aside) could have changed the request or the
        record: the owner is what the catalog says, never a field of the request. The collection must
        be theirs, too: whoever owns a data object of theirs by inheritance could have put it there.
        """
        request = self.catalog.stat(self.request_path)
        if not isinstance(request, DataObject):
            raise NotFound(self.request_path, "is not a data object", code=Code.OBJ_PATH_DOES_NOT_EXIST)
        refuse_displaced(self.catalog, request)
        for logical_path in (self.request_path, self.collection):
            refuse_tampering(logical_path, self.catalog.permissions(logical_path), request.owner)
        return request.owner


def refuse_tampering(logical_path: str, rows: Iterable[Permission], owner: User) -> None:
    """Refused when the access list lets anybody but the owner and administrators write there."""
    for row in rows:
        if _could_tamper(row.user, row.kind, row.access, owner):
            raise Refused(
                logical_path,
                f"{row.user} has {row.access.name.lower()} on it, so the request may not be what {owner} asked for",
                "Take that access away, and submit the task again",
                code=Code.CAT_NO_ACCESS_PERMISSION,
            )


def refuse_displaced(catalog: Catalog, data_object: DataObject) -> None:
    """Refused when a data object lies in somebody else's collection.

    Who puts one into a collection that hands its access list down shares it with whoever owns
    things there. These could write in it what they like, take their own access away, and have it
    look like its owner's word; a collection of that owner's is more than they were given by it.
    """
    collection = parent_of(data_object.logical_path)
    found = catalog.stat(collection)
    if isinstance(found, Collection) and found.owner != data_object.owner:
        raise Refused(
            data_object.logical_path,
            f"belongs to {data_object.owner}, and lies in a collection that belongs to {found.owner}, who may have"
            " put it there",
            "Put it into a collection of your own",
            code=Code.CAT_NO_ACCESS_PERMISSION,
        )


def _dated(state: State, facts: Mapping[str, str]) -> dict[str, str]:
    requests = NO_REQUESTS if state.is_final else {}
    return {f"{state.value.lower()}_at": timestamp(time.time()), **facts, **requests}


def _could_tamper(user: User, kind: UserKind, access: Access, owner: User) -> bool:
    """Whether a row lets somebody other than the owner (or an administrator) change things.

    A group counts whoever is in it today. The group of the owner's own name is the owner.
    """
    if user == owner or kind is UserKind.RODSADMIN:
        return False
    return access > Access.READ_OBJECT


def require(catalog: Catalog, logical_path: str, wanted: Access, purpose: str) -> None:
    """NotFound or AccessDenied unless the session's user reaches ``wanted`` on a path.

    ``purpose`` completes the sentence: "to claim inputs there".
    """
    catalog.stat(logical_path)
    held = catalog.access(logical_path)
    if held < wanted:
        raise AccessDenied(
            logical_path,
            f"{catalog.user} has {held.name.lower()} and needs {wanted.name.lower()} {purpose}",
            f"Ask its owner for: ichmod {wanted.name.lower()} {catalog.user.name} {logical_path}",
        )
