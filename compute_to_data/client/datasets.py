"""Datasets: folders stored in a project, complete and verified, for tasks to read. Each has an id.

A dataset is the collection ``<project>/datasets/d-<id>``. Its files are below ``files``. Beside
them is ``manifest.json``: an upload removes it before it changes anything, and writes it last. So a
dataset with a manifest is complete. A dataset without one had an interrupted upload, which can be
continued. Only :func:`look_over`, :func:`upload` and :func:`download` use files of this host.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from compute_to_data.client.dataset_content import manifest_of
from compute_to_data.client.manifest import DATASET_ID, FILES, MANIFEST_NAME
from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.model import Collection, Entity, EntityKind, Query, name_of
from compute_to_data.records.task import State
from compute_to_data.task import REQUEST_NAME

if TYPE_CHECKING:
    from compute_to_data.client.folders import Listing
    from compute_to_data.client.uploading import Moved, Progress
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports import ClientCatalog

DATASETS: Final = "datasets"
"""The collection of a project that holds its datasets."""
_THREADS: Final = 4
_UNFINISHED: Final = tuple(state for state in State if not state.is_final)


@dataclass(frozen=True)
class Listed:
    """A dataset of a project. When ``is_complete`` is false, its upload was interrupted, and the
    fields with defaults are not known. ``size`` in bytes."""

    dataset: str
    collection: str
    is_complete: bool
    name: str = ""
    files: int = 0
    folders: int = 0
    size: int = 0
    created: str = ""


@dataclass(frozen=True)
class Description:
    """A dataset and its users: ``tasks`` maps a task's collection to its state; ``workloads`` are
    collections."""

    listed: Listed
    tasks: Mapping[str, str]
    workloads: tuple[str, ...]

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The tasks that have not ended."""
        return tuple(task for task, state in self.tasks.items() if not State(state).is_final)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **vars(self.listed),
            "input": f"{self.listed.collection}/{FILES}",
            "tasks": [{"collection": task, "state": state} for task, state in self.tasks.items()],
            "workloads": list(self.workloads),
        }


def find(workbench: Workbench, dataset: str) -> str:
    """The collection of a dataset, given its id in the project or its logical path. InvalidRequest
    when ``dataset`` is neither, NotFound when the dataset does not exist."""
    collection = dataset.rstrip("/") if dataset.startswith("/") else f"{workbench.project}/{DATASETS}/{dataset}"
    if not DATASET_ID.fullmatch(name_of(collection) if dataset.startswith("/") else dataset):
        raise InvalidRequest(f"dataset {dataset}", "is not the id of a dataset", "List the ids: c2d dataset list")
    try:
        found = workbench.catalog.stat(collection)
    except NotFound as error:
        cause, remedy = "does not exist, or you may not read it", "List the project's datasets: c2d dataset list"
        raise NotFound(f"dataset {dataset}", cause, remedy, code=error.code) from None
    if not isinstance(found, Collection):
        raise InvalidRequest(f"dataset {dataset}", "is a data object, and a dataset is a collection")
    return collection


def reserve(workbench: Workbench) -> str:
    """Make an empty collection for a new dataset; returns the dataset's id."""
    dataset = f"d-{secrets.token_hex(6)}"
    workbench.catalog.create_collection(f"{workbench.project}/{DATASETS}/{dataset}/{FILES}", parents=True)
    return dataset


def look_over(workbench: Workbench, directory: str) -> Listing:
    """List a folder that is to become a dataset of the project. InvalidRequest names the files that
    cannot be stored."""
    from compute_to_data.client import folders

    if not directory:
        raise InvalidRequest("dataset", "no folder is given", "Give the folder to upload, or . for this one")
    top = f"{workbench.project}/{DATASETS}/d-{'0' * 12}/{FILES}"
    return folders.listing(directory.rstrip("/") or "/", top)


def upload(
    workbench: Workbench,
    directory: str,
    *,
    name: str = "",
    dataset: str = "",
    delete: bool = False,
    progress: Progress | None = None,
) -> Moved:
    """Store a folder as a dataset. Files that the dataset already has with the same checksum are not sent.

    ``dataset``: the id of a dataset to update or to complete; without it, a new one is made.
    ``delete``: also remove files from the dataset that are no longer in the folder. Raises the errors
    of :func:`look_over`, before anything is sent, and those of ``ClientCatalog.put``.

    >>> from compute_to_data.client import datasets
    >>> with c2d.connect() as session:
    ...     sent = datasets.upload(session, folder, name="measurements")
    ...     print(sent.files, sent.size, [one.name for one in datasets.listed(session)])
    ...     back = datasets.download(session, sent.dataset, folder)
    ...     print(back.sent, "files transferred")
    ...     removed = datasets.remove(session, sent.dataset)
    1 2 ['measurements']
    0 files transferred
    """
    from compute_to_data.client.uploading import NoProgress, Upload

    local = look_over(workbench, directory)
    collection = find(workbench, dataset or reserve(workbench))
    return Upload(workbench.catalog, collection, local, progress or NoProgress()).run(name, delete)


