"""The access that a task's owner needs where the request wants results, besides the task's own collection."""

from __future__ import annotations

from compute_to_data.configuration import Attributes
from compute_to_data.errors import NotFound, Refused
from compute_to_data.inputs.naming import is_dataset
from compute_to_data.model import Access, Collection, Entity, EntityKind, Query, name_of, parent_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.access import MAKE_IT, require
from compute_to_data.records.task import TaskRecord
from compute_to_data.records.workload import is_workload_id
from compute_to_data.task import Task
from compute_to_data.tes_task import Placed, PlacedKind

_DEEPEST_HOME = 3
"""Slashes in the logical path of a home collection, as /tempZone/home/alice."""
_MOST_OF_AN_ID = 100
"""At how many collections with a task's id a session looks. Users can choose ids."""


def collections(task: Task) -> tuple[str, ...]:
    """The collections in which the results are to be, each once."""
    placed = task.tes.placed if task.tes else ()
    return tuple(dict.fromkeys(map(_collection, placed)))


def _collection(one: Placed) -> str:
    return parent_of(one.logical_path) if one.kind is PlacedKind.FILE else one.logical_path


def need(catalog: Catalog, attributes: Attributes, task: Task) -> None:
    """NotFound, AccessDenied; Refused when something is there already that is no result of an earlier task."""
    for collection in collections(task):
        require(catalog, collection, Access.MODIFY_OBJECT, "to keep results there", MAKE_IT)
        if not isinstance(catalog.stat(collection), Collection):
            raise Refused(collection, "is a data object, and an output needs a collection there", "Name another URL")
    earlier = Earlier(catalog, attributes)
    for one in task.tes.placed if task.tes else ():
        if one.kind is PlacedKind.FILE:
            _need_replaceable(catalog, earlier, one.logical_path)


def need_apart(catalog: Catalog, attributes: Attributes, task: Task) -> None:
    """Refused when results would be in the collection of another task, or of a dataset or workload: they would count as
    its results, and be removed with it. A task of a workload belongs there."""
    for collection in (task.output_collection, *collections(task)):
        place = collection
        while place.count("/") > _DEEPEST_HOME:
            kind = _kept(catalog, attributes, place)
            if kind and place != task.workload:
                cause = f"is in the {kind} {name_of(place)}, and results in there would be removed with it"
                raise Refused(collection, cause, "Name a collection outside of it")
            place = parent_of(place)


def _kept(catalog: Catalog, attributes: Attributes, collection: str) -> str:
    """What a collection is, if this product keeps it as a whole: a task, a dataset or a workload; '' for none."""
    if is_dataset(collection):
        return "dataset"
    if is_workload_id(name_of(collection)):
        return "workload"
    try:
        return "task" if catalog.avus(Entity(EntityKind.COLLECTION, collection), attributes.state) else ""
    except NotFound:  # this user may not see it, nor remove it
        return ""


def _need_replaceable(catalog: Catalog, earlier: Earlier, logical_path: str) -> None:
    try:
        found = catalog.stat(logical_path)
    except NotFound:
        return
    if isinstance(found, Collection) or not earlier.left(logical_path):
        cause = "exists already, and a task replaces nothing but results of tasks that have ended"
        raise Refused(logical_path, cause, "Remove it, or name another URL")
    require(catalog, logical_path, Access.OWN, "to replace it")


class Earlier:
    """Tasks that have ended, as far as a session can see. It asks once for each task."""

    def __init__(self, catalog: Catalog, attributes: Attributes) -> None:
        self._catalog, self._attributes = catalog, attributes
        self._ended: dict[str, bool] = {}

    def left(self, data_object: str) -> bool:
        """Whether a data object is a result of a task that has ended.

        Only the task's id on it says so, and everybody who may write there can add one: so a session still needs own
        access to replace it. A task whose record is gone, or that the session may not read, counts as ended.
        """
        named = self._attributes.named("task_id")
        ids = {avu.value for avu in self._catalog.avus(Entity(EntityKind.DATA_OBJECT, data_object), named)}
        return bool(ids) and all(map(self._has_ended, ids))

    def _has_ended(self, task_id: str) -> bool:
        if task_id not in self._ended:
            self._ended[task_id] = self._look(task_id)
        return self._ended[task_id]

    def _look(self, task_id: str) -> bool:
        query = Query(EntityKind.COLLECTION, self._attributes.named("task_id"), task_id, limit=_MOST_OF_AN_ID)
        found = [one for one in self._catalog.find(query) if name_of(one) == task_id]  # anybody can write any id
        return all(map(self._is_final, found))

    def _is_final(self, collection: str) -> bool:
        try:
            state = TaskRecord(self._catalog, self._attributes, collection, "").state()
        except NotFound:
            return True
        except Refused:  # nobody can say
            return False
        return state is not None and state.is_final
