"""Which tasks and workloads read a dataset, or the results of a task, so that it must not change now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Refused
from compute_to_data.model import EntityKind, Query
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.manifest import MANIFEST_NAME, Manifest
from compute_to_data.records.task import READS
from compute_to_data.records.workload import DATASET, STATE, WorkloadState

_MOST_TASKS = 100
"""One is enough to keep a dataset as it is."""


@dataclass(frozen=True)
class Readers:
    """The collections of unfinished tasks and of started workloads that read a collection."""

    tasks: tuple[str, ...]
    workloads: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.tasks or self.workloads)


def tasks_that_read(catalog: Catalog, attributes: Attributes, collection: str, most: int) -> tuple[str, ...]:
    """The collections of the tasks that have not ended and that read a dataset or the results of a task, at most
    ``most`` of them, the newest first.

    ``collection``: that of the dataset or task. It asks the catalog once for all tasks. It finds the tasks
    that the user may read.
    """
    query = Query(EntityKind.COLLECTION, attributes.named(READS), collection, newest_first=True, limit=most)
    return catalog.find(query)


def readers(catalog: Catalog, attributes: Attributes, collection: str) -> Readers:
    """The tasks that read a dataset or the results of a task, and the started workloads whose dataset it is.

    A few questions, and at most :data:`_MOST_TASKS` tasks. A workload that was stopped starts no task any more, so it
    does not count.
    """
    tasks = tasks_that_read(catalog, attributes, collection, _MOST_TASKS)
    dataset = attributes.named(DATASET)
    whole = catalog.find(Query(EntityKind.COLLECTION, dataset, collection))
    below = catalog.find(Query(EntityKind.COLLECTION, dataset, beginning=f"{collection}/"))
    named = {*whole, *below}
    if not named:
        return Readers(tasks, ())
    is_started = Query(EntityKind.COLLECTION, attributes.named(STATE), WorkloadState.STARTED.value)
    started = (one for part in is_started.among_each(sorted(named)) for one in catalog.find(part))
    return Readers(tasks, tuple(started))


def withdraw(catalog: Catalog, collection: str, manifest: Manifest | None, need_unused: Callable[[], None]) -> None:
    """Make a dataset incomplete, so that no task can begin to read it. ``manifest``: its present one.

    ``need_unused`` raises Refused when the dataset must stay as it is. It also looks after the manifest is
    gone, because a task may have been submitted in between; then the manifest is written again.
    """
    need_unused()
    if manifest is None:
        return
    path = f"{collection}/{MANIFEST_NAME}"
    catalog.remove(path)
    try:
        need_unused()
    except Refused:
        catalog.write(path, manifest.content())
        raise
