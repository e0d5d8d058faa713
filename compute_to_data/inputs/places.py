"""The access that a task's owner needs where the request wants results, besides the task's own collection."""

from __future__ import annotations

from compute_to_data.errors import NotFound, Refused
from compute_to_data.model import Access, Collection, parent_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import require
from compute_to_data.task import Task
from compute_to_data.tes_task import Placed, PlacedKind


def collections(task: Task) -> tuple[str, ...]:
    """The collections in which the results are to be, each once."""
    placed = task.tes.placed if task.tes else ()
    return tuple(dict.fromkeys(map(_collection, placed)))


def _collection(one: Placed) -> str:
    return parent_of(one.logical_path) if one.kind is PlacedKind.FILE else one.logical_path


def need(catalog: Catalog, task: Task) -> None:
    """NotFound, AccessDenied; Refused when a data object is there already: a task replaces nothing."""
    for collection in collections(task):
        if not isinstance(catalog.stat(collection), Collection):
            raise Refused(collection, "is a data object, and an output needs a collection there", "Name another URL")
        require(catalog, collection, Access.MODIFY_OBJECT, "to keep results there")
    for one in task.tes.placed if task.tes else ():
        if one.kind is PlacedKind.FILE:
            try:
                catalog.stat(one.logical_path)
            except NotFound:
                continue
            raise Refused(
                one.logical_path, "exists already, and a task replaces nothing", "Remove it, or name another URL"
            )
