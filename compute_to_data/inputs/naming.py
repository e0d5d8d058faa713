"""Finds what a request names by a path, or by the id of a dataset or task, or as a result of a task.

The submission looks up everything that is known by then, so that a recorded task names data objects
and collections by their logical paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from compute_to_data.bounds import MOST_MEMBERS
from compute_to_data.configuration import Attributes
from compute_to_data.errors import InvalidRequest, NotFound, Refused, TooLarge
from compute_to_data.model import Collection, DataObject, EntityKind, Query, name_of, parent_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import seen
from compute_to_data.records.manifest import DATASET_ID, FILES
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.similar_names import nearest
from compute_to_data.task import InputKind, InputReference

DATASETS: Final = "datasets"
"""The collection of a project that holds its datasets."""
DATASET_FACT: Final = "dataset_id"
"""The fact on a dataset's collection that has its id as its value."""
DATASET_BEGINNING: Final = re.compile(r"d-[0-9a-f]{2,12}")
"""The id of a dataset, or the beginning of one."""
_TASK: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHOWN: Final = 5
_LISTED: Final = 1024
"""Of more results, the error for a result that does not exist names none."""
"""How many candidates an error names."""


def look_up(
    catalog: Catalog, attributes: Attributes, reference: InputReference, projects: Sequence[str]
) -> InputReference:
    """The same reference, with the logical path that its id names, and as an OBJECT, a COLLECTION or a TASK
    when it was a PATH. Of a TASK, it looks up only the collection; see :func:`result`.

    ``projects``: the collections in which to look for datasets. NotFound, and InvalidRequest for the
    beginning of several ids.
    """
    given = reference.logical_path
    if reference.kind is InputKind.URL:
        return reference
    if reference.kind is InputKind.TASK:
        return replace(reference, logical_path=task(catalog, attributes, given))
    kind = reference.kind
    if not given.startswith("/"):
        given, is_task = _by_id(catalog, attributes, given, projects)
        if is_task and kind is InputKind.PATH:
            return replace(reference, kind=InputKind.TASK, logical_path=given)
    if kind is InputKind.PATH:
        kind = InputKind.OBJECT if isinstance(seen(catalog, given), DataObject) else InputKind.COLLECTION
        given = f"{given}/{FILES}" if is_dataset(given) else given
    return replace(reference, kind=kind, logical_path=given)


def is_dataset(collection: str) -> bool:
    """Whether a logical path has the form of a dataset's collection."""
    return DATASET_ID.fullmatch(name_of(collection)) is not None and name_of(parent_of(collection)) == DATASETS


def _by_id(catalog: Catalog, attributes: Attributes, given: str, projects: Sequence[str]) -> tuple[str, bool]:
    """The files of the dataset, or the collection of the task, with this id, and whether it is a task's."""
    if DATASET_BEGINNING.fullmatch(given):
        try:
            return f"{dataset(catalog, attributes, projects, given)}/{FILES}", False
        except NotFound:
            pass  # the user may have chosen such an id for a task
    try:
        return task(catalog, attributes, given), True
    except NotFound as error:
        places = " and ".join(f"{project}/{DATASETS}" for project in projects)
        cause = f"is the id of no task that you may read, and of no dataset in {places}"
        remedy = "List the ids with c2d dataset list and c2d list, or give the logical path"
        raise NotFound(f"input {given}", cause, remedy, code=error.code) from None


def dataset(catalog: Catalog, attributes: Attributes, projects: Sequence[str], given: str) -> str:
    """The collection of the dataset with this id, or with an id that begins so.

    It looks in the projects, in their order, and for a whole id among all datasets that the user may read.
    NotFound; InvalidRequest when ``given`` cannot be an id, or when several ids begin so.
    """
    if not DATASET_BEGINNING.fullmatch(given):
        raise InvalidRequest(f"dataset {given}", "is not the id of a dataset", "List the ids: c2d dataset list")
    for project in projects:
        found = list(_datasets(catalog, f"{project}/{DATASETS}", given))
        if found:
            return _the_only("dataset", given, found)
    if DATASET_ID.fullmatch(given):
        found = list(catalog.find(Query(EntityKind.COLLECTION, attributes.named(DATASET_FACT), given)))
        # Every user can write any id on a collection of their own, so the collection's name must agree.
        found = [one for one in found if name_of(one) == given]
        if found:
            return _the_only("dataset", given, found)
    cause, remedy = "does not exist, or you may not read it", "List the project's datasets: c2d dataset list"
    raise NotFound(f"dataset {given}", cause, remedy)


