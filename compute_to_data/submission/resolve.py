"""The stage of a submission that looks up in the catalog what a request only names.

It comes after parsing, and before the checks of the site's rules and the user's rights, so that
these see the whole task.
"""

from __future__ import annotations

from dataclasses import replace

from compute_to_data.configuration import Attributes
from compute_to_data.documents import request
from compute_to_data.errors import Cancelled, Refused
from compute_to_data.inputs import naming
from compute_to_data.inputs.complete import Origins, dataset_of
from compute_to_data.model import name_of, parent_of, zone_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.records import awaited
from compute_to_data.records.workload import Workload, WorkloadRecord
from compute_to_data.task import Task


def resolve(
    catalog: Catalog, attributes: Attributes, task: Task, project: str = ""
) -> tuple[Task, frozenset[str], tuple[str, ...]]:
    """Look up, in the user's own session, what the task names. Returns the complete task, the collections of the
    tasks that it must wait for, and the collections that it reads in addition to its inputs: the dataset of its
    workload. Results of tasks that have not ended are still named by the task.

    ``project``: the collection that the user works in. Refused, or the zone's own error, when a name stands
    for nothing, or when the user may not use it.
    """
    home = catalog.user.home_in(zone_of(task.output_collection))
    projects = tuple(dict.fromkeys(filter(None, (project, parent_of(task.output_collection), home))))
    named = tuple(naming.look_up(catalog, attributes, reference, projects) for reference in task.inputs)
    after = tuple(dict.fromkeys(naming.task(catalog, attributes, one.rstrip("/")) for one in task.after))
    waits = _unfinished(catalog, attributes, replace(task, inputs=named, after=after))
    inputs = tuple(one if one.logical_path in waits else naming.result(catalog, attributes, one) for one in named)
    if inputs != task.inputs:
        task = replace(task, inputs=inputs)
        request.check_inputs(task)
    task = replace(task, after=after)
    reads: tuple[str, ...] = ()
    if task.workload:
        dataset = _checked_workload(catalog, attributes, task).dataset
        reads = (dataset_of(dataset) or dataset,) if dataset else ()
    return task, waits, reads


def _unfinished(catalog: Catalog, attributes: Attributes, task: Task) -> frozenset[str]:
    """The tasks that a new task must wait for. Refused when one of them has failed or been cancelled, when it does
    not exist, or when the user may not read it."""
    try:
        return frozenset(awaited.unfinished(catalog, attributes, task.awaited))
    except Cancelled as error:
        cause = error.cause.replace("it waited", "it would wait", 1)
        raise Refused("task", cause, "Submit it without that task") from None


def _checked_workload(catalog: Catalog, attributes: Attributes, task: Task) -> Workload:
    """The task's workload. Refused unless it is the user's own, accepts tasks, the task fits it, and its dataset
    is complete."""
    record = WorkloadRecord(catalog, attributes, task.workload, task.resource)
    workload = record.of_its_task(task, task.output_collection)
    if not record.is_started():
        raise Refused(f"workload {name_of(task.workload)}", "was stopped", "Start another one")
    if workload.dataset:
        Origins(catalog, attributes).need_collection(workload.dataset)
    return workload
