"""Downloads the results of a workload's tasks, each into a folder of its own."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compute_to_data.client import fetching, workload_tasks
from compute_to_data.errors import AlreadyExists, ComputeToDataError, OutOfReach
from compute_to_data.records.state import State

if TYPE_CHECKING:
    from compute_to_data.client.workload_tasks import ListedTask
    from compute_to_data.ports.zone import ClientCatalog


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
    catalog: ClientCatalog,
    tasks: Sequence[ListedTask],
    by_file: bool,
    directory: str,
    *,
    force: bool,
    fetched: Callable[[int, int], None],
) -> Downloaded:
    """See :meth:`WorkloadHandle.download`. ``tasks``: all of the workload, newest first. ``by_file``: they are for one
    file each."""
    folders: dict[str, str] = {}
    failed: dict[str, str] = {}
    unfinished: list[str] = []
    incomplete: list[str] = []
    current = workload_tasks.current(tasks, by_file=by_file)
    for number, task in enumerate(current, start=1):
        if not State(task.state).is_final:
            unfinished.append(task.task_id)
            continue
        folder = task.name if by_file and _is_relative(task.name) else ""
        fetch = functools.partial(fetching.fetch, catalog, task.collection, directory, folder=folder, force=force)
        earlier = (one.collection for one in tasks if one.name == task.name and one.task_id != task.task_id)
        try:
            done = _in_place_of_earlier(fetch, catalog, os.path.join(directory, folder), earlier) if folder else fetch()
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            failed[task.task_id] = str(error)
        else:
            folders[task.task_id] = done.directory
            if not done.is_complete:
                incomplete.append(task.task_id)
        fetched(number, len(current))
    return Downloaded(folders, tuple(unfinished), tuple(incomplete), failed)


def _in_place_of_earlier(
    fetch: Callable[[], fetching.Fetched], catalog: ClientCatalog, folder: str, earlier: Iterable[str]
) -> fetching.Fetched:
    """Fetch into a folder, in the place of an unchanged copy of what one of these earlier tasks left."""
    try:
        return fetch()
    except AlreadyExists:
        if not _discarded(catalog, folder, earlier):
            raise
        return fetch()


def _discarded(catalog: ClientCatalog, folder: str, earlier: Iterable[str]) -> bool:
    """Remove a folder that holds nothing but a copy of what one of these earlier tasks left. Returns whether it did."""
    for collection in earlier:
        if fetching.is_copy(catalog, collection, folder):
            shutil.rmtree(folder)
            return True
    return False


def _is_relative(name: str) -> bool:
    """Whether a task's name, which its owner can change, leads to a place below a folder."""
    return not {"", ".", ".."} & set(name.split("/"))
