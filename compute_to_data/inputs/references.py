"""Bringing inputs to the compute resource: used where they lie, replicated only when they must.

Also which data objects a request means: one, all below a collection, or the next one that no task
has claimed.
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
"""Each is a mount of its own; as many as a request may name one by one."""


@dataclass(frozen=True)
class Staged:
    """An input on the compute resource: the object, the replica to read, where a job sees it."""

    data_object: DataObject
    replica: Replica
    target: str
    checksum: str

    @property
    def mount(self) -> Mount:
        """How the engine makes it visible."""
        return Mount(self.replica.physical_path, self.target)


def resolve(catalog: Catalog, references: Sequence[InputReference]) -> tuple[DataObject, ...]:
    """The data objects that objects and collections of a request name; claims are not made here.

    NotFound and AccessDenied as the zone says; InvalidRequest for a collection named as an object.
    """
    found: list[DataObject] = []
    for reference in references:
        if reference.kind is InputKind.OBJECT:
            found.append(readable(catalog, reference.logical_path))
        elif reference.kind is InputKind.COLLECTION:
            room = MOST_INPUTS - len(found)
            found.extend(islice(tree(catalog, reference.logical_path, most_collections=MOST_INPUTS), room + 1))
            _bound(reference.logical_path, len(found))
    return tuple(found)


def _bound(collection: str, count: int) -> None:
    if count > MOST_INPUTS:
        raise InvalidRequest(
            collection, f"found {count} inputs, expected at most {MOST_INPUTS}", "Process them in several tasks"
        )


def readable(catalog: Catalog, logical_path: str) -> DataObject:
    require(catalog, logical_path, Access.READ_OBJECT, "to use it as input")
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise InvalidRequest(
            logical_path,
            "is a collection, expected a data object",
            'Write {"collection": ...} to take all that is in it',
        )
    return found


def members(catalog: Catalog, collection: str) -> list[DataObject]:
    """Data objects directly in a collection, by name."""
    if not isinstance(catalog.stat(collection), Collection):
        raise InvalidRequest(collection, "is a data object, expected a collection")
    return [child for child in catalog.children(collection) if isinstance(child, DataObject)]


def tree(catalog: Catalog, collection: str, most_collections: int = sys.maxsize) -> Iterator[DataObject]:
    """All data objects below a collection, at any depth, each of which the user may read; those
    directly in it first, by name.

    AccessDenied for one that they see and may not read; InvalidRequest for no collection, or one
    with more than ``most_collections`` below it.
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
    """Where a job sees each input of a task's ``references``: at the path that its reference names, or
    below ``/inputs`` by its name; what lies in a collection's own collections in directories as there.

    ``data_objects`` are in the order of :func:`resolve`, claimed ones last. InvalidRequest when two
    would be one, or a path is none at which the sandbox can show an input.
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
    """Each data object with the place that it is to have."""
    own_paths: dict[tuple[InputKind, str], list[str]] = {}
    for one in references:
        own_paths.setdefault((one.kind, one.logical_path), []).append(one.path)
    collections = [(one.logical_path, one.path or INPUTS) for one in references if one.kind is InputKind.COLLECTION]
    for data_object in data_objects:
        logical_path, parent = data_object.logical_path, parent_of(data_object.logical_path)
        above, place = next((one for one in collections if logical_path.startswith(f"{one[0]}/")), ("", ""))
        waiting = own_paths.get((InputKind.OBJECT, logical_path))
        if not waiting and not above:
            waiting = own_paths.get((InputKind.NEXT_OF, parent))
        own = waiting.pop(0) if waiting else ""
        yield data_object, own or f"{place or INPUTS}/{logical_path[len(above or parent) + 1 :]}"


def _twice(logical_path: str, cause: str) -> InvalidRequest:
    return InvalidRequest(logical_path, cause, "Rename one, or process them in two tasks")


def anew(catalog: Catalog, logical_path: str) -> DataObject:
    """A data object as it is now: another task may have had it staged meanwhile. NotFound."""
    found = catalog.stat(logical_path)
    if not isinstance(found, DataObject):
        raise NotFound(logical_path, "is not a data object any more")
    return found
