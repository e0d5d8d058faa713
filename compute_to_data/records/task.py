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

from compute_to_data.configuration import Attributes
from compute_to_data.errors import InvalidRequest, Refused, TooLarge
from compute_to_data.model import Avu, Entity, EntityKind, User, name_of
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.records.access import seal, sealed_owner
from compute_to_data.records.state import FINAL, State, furthest, queue_units
from compute_to_data.task import REQUEST_NAME

_TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


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
HELD_UP = "held_up"
"""Why a task that has begun cannot go on at the moment. The next state removes it."""
READS = "reads"
"""The collection of an unfinished task has this fact once for each dataset and each task that it reads."""


def is_task_collection(logical_path: str) -> bool:
    """Whether a collection has a name that a task's collection may have."""
    return _TASK_ID.fullmatch(name_of(logical_path)) is not None


def new_task_id() -> str:
    """A new, unique id."""
    return str(uuid.uuid4())


def checked_task_id(task_id: str) -> str:
    """Return ``task_id`` if it can name a collection and a container, else raise InvalidRequest."""
    if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
        raise InvalidRequest(
            "task id",
            f"found {str(task_id)[:80]!r}, expected 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
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

        For a task whose owner has no account any more, or no right to write in its collection.
        """
        self.confirm()
        dated, avus = _dated(State.FAILED, facts), [self._avu(State.FAILED)]
        present = self._avus(*self._replaced(dated, avus), storage=storage)
        if any(avu.attribute == self.attributes.state and avu.value in FINAL for avu in present):
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
        """Remove the access of all users but the owner to change the request and its record, or these paths of it."""
        seal(self.catalog, owner, *(paths or (self.request_path, self.collection)))

    def sealed_owner(self) -> User:
        """The owner of ``task.json`` according to the catalog. The task runs on this user's behalf.

        Refused when another user, administrators aside, could have changed the request or the record. The collection
        must belong to the same user: see :func:`~compute_to_data.records.access.refuse_displaced`.
        """
        return sealed_owner(self.catalog, self.request_path, self.collection)


def _dated(state: State, facts: Mapping[str, str]) -> dict[str, str]:
    requests = {**NO_REQUESTS, READS: ""} if state.is_final else {}
    return {f"{state.value.lower()}_at": timestamp(time.time()), **facts, HELD_UP: "", **requests}
