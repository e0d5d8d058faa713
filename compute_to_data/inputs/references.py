"""Resolves a request's input references to data objects, each with the path at which the sandbox shows it.

A reference stands for one data object, all data objects below a collection, or the next data object
of a collection that no task has claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from compute_to_data.bounds import MOST_MEMBERS, check_members
from compute_to_data.catalog_tree import walk
from compute_to_data.configuration import Attributes
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.inputs.complete import Origins, need_content, without_our_own
from compute_to_data.job import Mount
from compute_to_data.model import Access, Collection, DataObject, Replica, User
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import require, seen
from compute_to_data.task import FETCHED_NAME, INPUTS, InputKind, InputReference

MOST_IN_A_DATASET = 131_072
"""The most data objects and collections in the dataset of a workload."""
MOST_INPUTS = 1024
"""The most inputs of a task, since each needs its own mount. A request may name as many singly."""
_LOOKS_AT = 8 * MOST_INPUTS
"""How many members of one collection, and replicas of them, are read for a task's inputs."""


@dataclass(frozen=True)
class Input:
    """A data object that a task reads, the path at which the job sees it, and the reference it belongs to."""

    data_object: DataObject
    target: str
    reference: InputReference


@dataclass(frozen=True)
class Folder:
    """An empty collection of an input, and the path at which the job sees it as an empty directory."""

    collection: str
    target: str
    reference: InputReference


@dataclass(frozen=True)
class Resolved:
    """What the references of a task stand for. ``origins``: the collections of datasets and tasks that they
    are in."""

    inputs: tuple[Input, ...] = ()
    folders: tuple[Folder, ...] = ()
    origins: tuple[str, ...] = ()

    @property
    def data_objects(self) -> tuple[DataObject, ...]:
        """The data objects, in order."""
        return tuple(one.data_object for one in self.inputs)

    def claiming(self, data_object: DataObject, reference: InputReference) -> Resolved:
        """With a claimed data object as the last input."""
        return replace(self, inputs=(*self.inputs, placed(data_object, reference)))


@dataclass(frozen=True)
class Tree:
    """What is below a collection: the data objects, those directly in it first, by name; and the collections
    that hold nothing, which may be the collection itself."""

    data_objects: tuple[DataObject, ...]
    empty: tuple[str, ...]


@dataclass(frozen=True)
class Staged:
    """An input on the compute resource: the data object, the replica to read, and the path that a job sees."""

    data_object: DataObject
    replica: Replica
    target: str
    checksum: str
    modified: int = 0
    """When the replica's file had been modified last as it was staged, in nanoseconds of Unix time."""

    @property
    def mount(self) -> Mount:
        """The mount that shows the input to a job."""
        return Mount(self.replica.physical_path, self.target)


def resolve(
    catalog: Catalog,
    attributes: Attributes,
    references: Sequence[InputReference],
    own: Iterable[str] = (),
    between: Callable[[], object] = lambda: None,
) -> Resolved:
    """What a request names singly or by its collection, without claiming any data object, and without what URLs name
    (:func:`with_fetched`).

    ``own``: the collections of the task itself and of its workload, which are left out below an input. ``between`` is
    called before each reference, and before each data object below a collection: it may raise, so that a long look
    ends.

    NotFound and AccessDenied from the zone; InvalidRequest for a collection named as a data object,
    or for too many inputs; Refused for inputs that are not complete (``inputs.complete``).
    """
    origins = Origins(catalog, attributes, own)
    found: list[Input] = []
    folders: list[Folder] = []
    for reference in references:
        between()
        if reference.kind is InputKind.OBJECT:
            origins.need_object(reference.logical_path)
            found.append(placed(readable(catalog, reference.logical_path), reference))
        elif reference.kind is InputKind.NEXT_OF:
            origins.need_collection(reference.logical_path)
        elif reference.kind is InputKind.COLLECTION:
            below = tree(catalog, origins, reference.logical_path, MOST_INPUTS - len(found), between)
            found += [placed(one, reference) for one in below.data_objects]
            folders += [Folder(one, _target(one, reference), reference) for one in below.empty]
        elif reference.kind is not InputKind.URL:
            raise InvalidRequest(
                f"input {reference.logical_path}", "is not looked up yet", "Submit the task instead of recording it"
            )
    return Resolved(tuple(found), tuple(folders), origins.seen)


def with_fetched(found: Resolved, urls: Iterable[InputReference], collection: str, owner: User) -> Resolved:
    """With what the worker will fetch from URLs, as inputs without replicas. ``collection``: that of the task."""
    return replace(found, inputs=(*found.inputs, *(_fetched(one, collection, owner) for one in urls)))


