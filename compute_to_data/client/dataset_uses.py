"""Which tasks and workloads use a dataset, so that it is not changed or removed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Refused
from compute_to_data.inputs.readers import readers, tasks_that_read
from compute_to_data.model import Entity, EntityKind, Query, name_of
from compute_to_data.records.task import State, furthest
from compute_to_data.records.workload import DATASET, STATE, WorkloadState

if TYPE_CHECKING:
    from compute_to_data.ports import ClientCatalog

_SHOWN: Final = 5


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
    """The collections of the workloads whose dataset it is, newest first, with their states."""
    known = Query(EntityKind.COLLECTION, attributes.named(DATASET), beginning=collection, newest_first=True)
    found = [row.collection for row in catalog.query(known) if f"{row.value}/".startswith(f"{collection}/")]
    return {one: next(iter(facts(catalog, one, attributes.named(STATE))), "") for one in found}


def unfinished(
    catalog: ClientCatalog, attributes: Attributes, collection: str, used_by: Iterable[str]
) -> dict[str, str]:
    """The collections of the unfinished tasks that read a dataset, themselves or as tasks of these workloads,
    with their states."""
    tasks: dict[str, str] = {}
    for task in tasks_that_read(catalog, attributes, collection):
        state = furthest(facts(catalog, task, attributes.state))
        if state is not None and not state.is_final:
            tasks[task] = state.value
    for workload in used_by:
        for state in (one for one in State if not one.is_final):
            found = catalog.find(Query(EntityKind.COLLECTION, attributes.state, state.value, within=workload))
            tasks.update(dict.fromkeys(found, state.value))
    return tasks


def facts(catalog: ClientCatalog, collection: str, attribute: str) -> list[str]:
    """The values of one attribute on a collection."""
    return [avu.value for avu in catalog.avus(Entity(EntityKind.COLLECTION, collection), attribute)]
