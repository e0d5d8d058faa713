"""Refuses inputs that are not what they were said to be: half of a dataset, results of a task that has not ended.

Submission and worker both ask, since an upload may begin between the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Code, NotFound, Refused, zone_error
from compute_to_data.inputs.naming import DATASETS, not_completed
from compute_to_data.model import DataObject, Entity, EntityKind, ReplicaStatus, name_of, parent_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.dataset_content import checksum_of, manifest_of
from compute_to_data.records.manifest import FILES, LARGEST_OF_INPUTS, MANIFEST_NAME
from compute_to_data.records.state import State, furthest
from compute_to_data.records.task import ARCHIVED
from compute_to_data.task import REQUEST_NAME, RESERVED_NAMES

_DATASET: Final = re.compile(rf"(.*/{DATASETS}/d-[0-9a-f]{{12}})(?:/.*)?", re.DOTALL)
_HOME_LEVELS: Final = 3
"""``/zone``, ``/zone/home`` and ``/zone/home/user``, which are never the collection of a task."""
_SHOWN: Final = 3


def dataset_of(logical_path: str) -> str:
    """The collection of the dataset that a logical path is in, or is; '' when it is in none."""
    found = _DATASET.fullmatch(logical_path)
    return found[1] if found else ""


class Origins:
    """The datasets and tasks that the inputs of one task come from. It looks at each of them once.

    ``seen``: their collections, so far. ``own``: the collections of the task itself and of its workload. They
    are no inputs when they are below a collection that is one, as a user's whole project may be.
    """

    def __init__(self, catalog: Catalog, attributes: Attributes, own: Iterable[str] = ()) -> None:
        self._own = tuple(f"{one}/" for one in own if one)
        self._catalog = catalog
        self._attributes = attributes
        self._states: dict[str, State | None] = {}
        self._complete: set[str] = set()

    @property
    def seen(self) -> tuple[str, ...]:
        """The collections of the datasets and tasks that inputs were in."""
        return (*sorted(self._complete), *(task for task, state in self._states.items() if state is not None))

    def is_own(self, collection: str) -> bool:
        """Whether a collection is one of the task's own, or below it."""
        return f"{collection}/".startswith(self._own)

    def need_object(self, logical_path: str) -> None:
        """Refused for a data object in a dataset that is not complete, or of a task that still runs.

        A task registers its results together, when its program has ended, so each of them is complete then.
        """
        dataset = dataset_of(logical_path)
        if dataset:
            self._need_manifest(dataset)
            return
        task = self._task_above(parent_of(logical_path))
        if self._states.get(task) is not State.STAGING_OUT:
            self._need_ended(task)

    def need_collection(self, collection: str) -> bool:
        """Refused for a collection in such a dataset or of such a task, and for all results of a task that
        did not complete. Returns whether it is the collection of a task, which also holds files of ours."""
        dataset = dataset_of(collection)
        if dataset:
            self._need_manifest(dataset)
            return False
        task = self._task_above(collection)
        self._need_ended(task)
        if task == collection and self._states[task] is not State.COMPLETED:
            raise not_completed(task, self._states[task] or State.FAILED)
        return bool(task) and task == collection

    def need_member(self, collection: str, data_objects: Iterable[DataObject]) -> None:
        """Refused for a collection below an input that is an incomplete dataset, or a task that has not ended."""
        if dataset_of(collection) == collection:
            self._need_manifest(collection)
        elif any(name_of(one.logical_path) == REQUEST_NAME for one in data_objects) and self._state(collection):
            self._need_ended(collection)

    def need_whole(self, top: str, found: Sequence[DataObject]) -> None:
        """Refused unless the data objects found below ``top`` are those in the manifests of their datasets."""
        for dataset in sorted(self._complete):
            if top == dataset or dataset.startswith(f"{top}/") or top.startswith(f"{dataset}/"):
                self._compare(dataset, top, found)

    def _compare(self, dataset: str, top: str, found: Sequence[DataObject]) -> None:
        manifest = manifest_of(self._catalog, dataset, LARGEST_OF_INPUTS)
        if manifest is None:
            raise _incomplete(dataset)
        files = f"{dataset}/{FILES}"
        listed = {f"{files}/{file.path}": file for file in manifest.files}
        listed = {path: file for path, file in listed.items() if path.startswith(f"{top}/")}
        there = {one.logical_path: one for one in found if one.logical_path.startswith(f"{files}/")}
        wrong = [f"{path[len(files) + 1 :]} is missing" for path in listed if path not in there]
        wrong += [f"{path[len(files) + 1 :]} was added" for path in there if path not in listed]
        for path in listed.keys() & there.keys():
            now = checksum_of(there[path]) or listed[path].checksum
            if (there[path].size, now) != (listed[path].size, listed[path].checksum):
                wrong.append(f"{path[len(files) + 1 :]} has other content")
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            cause = f"does not hold what was uploaded: {', '.join(sorted(wrong)[:_SHOWN])}{more}"
            remedy = f"Bring it up to date: c2d dataset upload DIR --id {name_of(dataset)}"
            raise Refused(f"dataset {name_of(dataset)}", cause, remedy)

    def _need_manifest(self, dataset: str) -> None:
        if dataset in self._complete:
            return
        try:
            found = self._catalog.stat(f"{dataset}/{MANIFEST_NAME}")
        except NotFound:
            raise _incomplete(dataset) from None
        if not isinstance(found, DataObject) or not checksum_of(found):
            raise _incomplete(dataset)
        self._complete.add(dataset)

    def _task_above(self, collection: str) -> str:
        """The task's collection that a collection is in, or is; '' when it is in none."""
        while collection.count("/") > _HOME_LEVELS:
            if self._state(collection) is not None:
                return collection
            collection = parent_of(collection)
        return ""

    def _state(self, collection: str) -> State | None:
        if collection not in self._states:
            try:
                entity = Entity(EntityKind.COLLECTION, collection)
                avus = self._catalog.avus(entity, self._attributes.state, self._attributes.named(ARCHIVED))
            except NotFound:  # this user may read the data object, but not its collection
                avus = ()
            self._states[collection] = furthest(avu.value for avu in avus)
        return self._states[collection]

    def _need_ended(self, task: str) -> None:
        state = self._states.get(task)
        if state is not None and not state.is_final:
            raise not_completed(task, state)