def download(workbench: Workbench, dataset: str, directory: str, *, progress: Progress | None = None) -> Moved:
    """Download a dataset's files into ``directory``, with their modification times.

    Files that are already there with the right checksum are not transferred, so calling this again
    continues an interrupted download. The folder is checked before anything is changed: AlreadyExists
    when something else is in a file's place. Refused for a dataset that is not complete; -314000 for
    a file that does not match the manifest. Nothing outside ``directory`` is written, even when the
    manifest is malicious.
    """
    from compute_to_data.client import downloading
    from compute_to_data.client.uploading import NoProgress

    collection = find(workbench, dataset)
    held = manifest_of(workbench.catalog, collection)
    if held is None:
        remedy = f"Continue its upload: c2d dataset upload DIR --id {name_of(collection)}"
        raise Refused(f"dataset {name_of(collection)}", "is not complete: its upload was interrupted", remedy)
    return downloading.download(workbench.catalog, collection, held, directory, progress or NoProgress())


def listed(workbench: Workbench) -> list[Listed]:
    """The datasets of the project, newest first."""
    catalog, top = workbench.catalog, f"{workbench.project}/{DATASETS}"
    try:
        members = catalog.children(top)
    except NotFound:
        return []
    collections = [one for one in members if isinstance(one, Collection)]
    newest_first = sorted(collections, key=lambda one: one.created, reverse=True)
    found = [one.logical_path for one in newest_first if DATASET_ID.fullmatch(name_of(one.logical_path))]
    with ThreadPoolExecutor(_THREADS, "datasets") as pool:
        return list(pool.map(lambda collection: _listed(catalog, collection), found))


def _listed(catalog: ClientCatalog, collection: str) -> Listed:
    try:
        held = manifest_of(catalog, collection)
    except InvalidRequest:
        held = None
    if held is None:
        return Listed(name_of(collection), collection, False)
    return Listed(
        held.dataset, collection, True, held.name, len(held.files), len(held.folders), held.size, held.created
    )


def describe(workbench: Workbench, dataset: str) -> Description:
    """A dataset, and the tasks and workloads that use it, as far as the person can see them."""
    collection = find(workbench, dataset)
    catalog, attributes = workbench.catalog, workbench.attributes
    tasks: dict[str, str] = {}
    for state in _UNFINISHED:
        for one in catalog.query(Query(EntityKind.COLLECTION, attributes.state, state.value, newest_first=True)):
            if _names(catalog, one.collection, collection):
                tasks[one.collection] = state.value
    inputs = Query(
        EntityKind.COLLECTION, attributes.named("input"), beginning=f"{collection}/{FILES}/", newest_first=True
    )
    for one in catalog.query(inputs):
        if one.collection not in tasks:
            avus = catalog.avus(Entity(EntityKind.COLLECTION, one.collection))
            states = [avu.value for avu in avus if avu.attribute == attributes.state]
            if len(states) == 1 and states[0] in State.__members__:
                tasks[one.collection] = states[0]
    datasets = Query(EntityKind.COLLECTION, attributes.named("dataset"), beginning=collection, newest_first=True)
    used_by = tuple(row.collection for row in catalog.query(datasets) if _is_within(row.value, collection))
    return Description(_listed(catalog, collection), tasks, used_by)


def _is_within(logical_path: str, collection: str) -> bool:
    return logical_path == collection or logical_path.startswith(f"{collection}/")


def _names(catalog: ClientCatalog, task: str, collection: str) -> bool:
    """Whether the request of an unfinished task names something in the dataset."""
    try:
        request = catalog.read(f"{task}/{REQUEST_NAME}").decode("utf-8", "replace")
    except NotFound:
        return False
    return f'"{collection}/' in request or f'"{collection}"' in request


def remove(workbench: Workbench, dataset: str, *, force: bool = False) -> str:
    """Remove a dataset with all its files; returns its collection.

    Refused while an unfinished task or a workload uses it, unless ``force``.
    """
    found = describe(workbench, dataset)
    users = (*found.unfinished, *found.workloads)
    if users and not force:
        cause = f"is in use by {', '.join(users[:3])}{' and others' if len(users) > 3 else ''}"
        raise Refused(f"dataset {found.listed.dataset}", cause, "Wait until they end, or remove it with --force")
    collection = found.listed.collection
    if found.listed.is_complete:
        workbench.catalog.remove(f"{collection}/{MANIFEST_NAME}")  # first: half a dataset is not complete
    workbench.catalog.remove(collection, recursive=True)
    return collection
