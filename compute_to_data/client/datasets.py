"""Datasets: files stored in a project, complete and verified, for tasks to read. Each has an id.

A dataset is the collection ``<project>/datasets/d-<id>``. Its files are below ``files``. Beside
them is ``manifest.json``: an upload removes it before it changes anything, and writes it last. So a
dataset with a manifest is complete. A dataset without one had an interrupted upload, which can be
continued. An AVU with the id on the collection lets other users find a dataset that they may read.
Only :func:`look_over`, :func:`upload` and :func:`download` use files of this host.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Union

from compute_to_data.client import dataset_uses
from compute_to_data.client.given import Given, text_of
from compute_to_data.documents.schema_words import shown
from compute_to_data.errors import InvalidRequest, NotFound, Refused
from compute_to_data.inputs import naming
from compute_to_data.inputs.readers import withdraw
from compute_to_data.model import Access, Avu, Collection, Entity, EntityKind, Query, name_of
from compute_to_data.pools import pool
from compute_to_data.records.access import require
from compute_to_data.records.dataset_content import manifest_of
from compute_to_data.records.manifest import DATASET_ID, FILES
from compute_to_data.records.state import State, furthest

if TYPE_CHECKING:
    from compute_to_data.client.local_folders.local_listing import Listing
    from compute_to_data.client.local_folders.uploading import Moved, Progress
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports.zone import ClientCatalog

LocalPath = Union[str, "os.PathLike[str]"]
"""A file or folder of this computer."""
DATASETS: Final = naming.DATASETS
_THREADS: Final = 4


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
    collections. ``has_more``: there are more than these."""

    listed: Listed
    tasks: Mapping[str, str]
    workloads: tuple[str, ...]
    has_more: bool = False

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
            "has_more": self.has_more,
        }


def find(workbench: Workbench, dataset: Given) -> str:
    """The collection of a dataset, given its id, the beginning of its id, or its logical path; or what an upload or a
    listing returned.

    It looks in the project first, then for a whole id among all datasets that the person may read.
    InvalidRequest when ``dataset`` is nothing like an id or when several ids begin so, NotFound when the
    dataset does not exist.
    """
    dataset = text_of(dataset, "dataset")
    if not dataset.startswith("/"):
        return naming.dataset(workbench.catalog, workbench.attributes, [workbench.project], dataset)
    collection = dataset.rstrip("/")
    if not DATASET_ID.fullmatch(name_of(collection)):
        raise InvalidRequest(f"dataset {dataset}", "is not the id of a dataset", "List the ids: c2d dataset list")
    try:
        found = workbench.catalog.stat(collection)
    except NotFound as error:
        cause, remedy = "does not exist, or you may not read it", "List the project's datasets: c2d dataset list"
        raise NotFound(f"dataset {dataset}", cause, remedy, code=error.code) from None
    if not isinstance(found, Collection):
        raise InvalidRequest(f"dataset {dataset}", "is a data object, and a dataset is a collection")
    return collection


def need_place(workbench: Workbench) -> None:
    """NotFound or AccessDenied unless the person may make a dataset in their project: known before anything is sent."""
    collection = f"{workbench.project}/{DATASETS}"
    try:
        workbench.catalog.stat(collection)
    except NotFound:
        collection = workbench.project
    require(workbench.catalog, collection, Access.MODIFY_OBJECT, "to make a dataset there")


def reserve(workbench: Workbench) -> str:
    """Make an empty collection for a new dataset; returns the dataset's id."""
    dataset = f"d-{secrets.token_hex(6)}"
    collection = f"{workbench.project}/{DATASETS}/{dataset}"
    workbench.catalog.create_collection(f"{collection}/{FILES}", parents=True)
    make_findable(workbench, collection)
    return dataset


def make_findable(workbench: Workbench, collection: str) -> None:
    """Let other users who may read a dataset find it by its id."""
    known = Avu(workbench.attributes.named(naming.DATASET_FACT), name_of(collection))
    workbench.catalog.annotate(Entity(EntityKind.COLLECTION, collection), add=[known])


def look_over(workbench: Workbench, paths: LocalPath | Iterable[LocalPath], *, follow_links: bool = False) -> Listing:
    """List a folder, a file or several of them that are to become a dataset of the project.
    InvalidRequest names the files that cannot be stored."""
    from compute_to_data.client.local_folders.local_listing import listing

    given = [os.fspath(one) for one in _paths(paths)]
    top = f"{workbench.project}/{DATASETS}/d-{'0' * 12}/{FILES}"
    return listing([one.rstrip("/") or one[:1] for one in given], top, follow_links=follow_links)


def _paths(given: LocalPath | Iterable[LocalPath]) -> list[LocalPath]:
    """The paths of this computer that a program gives: one, or several."""
    several: list[Any] = [given]
    if isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        several = [*given]
    for one in several:
        if not isinstance(one, (str, os.PathLike)):
            raise InvalidRequest("dataset", f"found {shown(one)}", "Give the path of a folder or file, or several")
    return several


