"""Downloads the results of a workload's tasks, each into a folder of its own."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compute_to_data.client import fetching
from compute_to_data.errors import AlreadyExists, ComputeToDataError, OutOfReach
from compute_to_data.records.state import State

if TYPE_CHECKING:
    from compute_to_data.client.workloads import ListedTask, WorkloadHandle


@dataclass(frozen=True)
class Downloaded:
    """What :meth:`WorkloadHandle.download` did: ``folders`` by task id, ``unfinished`` tasks, which
    have no results yet, ``incomplete`` tasks, whose results are missing, damaged or not fetched in part,
    and ``failed`` tasks, of which nothing was fetched, with the error's text."""

    folders: Mapping[str, str]
    unfinished: tuple[str, ...]
    incomplete: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every task that has ended was fetched whole."""
        return not self.incomplete and not self.failed


def download(
    workload: WorkloadHandle, directory: str, *, force: bool, fetched: Callable[[int, int], None]
) -> Downloaded:
    """See :meth:`WorkloadHandle.download`."""
    folders: dict[str, str] = {}
    failed: dict[str, str] = {}
    unfinished: list[str] = []
    incomplete: list[str] = []
    by_file = bool(workload.describe().workload.each)
    listed = workload.current_tasks()
    for number, task in enumerate(listed, start=1):
        if not State(task.state).is_final:
            unfinished.append(task.task_id)
            continue
        folder = task.name if by_file and _is_relative(task.name) else ""
        try:
            done = _fetch(workload, task, directory, folder, force)
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            failed[task.task_id] = str(error)
        else:
            folders[task.task_id] = done.directory
            if not done.is_complete:
                incomplete.append(task.task_id)
        fetched(number, len(listed))
    return Downloaded(folders, tuple(unfinished), tuple(incomplete), failed)


def _fetch(workload: WorkloadHandle, task: ListedTask, directory: str, folder: str, force: bool) -> fetching.Fetched:
    """Fetch one task. ``folder``: the name of the file that the task is for, or ''. An unchanged copy of what an
    earlier task for that file left makes place."""
    catalog = workload.workbench.catalog
    fetch = functools.partial(fetching.fetch, catalog, task.collection, directory, folder=folder, force=force)
    try:
        return fetch()
    except AlreadyExists:
        if not folder or not _discarded_earlier(workload, task, os.path.join(directory, folder)):
            raise
        return fetch()


def _discarded_earlier(workload: WorkloadHandle, task: ListedTask, folder: str) -> bool:
    """Remove a folder that holds nothing but a copy of what an earlier task for the same file left. Returns whether
    it did."""
    for one in workload.tasks():
        is_earlier = one.name == task.name and one.task_id != task.task_id
        if is_earlier and fetching.is_copy(workload.workbench.catalog, one.collection, folder):
            shutil.rmtree(folder)
            return True
    return False


def _is_relative(name: str) -> bool:
    """Whether a task's name, which its owner can change, leads to a place below a folder."""
    return not {"", ".", ".."} & set(name.split("/"))
