"""Trims replicas of inputs that staging made, when no task has used them for ``worker.staged_days``.

Only a replica that the worker has a note of, and that is still the same file, is the worker's to trim. It stays while a
task that has not ended names it, by its data object, a collection above it or a workload's dataset. A worker that is
killed between two steps leaves a note without a replica, which the next round removes.

A thread of its own does this, since a zone may need long for each replica.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from compute_to_data.documents import task_json
from compute_to_data.errors import ComputeToDataError, NotFound, OutOfReach, TooLarge
from compute_to_data.model import DataObject, Entity, EntityKind, Query, ReplicaStatus, parent_of
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.pipeline.replication.staged_replicas import Note, StagedReplicas, is_linked, is_the_same
from compute_to_data.records.state import UNFINISHED, State, queue_levels
from compute_to_data.records.workload import DATASET
from compute_to_data.task import REQUEST_NAME, Task

log = logging.getLogger("compute_to_data.worker")

_AT_REST = (ReplicaStatus.GOOD, ReplicaStatus.STALE)
_DAY = 86400.0
_LONGEST_PAUSE = 3600.0
_AT_ONCE = 256
"""How many replicas one round trims."""
_MOST_READ = 255
"""How many datasets of one workload a round reads."""
_MOST_TASKS = 2000
"""How many requests of tasks one round reads. While more tasks have not ended, it trims nothing."""


class UnusedReplicas:
    """A context, in which unused replicas are trimmed."""

    def __init__(self, served: ServedResource, staged: StagedReplicas, in_use: InUse) -> None:
        self._served = served
        self._staged = staged
        self._in_use = in_use
        self._seconds = served.configuration.worker.staged_days * _DAY
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="unused-replicas")

    def __enter__(self) -> UnusedReplicas:
        if self._seconds:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        if self._seconds:
            self._thread.join()

    def _run(self) -> None:
        pause = min(_LONGEST_PAUSE, self._seconds)
        while not self._leaving.is_set():
            try:
                self.trim()
            except ComputeToDataError as error:
                log.warning("cannot trim unused replicas yet: %s", error)
            except Exception:  # an adapter may raise anything, and the next round may succeed
                log.exception("cannot trim unused replicas yet")
            self._leaving.wait(pause)

    def trim(self) -> None:
        """One round."""
        unused = list(islice(self._staged.unused_for(self._seconds), _AT_ONCE))
        if not unused:
            return
        tasks = self._unfinished()
        if len(tasks) > _MOST_TASKS:
            log.warning("no unused replica is trimmed while more than %d tasks have not ended", _MOST_TASKS)
            return
        named = {one for collection in tasks for one in self._named_by(collection)}
        for note in unused:
            if self._leaving.is_set():
                return
            if is_linked(note) or not named.isdisjoint(_at_or_above(note.data_object)):
                self._staged.touch(note.data_object)
            else:
                self._trim_one(note)

    def _unfinished(self) -> list[str]:
        """The collections of the resource's tasks that have not ended; one more than :data:`_MOST_TASKS` at most."""
        attribute, here = self._served.configuration.attributes.state, self._served.resource.name
        found: list[str] = []
        for state in (State.WAITING, State.QUEUED, *UNFINISHED):
            units = queue_levels(here) if state is State.QUEUED else here
            query = Query(EntityKind.COLLECTION, attribute, state.value, units)
            found += self._served.storage.find(replace(query, limit=_MOST_TASKS + 1 - len(found)))
        return found

    def _named_by(self, collection: str) -> Iterator[str]:
        """The data objects and collections that a task names as inputs; nothing for a record that no worker can run."""
        if self._leaving.is_set():
            return
        try:
            task = self._task(collection)
        except OutOfReach:
            raise
        except (ComputeToDataError, ValueError):
            return
        yield from (one.logical_path for one in task.inputs)
        if task.workload:
            dataset = self._served.configuration.attributes.named(DATASET)
            try:
                avus = self._served.storage.avus(Entity(EntityKind.COLLECTION, task.workload), dataset, most=_MOST_READ)
            except TooLarge as error:  # no worker runs a task of it
                avus = error.first
            yield from (avu.value for avu in avus)

    def _task(self, collection: str) -> Task:
        path, storage = f"{collection}/{REQUEST_NAME}", self._served.storage
        content = storage.on_behalf_of(storage.owner(path)).read(path, task_json.LARGEST)
        return task_json.recorded_task(content, path)

    def _trim_one(self, note: Note) -> None:
        storage = self._served.storage
        try:
            found = storage.on_behalf_of(storage.owner(note.data_object)).stat(note.data_object)
            if not isinstance(found, DataObject) or any(one.status not in _AT_REST for one in found.replicas):
                self._staged.touch(note.data_object)
            else:
                self._in_use.if_unused(note.data_object, lambda: self._trim_if_unused(note, found))
        except NotFound:
            self._staged.forget(note.data_object)
        except ComputeToDataError as error:
            log.warning("the unused replica of %s on %s stays: %s", note.data_object, note.root, error)
            self._staged.touch(note.data_object)  # so that it does not hold up others; it has its turn again

    def _trim_if_unused(self, note: Note, found: DataObject) -> None:
        if not self._staged.is_unused_for(note, self._seconds):
            return
        if is_the_same(found, note):
            log.info("trimming the replica of %s on %s, which no task uses", note.data_object, note.root)
            self._served.storage.trim(note.data_object, note.root)
        self._staged.forget(note.data_object)


def _at_or_above(logical_path: str) -> Iterator[str]:
    while logical_path not in ("", "/"):
        yield logical_path
        logical_path = parent_of(logical_path)