def upload(
    workbench: Workbench,
    paths: LocalPath | Iterable[LocalPath],
    *,
    name: str = "",
    dataset: Given = "",
    delete: bool = False,
    follow_links: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Moved:
    """Store a folder, a file or several of them as a dataset. Files that the dataset already has with the
    same checksum are not sent. One folder becomes the dataset itself; otherwise each file and folder is
    in the dataset under its own name.

    ``dataset``: the id of a dataset to update or to complete; without it, a new one is made.
    ``delete``: also remove files from the dataset that are no longer in the folder. ``follow_links``: send
    what links lead to, instead of refusing links. Refused when it would change a dataset that a task which
    has not ended uses, unless ``force``. Raises the errors of :func:`look_over`, before anything is sent,
    and those of ``ClientCatalog.put``.

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
    from compute_to_data.client.local_folders.uploading import NoProgress, Upload

    if not isinstance(name, str):
        raise InvalidRequest("the dataset's name", f"found {shown(name)}, expected a text")
    local = look_over(workbench, paths, follow_links=follow_links)
    if delete and not local.is_folder:
        remedy = "Give the whole folder, or leave out --delete"
        raise InvalidRequest("dataset", "only the upload of one folder can say what to delete", remedy)

    collection = find(workbench, dataset or reserve(workbench))
    remedy = "Wait until they end, upload a new dataset, or change it all the same with --force"
    need_unused = _no_check if force else lambda: _need_unused(workbench, collection, remedy)
    run = Upload(workbench.catalog, collection, local, progress or NoProgress(), need_unused)
    return run.run(name, delete)


def _no_check() -> None:
    """For a person who wants to change a dataset even while it is in use."""


def _need_unused(workbench: Workbench, collection: str, remedy: str) -> None:
    dataset_uses.need_unused(workbench.catalog, workbench.attributes, collection, remedy)


def download(workbench: Workbench, dataset: Given, directory: LocalPath, *, progress: Progress | None = None) -> Moved:
    """Download a dataset's files into ``directory``, with their modification times.

    Files that are already there with the right checksum are not transferred, so calling this again
    continues an interrupted download. The folder is checked before anything is changed: AlreadyExists
    when something else is in a file's place. Refused for a dataset that is not complete. A file that
    fails does not stop the others: at the end its error is raised, -314000 for a file that does not
    match the manifest, or Incomplete when there are several. Nothing outside ``directory`` is written,
    even when the manifest is malicious.
    """
    from compute_to_data.client import downloading
    from compute_to_data.client.local_folders.uploading import NoProgress

    collection = find(workbench, dataset)
    held = manifest_of(workbench.catalog, collection)
    if held is None:
        remedy = f"Continue its upload: c2d dataset upload DIR --id {name_of(collection)}"
        raise Refused(f"dataset {name_of(collection)}", "is not complete: its upload was interrupted", remedy)
    return downloading.download(workbench.catalog, collection, held, os.fspath(directory), progress or NoProgress())


def listed(workbench: Workbench) -> list[Listed]:
    """The datasets of the project, newest first."""
    newest_first = sorted(_collections(workbench), key=lambda one: one.created, reverse=True)
    with pool(_THREADS, "datasets") as threads:
        return list(threads.map(lambda one: _listed(workbench.catalog, one.logical_path), newest_first))


def _collections(workbench: Workbench) -> list[Collection]:
    """The collections of the project's datasets."""
    place = f"{workbench.project}/{DATASETS}"  # NotFound for a project that is gone
    try:
        members = workbench.catalog.children(place)
    except NotFound:
        return []
    collections = [one for one in members if isinstance(one, Collection)]
    return [one for one in collections if DATASET_ID.fullmatch(name_of(one.logical_path))]


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


def describe(workbench: Workbench, dataset: Given) -> Description:
    """A dataset, and the tasks and workloads that use it, as far as the person can see them: at most 200 of each."""
    collection = find(workbench, dataset)
    catalog, attributes = workbench.catalog, workbench.attributes
    used_by = dataset_uses.workloads(catalog, attributes, collection)
    tasks = dataset_uses.unfinished(catalog, attributes, collection, used_by)
    most = dataset_uses.MOST
    files = f"{collection}/{FILES}/"
    inputs = Query(EntityKind.COLLECTION, attributes.named("input"), beginning=files, newest_first=True, limit=most + 1)
    found = catalog.find(inputs)
    for one in found:
        if one not in tasks and len(tasks) <= most:
            state = furthest(dataset_uses.facts(catalog, one, attributes.state))
            if state is not None:
                tasks[one] = state.value
    has_more = max(len(used_by), len(tasks), len(found)) > most
    shown = dict(itertools.islice(tasks.items(), most))
    return Description(_listed(catalog, collection), shown, tuple(used_by)[:most], has_more)


def remove(workbench: Workbench, dataset: Given, *, force: bool = False) -> str:
    """Remove a dataset with all its files; returns its collection.

    Refused while an unfinished task, or a workload that accepts tasks, uses it, unless ``force``.
    """
    collection = find(workbench, dataset)
    remedy = "Wait until they end, or remove it with --force"
    need_unused = _no_check if force else lambda: _need_unused(workbench, collection, remedy)
    try:
        held = manifest_of(workbench.catalog, collection)
    except InvalidRequest:
        held = None  # a manifest that no program reads
    withdraw(workbench.catalog, collection, held, need_unused)  # first: half a dataset is not complete
    workbench.catalog.remove(collection, recursive=True)
    return collection
