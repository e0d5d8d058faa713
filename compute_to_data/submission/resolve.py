"""The stage of a submission that looks up in the catalog what a request only names.

It follows parsing, and comes before the site and the user's rights are asked, so that they are
asked about the whole task.
"""

from __future__ import annotations

from compute_to_data.configuration import Attributes
from compute_to_data.errors import Refused
from compute_to_data.model import name_of
from compute_to_data.ports import Catalog
from compute_to_data.records.workload import WorkloadRecord
from compute_to_data.task import Task


def resolve(catalog: Catalog, attributes: Attributes, task: Task) -> Task:
    """The task with everything looked up that its request names, in the user's own session.

    A task names a workload, or nothing that has to be looked up here. Refused, or the zone's own
    error, when something that is named is not there or is not the user's to use.
    """
    if task.workload:
        _hold_against_workload(catalog, attributes, task)
    return task


def _hold_against_workload(catalog: Catalog, attributes: Attributes, task: Task) -> None:
    """Refused unless the workload is the user's own, takes tasks, and the task is one of its kind."""
    workload = WorkloadRecord(catalog, attributes, task.workload, task.resource)
    workload.of_its_task(task, task.output_collection)
    if not workload.is_started():
        raise Refused(f"workload {name_of(task.workload)}", "was stopped", "Start another one")
