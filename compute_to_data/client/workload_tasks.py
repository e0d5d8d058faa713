"""The tasks of a workload, as listings show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compute_to_data.configuration import Attributes
from compute_to_data.model import EntityKind, Query, name_of
from compute_to_data.records.task import timestamp

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog


@dataclass(frozen=True)
class ListedTask:
    """A task of a workload in a listing. ``name`` is by default the task's command."""

    task_id: str
    name: str
    state: str
    created: str
    collection: str


def listed(catalog: ClientCatalog, attributes: Attributes, collection: str) -> list[ListedTask]:
    """The tasks of the workload with this collection, newest first."""
    name_of_each = names(catalog, attributes.named("name"), collection)
    query = Query(EntityKind.COLLECTION, attributes.state, within=collection, newest_first=True)
    return [
        ListedTask(
            name_of(one.collection),
            name_of_each.get(one.collection, ""),
            one.value,
            timestamp(one.created),
            one.collection,
        )
        for one in catalog.query(query)
    ]


def current(newest_first: Sequence[ListedTask], *, by_file: bool) -> list[ListedTask]:
    """These tasks, oldest first. ``by_file``: they are for one file each, after which they are named; then only the
    newest one of each file."""
    oldest_first = newest_first[::-1]
    return list({task.name: task for task in oldest_first}.values()) if by_file else list(oldest_first)


def names(catalog: ClientCatalog, attribute: str, place: str) -> dict[str, str]:
    """The names of the tasks or workloads that a collection holds, by their collections."""
    return {one.collection: one.value for one in catalog.query(Query(EntityKind.COLLECTION, attribute, within=place))}