def _datasets(catalog: Catalog, place: str, given: str) -> Iterator[str]:
    try:
        if DATASET_ID.fullmatch(given):
            yield catalog.stat(f"{place}/{given}").logical_path
            return
        for member in catalog.children(place, MOST_MEMBERS):
            name = name_of(member.logical_path)
            if DATASET_ID.fullmatch(name) and name.startswith(given):
                yield member.logical_path
    except NotFound:
        return


def task(catalog: Catalog, attributes: Attributes, given: str) -> str:
    """The collection of the task with this id, with an id that begins so, or with this collection.

    Of the tasks that the user may read, their own come first. NotFound, or InvalidRequest that names
    the candidates.
    """
    if given.startswith("/"):
        return given
    if not _TASK.fullmatch(given):
        raise InvalidRequest("task id", f"{given[:80]!r} cannot be the id of a task", "List your tasks: c2d list")
    attribute = attributes.named("task_id")
    for owner in (catalog.user, None):
        query = Query(
            EntityKind.COLLECTION, attribute, beginning=given, owner=owner, newest_first=True, limit=_SHOWN + 1
        )
        # Every user can write any id on a collection of their own, so the collection's name must agree.
        found = [one for one in catalog.find(query) if name_of(one).startswith(given)]
        exact = [one for one in found if name_of(one) == given]
        if found:
            return _the_only("task", given, exact or found)
    raise NotFound(f"task {given}", "does not exist, or you may not read it", "List your tasks: c2d list")


def _the_only(kind: str, given: str, found: Sequence[str]) -> str:
    if len(found) == 1:
        return found[0]
    names = [name_of(one) for one in found]
    same = len(set(names)) < len(names)
    raise InvalidRequest(
        f"{kind} {given}",
        f"several {kind}s match: {_some(found if same else names)}",
        "Give the logical path of its collection" if same else "Give more of the id",
    )


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{' and more' if len(names) > _SHOWN else ''}"


def result(catalog: Catalog, attributes: Attributes, reference: InputReference) -> InputReference:
    """The data object or collection that a TASK reference names; any other reference as it is.

    Refused unless the task is COMPLETED. NotFound when it has no such result, with the results it has.
    """
    if reference.kind is not InputKind.TASK:
        return reference
    collection = task(catalog, attributes, reference.logical_path)
    state = TaskRecord(catalog, attributes, collection, "").state()
    if state is None:
        raise NotFound(f"task {name_of(collection)}", f"{collection} has no task's state", "List your tasks: c2d list")
    if state is not State.COMPLETED:
        raise not_completed(collection, state)
    if not reference.result:
        return replace(reference, kind=InputKind.COLLECTION, logical_path=collection)
    path = f"{collection}/{reference.result}"
    try:
        kind = InputKind.OBJECT if isinstance(catalog.stat(path), DataObject) else InputKind.COLLECTION
    except NotFound as error:
        raise _no_result(collection, reference.result, _members(catalog, parent_of(path)), error) from None
    return replace(reference, kind=kind, logical_path=path, result="")


def not_completed(collection: str, state: State) -> Refused:
    """The error for a task whose results cannot be inputs, because it has not ended or did not complete."""
    subject = f"task {name_of(collection)}"
    if state.is_final:
        remedy = f"To use a file that it left all the same, give its logical path below {collection}"
        return Refused(subject, f"is {state.value}, so it has no results to use as input", remedy)
    cause = f"has not ended yet: it is {state.value}, and its results are not complete"
    return Refused(subject, cause, f"Wait for it first: c2d wait {name_of(collection)}")


def _members(catalog: Catalog, collection: str) -> list[str]:
    try:
        return [one.logical_path for one in catalog.children(collection, _LISTED)]
    except (NotFound, TooLarge):
        return []


def _no_result(collection: str, wanted: str, members: Iterable[str], error: NotFound) -> NotFound:
    names = [path[len(collection) + 1 :] for path in members]
    close = nearest(wanted, names)
    remedy = f"Did you mean {close}" if close else f"It has {_some(names)}" if names else ""
    return NotFound(f"task {name_of(collection)}", f"has no result {wanted}", remedy, code=error.code)


def collection(catalog: Catalog, attributes: Attributes, given: str, projects: Sequence[str]) -> str:
    """The collection that a path or an id names: of a dataset its files. InvalidRequest for a data object."""
    found = look_up(catalog, attributes, InputReference(InputKind.PATH, given), projects).logical_path
    if not isinstance(seen(catalog, found), Collection):
        raise InvalidRequest(found, "is a data object, expected a collection")
    return found
