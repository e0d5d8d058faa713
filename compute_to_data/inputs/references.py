"""Resolves a request's input references to data objects, and decides where the sandbox shows them.

A reference stands for one data object, all data objects below a collection, or the next data object
of a collection that no task has claimed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from compute_to_data.catalog_tree import walk
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.job import Mount, misplaced
from compute_to_data.model import (
    Access,
    Collection,
    DataObject,
    Replica,
    parent_of,
)
from compute_to_data.ports import Catalog
from compute_to_data.records.task import require
from compute_to_data.task import InputKind, InputReference

INPUTS = "/inputs"
OUTPUTS = "/outputs"
MOST_INPUTS = 1024
"""The most inputs of a task, since each needs its own mount. A request may name as many singly."""


@dataclass(frozen=True)
class Staged:
    """An input on the compute resource: the data object, the replica to read, and the path that a job sees."""

    data_object: DataObject
    replica: Replica
    target: str
    checksum: str

    @property
    def mount(self) -> Mount:
        """The mount that shows the input to a job."""
        return Mount(self.replica.physical_path, self.target)


def resolve(catalog: Catalog, references: Sequence[InputReference]) -> tuple[DataObject, ...]:
    """The data objects that a request names singly or by their collection, without claiming any.

    NotFound and AccessDenied from the zone; InvalidRequest for a collection named as a data object,
    or for too many inputs.
    """
    found: list[DataObject] = []
    for reference in references:
        if reference.kind is InputKind.OBJECT:
            found.append(readable(catalog, reference.logical_path))
        elif reference.kind is InputKind.COLLECTION:
            room = MOST_INPUTS - len(found)
            found.extend(islice(tree(catalog, reference.logical_path, most_collections=MOST_INPUTS), room + 1))
            _check_count(reference.logical_path, len(found))
    return tuple(found)


def _check_count(collection: str, count: int) -> None:
    if count > MOST_INPUTS:
        raise InvalidRequest(
            collection, f"found {count} inputs, expected at most {MOST_INPUTS}", "Process them in several tasks"
        )


def readable(catalog: Catalog, logical_path: str) -> DataObject:
    """A data object that the user may read. NotFound, AccessDenied; InvalidRequest for a collection."""
    require(catalog, logical_path, Access.READ_OBJECT, "to use it as input")
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise InvalidRequest(
            logical_path,
            "is a collection, expected a data object",
            'Write {"collection": ...} to take all data objects in it',
        )
    return found


def members(catalog: Catalog, collection: str) -> list[DataObject]:
    """The data objects directly in a collection, by name."""
    if not isinstance(catalog.stat(collection), Collection):
        raise InvalidRequest(collection, "is a data object, expected a collection")
    return [child for child in catalog.children(collection) if isinstance(child, DataObject)]


def tree(catalog: Catalog, collection: str, most_collections: int = sys.maxsize) -> Iterator[DataObject]:
    """All data objects below a collection, at any depth; those directly in it first, by name.

    AccessDenied for a data object that the user sees but may not read. InvalidRequest when the path
    is not a collection, or when more than ``most_collections`` collections are below it.
    """
    if not isinstance(catalog.stat(collection), Collection):
        raise InvalidRequest(collection, "is a data object, expected a collection")
    collections = 0
    for _, below, members_here in walk(catalog, collection):
        collections += len(below)
        if collections > most_collections:
            cause = f"has more than {most_collections} collections below it"
            raise InvalidRequest(collection, cause, "Process them in several tasks")
        for data_object in members_here:
            require(catalog, data_object.logical_path, Access.READ_OBJECT, "to use it as input")
            yield data_object


def targets(data_objects: Iterable[DataObject], references: Sequence[InputReference]) -> tuple[str, ...]:
    """The path at which a job sees each input of a task.

    This is the path that the input's reference names, else ``/inputs/<name>``. Data objects in
    subcollections of a referenced collection are in subdirectories of the same names.
    ``data_objects`` are in the order of :func:`resolve`, claimed ones last. InvalidRequest when two
    inputs would have the same path, or when the sandbox cannot show an input at its path.
    """
    seen: dict[str, str] = {}
    for data_object, target in _placed(data_objects, references):
        if target in seen:
            same = "has the same name as" if target.startswith(f"{INPUTS}/") else "is shown at the same path as"
            raise _twice(data_object.logical_path, f"{same} {seen[target]}, and both would be {target}")
        seen[target] = data_object.logical_path
    for target in seen:
        for place in (target[:end] for end, letter in enumerate(target) if letter == "/"):
            if place in seen:
                raise _twice(seen[place], f"and the collection of {seen[target]} would both be {place}")
    wrong = misplaced(tuple(seen))
    if wrong:
        target, cause = wrong
        raise InvalidRequest(seen[target], f"cannot be shown at {target}: that {cause}", "Name another path")
    return tuple(seen)


def _placed(
    data_objects: Iterable[DataObject], references: Sequence[InputReference]
) -> Iterator[tuple[DataObject, str]]:
    """Each data object with its path in the sandbox."""
    own_paths: dict[tuple[InputKind, str], list[str]] = {}
    for item in references:
        own_paths.setdefault((item.kind, item.logical_path), []).append(item.path)
    collections = [(item.logical_path, item.path or INPUTS) for item in references if item.kind is InputKind.COLLECTION]
    for data_object in data_objects:
        logical_path, parent = data_object.logical_path, parent_of(data_object.logical_path)
        above, place = next((pair for pair in collections if logical_path.startswith(f"{pair[0]}/")), ("", ""))
        waiting = own_paths.get((InputKind.OBJECT, logical_path))
        if not waiting and not above:
            waiting = own_paths.get((InputKind.NEXT_OF, parent))
        own = waiting.pop(0) if waiting else ""
        yield data_object, own or f"{place or INPUTS}/{logical_path[len(above or parent) + 1 :]}"


def _twice(logical_path: str, cause: str) -> InvalidRequest:
    return InvalidRequest(logical_path, cause, "Rename one, or process them in two tasks")


def anew(catalog: Catalog, logical_path: str) -> DataObject:
    """Read a data object again, since another task may have staged it in the meantime. NotFound."""
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise NotFound(logical_path, "is not a data object any more")
    return found