def without_our_own(collection: str, found: Iterable[DataObject]) -> list[DataObject]:
    """The data objects of a task's collection without the request, the logs and the crate."""
    own = {f"{collection}/{name}" for name in RESERVED_NAMES}
    return [one for one in found if one.logical_path not in own]


def _incomplete(dataset: str) -> Refused:
    return Refused(
        f"dataset {name_of(dataset)}",
        "is not complete: its upload was interrupted, or still runs",
        f"Continue the upload: c2d dataset upload DIR --id {name_of(dataset)}",
    )


def has_content(data_object: DataObject) -> bool:
    """Whether a task may read a data object now, or when a transfer of it has ended: not when all replicas are
    intermediate or stale."""
    return any(one.status not in (ReplicaStatus.STALE, ReplicaStatus.INTERMEDIATE) for one in data_object.replicas)


def need_content(data_object: DataObject) -> DataObject:
    """Return a data object that :func:`has_content`. ZoneError -405000 or -164000 for any other."""
    if has_content(data_object):
        return data_object
    if any(replica.status is ReplicaStatus.INTERMEDIATE for replica in data_object.replicas):
        cause, code = "is being written: no replica is complete (intermediate)", Code.INTERMEDIATE_REPLICA_ACCESS
        raise zone_error(code, data_object.logical_path, cause, "Submit the task again when the transfer has ended")
    cause = "has no good replica: each is stale, as an interrupted transfer leaves it"
    raise zone_error(Code.SYS_REPLICA_DOES_NOT_EXIST, data_object.logical_path, cause, "Upload it again")
