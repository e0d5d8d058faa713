"""What an id or a logical path names: a task, a dataset, a workload, or any collection."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from compute_to_data.client import datasets, finding, workloads
from compute_to_data.client.given import Given, text_of
from compute_to_data.client.kinds import Kind, Named
from compute_to_data.errors import ComputeToDataError, NotFound
from compute_to_data.inputs.naming import DATASET_BEGINNING
from compute_to_data.model import Collection, name_of
from compute_to_data.records.manifest import DATASET_ID
from compute_to_data.records.workload import is_workload_id

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

_WORKLOAD_BEGINNING = re.compile(r"w-[0-9a-f]{1,12}")


def named(workbench: Workbench, given: Given) -> Named:
    """What ``given`` names: an id, the beginning of one, or a logical path. NotFound; InvalidRequest when
    it may mean several things."""
    given = text_of(given, "what it names")
    if given.startswith("/"):
        return _at(workbench, given.rstrip("/") or "/")
    with contextlib.suppress(NotFound):  # the user may have chosen such an id for a task
        if _WORKLOAD_BEGINNING.fullmatch(given):
            workload = workloads.find(workbench, given)
            return Named(Kind.WORKLOAD, workload.id, workload.collection)
        if DATASET_BEGINNING.fullmatch(given):
            collection = datasets.find(workbench, given)
            return Named(Kind.DATASET, name_of(collection), collection)
    if given.startswith(("d-", "w-")):
        return _task_or_nothing(workbench, given)
    task = finding.find(workbench, given)
    return Named(Kind.TASK, task.id, task.collection)


def _task_or_nothing(workbench: Workbench, given: str) -> Named:
    """The task with an id like a dataset's or workload's. NotFound in words that fit all of them."""
    try:
        task = finding.find(workbench, given)
    except NotFound as error:
        cause = "is the id of no dataset, workload or task that you may read"
        remedy = "List the ids: c2d dataset list, c2d workload list, c2d list"
        raise NotFound(given, cause, remedy, code=error.code) from None
    return Named(Kind.TASK, task.id, task.collection)


def _at(workbench: Workbench, collection: str) -> Named:
    """What a logical path names."""
    found = workbench.catalog.stat(collection)
    name = name_of(collection)
    if not isinstance(found, Collection):
        cause, remedy = "is a data object, expected a collection", "Read a data object with iget"
        raise NotFound(collection, cause, remedy)
    if DATASET_ID.fullmatch(name):
        return Named(Kind.DATASET, name, collection)
    if is_workload_id(name):
        return Named(Kind.WORKLOAD, name, collection)
    try:
        task = finding.find(workbench, collection)
    except ComputeToDataError:
        return Named(Kind.COLLECTION, collection, collection)
    return Named(Kind.TASK, task.id, task.collection)