def _fetched(reference: InputReference, collection: str, owner: User) -> Input:
    logical_path = fetched_path(reference, collection)
    return Input(DataObject(logical_path, owner, (), 0.0, 0.0), reference.path, reference)


def fetched_path(reference: InputReference, collection: str) -> str:
    """The data object for what the URL of a reference names. ``collection``: that of the task."""
    path = reference.path
    name = path[len(INPUTS) + 1 :] if path.startswith(f"{INPUTS}/") else path.lstrip("/")
    return f"{collection}/{FETCHED_NAME}/{name}"


def placed(data_object: DataObject, reference: InputReference) -> Input:
    """A data object of a reference, with its path in the sandbox."""
    return Input(data_object, _target(data_object.logical_path, reference), reference)


def _target(logical_path: str, reference: InputReference) -> str:
    """Where the sandbox shows a data object or collection of a reference: at the path that the reference
    names, else at ``/inputs/<name>``. What is in a referenced collection is in the same subdirectories."""
    if reference.kind is InputKind.COLLECTION:
        return f"{reference.path or INPUTS}{logical_path[len(reference.logical_path) :]}"
    return reference.path or f"{INPUTS}/{logical_path.rpartition('/')[2]}"


def readable(catalog: Catalog, logical_path: str) -> DataObject:
    """A data object that the user may read. NotFound, AccessDenied; InvalidRequest for a collection;
    ZoneError when no replica is complete."""
    require(catalog, logical_path, Access.READ_OBJECT, "to use it as input")
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise InvalidRequest(
            logical_path,
            "is a collection, expected a data object",
            'Write {"collection": ...} to take all data objects in it',
        )
    return need_content(found)


def members(catalog: Catalog, collection: str) -> list[DataObject]:
    """The data objects directly in a collection, by name."""
    need_collection(catalog, collection)
    return [child for child in catalog.children(collection, MOST_MEMBERS) if isinstance(child, DataObject)]


def need_collection(catalog: Catalog, logical_path: str) -> None:
    """NotFound; InvalidRequest for a data object."""
    if not isinstance(seen(catalog, logical_path), Collection):
        raise InvalidRequest(logical_path, "is a data object, expected a collection")


def tree(
    catalog: Catalog,
    origins: Origins,
    collection: str,
    room: int | None = None,
    between: Callable[[], object] = lambda: None,
    takes: Callable[[DataObject], bool] = lambda one: True,
) -> Tree:
    """Everything below a collection, at any depth. The collection of a task is without our own files. ``between`` is
    called before each collection and data object. ``takes``: which data objects, by default all.

    AccessDenied for a data object that the user sees but may not read. InvalidRequest when the path is
    not a collection, or when it holds more than ``room`` data objects. Refused for what is not complete. TooLarge for
    more than the worker reads.
    """
    need_collection(catalog, collection)
    is_task = origins.need_collection(collection)
    found: list[DataObject] = []
    empty: list[str] = []
    collections = 0
    for place, below, here in walk(catalog, collection, MOST_MEMBERS if room is None else _LOOKS_AT):
        between()
        if place != collection and origins.is_own(place):
            continue
        if is_task and f"{place}/".startswith(f"{collection}/{FETCHED_NAME}/"):
            continue
        collections += len(below)
        if room is not None and collections > MOST_INPUTS:
            raise _too_many(collection, f"has more than {MOST_INPUTS} collections below it")
        if place != collection:
            origins.need_member(place, here)
        elif is_task:
            here = without_our_own(collection, here)
        found += [one for one in here if takes(one)]
        if room is not None and len(found) > room:
            count = MOST_INPUTS - room + len(found)
            raise _too_many(collection, f"found {count} inputs, expected at most {MOST_INPUTS}")
        check_members(collection, len(found) + collections, MOST_IN_A_DATASET)
        if not below and not here:
            empty.append(place)
    for one in found:
        between()
        _need_read(catalog, need_content(one))
    origins.need_whole(collection, found)
    return Tree(tuple(found), tuple(empty))


def _need_read(catalog: Catalog, data_object: DataObject) -> None:
    require(catalog, data_object.logical_path, Access.READ_OBJECT, "to use it as input")


def _too_many(collection: str, cause: str) -> InvalidRequest:
    remedy = (
        "The tasks of a workload see a collection of any size (c2d workload start --input-dataset), "
        "or run one task for each file (c2d map)"
    )
    return InvalidRequest(collection, cause, remedy)


def anew(catalog: Catalog, logical_path: str) -> DataObject:
    """Read a data object again, since another task may have staged it in the meantime. NotFound."""
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise NotFound(logical_path, "is not a data object any more")
    return found
