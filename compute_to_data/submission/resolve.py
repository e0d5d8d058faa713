"""The stage of a submission that looks up in the catalog what a request only names.

It comes after parsing, and before the checks of the site's rules and the user's rights, so that
these see the whole task.
"""

from __future__ import annotations

from dataclasses import replace

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Cancelled, Refused
from compute_to_data.model import name_of
from compute_to_data.ports import Catalog
from compute_to_data.records import awaited
from compute_to_data.records.workload import WorkloadRecord
from compute_to_data.task import Task


def resolve(catalog: Catalog, attributes: Attributes, task: Task) -> Task:
    """Look up, in the user's own session, what the task names; returns the complete task.

    Refused, or the zone's own error, when the workload or another task does not exist or the user may not use it.
    """
    if task.workload:
        _check_workload(catalog, attributes, task)
    after = dict.fromkeys(awaited.collection_of(catalog, attributes, one) for one in task.after)
    return replace(task, after=tuple(after))


def waits_for(catalog: Catalog, attributes: Attributes, task: Task) -> frozenset[str]:
    """The tasks that a new task must wait for, by their collections. Refused when one of them has failed or been
    cancelled, when it does not exist, or when the user may not read it."""
    try:
        return frozenset(awaited.unfinished(catalog, attributes, task.awaited))
    except Cancelled as error:
        raise Refused(
            "/after", error.cause.replace("it waited", "it would wait", 1), "Submit it without that task"
        ) from None


def _check_workload(catalog: Catalog, attributes: Attributes, task: Task) -> None:
    """Refused unless the workload is the user's own, accepts tasks, and the task fits it."""
    workload = WorkloadRecord(catalog, attributes, task.workload, task.resource)
    workload.of_its_task(task, task.output_collection)
    if not workload.is_started():
        raise Refused(f"workload {name_of(task.workload)}", "was stopped", "Start another one")
