"""Checks that the sandbox can show each input of a task at its path, and finds the empty directories that it needs."""

from __future__ import annotations

from compute_to_data.errors import InvalidRequest
from compute_to_data.inputs.complete import dataset_of
from compute_to_data.inputs.references import Folder, Input, Resolved
from compute_to_data.job import directories_above, misplaced
from compute_to_data.model import name_of, parent_of
from compute_to_data.task import INPUTS, InputKind, InputReference


def check(resolved: Resolved) -> tuple[str, ...]:
    """The empty directories that the job must see, besides the directories of its inputs: ``/inputs`` itself
    when nothing is below it.

    InvalidRequest when two inputs would have the same path, when one would be inside another, or when
    the sandbox cannot show an input at its path.
    """
    seen: dict[str, Input] = {}
    for one in resolved.inputs:
        if one.target in seen:
            raise _twice(one, seen[one.target])
        seen[one.target] = one
    folders = {one.target: one for one in resolved.folders}
    directories: dict[str, Input | Folder] = {}
    for file in resolved.inputs:
        directories.update(dict.fromkeys(directories_above(file.target), file))
    for folder in resolved.folders:
        directories.update(dict.fromkeys((folder.target, *directories_above(folder.target)), folder))
    for place in directories.keys() & seen.keys():
        raise _file_and_directory(seen[place], directories[place], place)
    filled = {directory for place in (*seen, *folders) for directory in directories_above(place)}
    empty = tuple(place for place in folders if place not in filled and place != INPUTS)
    wrong = misplaced((*seen, *empty))
    if wrong:
        target, cause = wrong
        path = seen[target].data_object.logical_path if target in seen else folders[target].collection
        raise InvalidRequest(path, f"cannot be shown at {target}: that {cause}", "Name another path")
    return empty if any(place.startswith(f"{INPUTS}/") for place in (*seen, *empty)) else (INPUTS, *empty)


def _twice(one: Input, other: Input) -> InvalidRequest:
    same = "has the same name as" if one.target.startswith(f"{INPUTS}/") else "is shown at the same path as"
    cause = f"{same} {other.data_object.logical_path}, and both would be {one.target}"
    return InvalidRequest(one.data_object.logical_path, cause, _rename(one.reference))


def _file_and_directory(one: Input, other: Input | Folder, place: str) -> InvalidRequest:
    below = other.collection if isinstance(other, Folder) else other.data_object.logical_path
    cause = f"and the collection of {below} would both be {place}"
    return InvalidRequest(one.data_object.logical_path, cause, _rename(one.reference))


def _rename(reference: InputReference) -> str:
    path = reference.logical_path
    name = name_of(dataset_of(path) or path)
    if reference.kind is not InputKind.COLLECTION:
        name = f"{name_of(parent_of(path))}/{name_of(path)}"
    return (
        f'Give one of them a name below {INPUTS}: {{"path": "{path}", "name": "{name}"}}, '
        f"or with c2d run: --input {path}:{name}"
    )
