"""The stage of a submission that looks up in the catalog what a request only names.

It comes after parsing, and before the checks of the site's rules and the user's rights, so that
these see the whole task.
"""

from __future__ import annotations

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Refused
from compute_to_data.model import name_of
from compute_to_data.ports import Catalog
from compute_to_data.records.workload import WorkloadRecord
from compute_to_data.task import Task


def resolve(catalog: Catalog, attributes: Attributes, task: Task) -> Task:
    """Look up, in the user's own session, what the task names; returns the complete task.

    Today only a workload needs this. Refused, or the zone's own error, when the workload does not
    exist or the user may not use it.
    """
    if task.workload:
        _check_workload(catalog, attributes, task)
    return task


def _check_workload(catalog: Catalog, attributes: Attributes, task: Task) -> None:
    """Refused unless the workload is the user's own, accepts tasks, and the task fits it."""
    workload = WorkloadRecord(catalog, attributes, task.workload, task.resource)
    workload.of_its_task(task, task.output_collection)
    if not workload.is_started():
        raise Refused(f"workload {name_of(task.workload)}", "was stopped", "Start another one")
