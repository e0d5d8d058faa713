"""Which tasks and workloads use a dataset, so that it is not changed or removed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Refused
from compute_to_data.inputs.readers import readers, tasks_that_read
from compute_to_data.model import Entity, EntityKind, Query, name_of
from compute_to_data.records.state import State, furthest
from compute_to_data.records.workload import DATASET, STATE, WorkloadState

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog

_SHOWN: Final = 5
MOST: Final = 200
"""How many workloads, and how many tasks, are described as users of a dataset. Anybody can say that they use one."""


def need_unused(catalog: ClientCatalog, attributes: Attributes, collection: str, remedy: str) -> None:
    """Refused while a task that has not ended, or a workload that accepts tasks, uses the dataset in a
    collection. The error names them."""
    found = readers(catalog, attributes, collection)
    if not found:
        return
    shown = [f"{one} ({state})" for one, state in _states(catalog, attributes, found.tasks[:_SHOWN]).items()]
    shown += [f"{one} ({WorkloadState.STARTED.value})" for one in found.workloads[: _SHOWN - len(shown)]]
    more = " and others" if len(found.tasks) + len(found.workloads) > len(shown) else ""
    raise Refused(f"dataset {name_of(collection)}", f"is in use by {', '.join(shown)}{more}", remedy)


def _states(catalog: ClientCatalog, attributes: Attributes, tasks: Iterable[str]) -> dict[str, str]:
    states = {one: furthest(facts(catalog, one, attributes.state)) for one in tasks}
    return {one: state.value if state else "" for one, state in states.items()}


def workloads(catalog: ClientCatalog, attributes: Attributes, collection: str) -> dict[str, str]:
    """The collections of the workloads whose dataset it is, newest first, with their states; one more than
    :data:`MOST` where there are more."""
    known = Query(EntityKind.COLLECTION, attributes.named(DATASET), newest_first=True, limit=MOST + 1)
    queries = replace(known, value=collection), replace(known, beginning=f"{collection}/")
    rows = sorted((row for query in queries for row in catalog.query(query)), key=lambda row: -row.created)
    found = list(dict.fromkeys(row.collection for row in rows))[: MOST + 1]
    return {one: next(iter(facts(catalog, one, attributes.named(STATE))), "") for one in found}


def unfinished(
    catalog: ClientCatalog, attributes: Attributes, collection: str, used_by: Iterable[str]
) -> dict[str, str]:
    """The collections of the unfinished tasks that read a dataset, themselves or as tasks of these workloads,
    with their states; more than :data:`MOST` where there are more."""
    tasks: dict[str, str] = {}
    for task in tasks_that_read(catalog, attributes, collection, MOST + 1):
        state = furthest(facts(catalog, task, attributes.state))
        if state is not None and not state.is_final:
            tasks[task] = state.value
    of_workload = Query(EntityKind.COLLECTION, attributes.state, limit=MOST + 1)
    for workload in used_by:
        for state in (one for one in State if not one.is_final and len(tasks) <= MOST):
            found = catalog.find(replace(of_workload, value=state.value, within=workload))
            tasks.update(dict.fromkeys(found, state.value))
    return tasks


def facts(catalog: ClientCatalog, collection: str, attribute: str) -> list[str]:
    """The values of one attribute on a collection."""
    return [avu.value for avu in catalog.avus(Entity(EntityKind.COLLECTION, collection), attribute)]
