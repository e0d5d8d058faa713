"""A workload: what tasks have in common, as a value, and its own record in the catalog.

``<project>/workloads/w-<id>/`` holds ``workload.json``, sealed as a ``task.json`` is; its tasks are
ordinary tasks whose output collection it is. One AVU on the collection says whether it takes tasks;
its units name the compute resource.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from compute_to_data.documents import request
from compute_to_data.documents.schema import problems, read_json, summary
from compute_to_data.errors import InvalidRequest, Refused
from compute_to_data.model import Avu
from compute_to_data.records.task import TaskRecord
from compute_to_data.task import RequestedLimits, Task

WORKLOAD_NAME = "workload.json"
STATE = "workload_state"
"""The fact whose value is a :class:`WorkloadState`."""
INSTANCES = "instances"
DATASET = "dataset"
_ID = re.compile(r"w-[0-9a-f]{12}")


class WorkloadState(str, Enum):
    """Whether a workload takes tasks."""

    STARTED = "STARTED"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class Workload:
    """As its user asked for it. ``dataset`` is a collection, '' for none; ``instances`` how many of
    its tasks run at one time."""

    image: str
    instances: int
    role: str
    resource: str
    dataset: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: RequestedLimits = field(default_factory=RequestedLimits)
    name: str = ""

    def document(self) -> dict[str, Any]:
        """``workload.json``: :func:`parsed` is its inverse."""
        optional = {
            "name": self.name,
            "dataset": self.dataset,
            "environment": dict(self.environment),
            "limits": request.limits_document(self.limits),
        }
        given = {name: value for name, value in optional.items() if value}
        needed = {"image": self.image, "instances": self.instances, "role": self.role, "resource": self.resource}
        return {"version": 1, **needed, **given}

    def admit(self, task: Task) -> None:
        """Refused unless a task is what this workload's tasks are: the same image, resource and limits.

        Only its walltime is a task's own.
        """
        if task.process is None or task.process.image != self.image:
            raise Refused("/process/image", f"a task of this workload runs the image {self.image}, and nothing else")
        if task.resource != self.resource:
            raise Refused("/resource", f"a task of this workload runs on {self.resource}")
        if task.limits != self.limits:
            raise Refused("/limits", "a task of this workload has the limits of the workload")


def parsed(content: bytes, subject: str) -> Workload:
    """The workload that a ``workload.json`` holds. InvalidRequest when it is none of ours."""
    document = read_json(content, subject)
    found = problems(document, "workload")
    if found:
        raise InvalidRequest(*summary(found))
    given = {name: value for name, value in document.items() if name not in ("version", "limits")}
    return Workload(limits=request.limits(document.get("limits", {})), **given)


def is_workload_id(name: str) -> bool:
    """Whether a collection of this name can be a workload's."""
    return _ID.fullmatch(name) is not None


class WorkloadRecord(TaskRecord):
    """A workload's record, sealed, read and written as a task's is, with states of its own."""

    @property
    def request_path(self) -> str:
        """The logical path of ``workload.json``."""
        return f"{self.collection}/{WORKLOAD_NAME}"

    def workload_state(self) -> WorkloadState | None:
        """Whether it takes tasks; None when the collection bears no such state."""
        found = self.facts().get(STATE, "")
        return WorkloadState(found) if found in WorkloadState.__members__ else None

    def declare(self, state: WorkloadState, facts: Mapping[str, str] | None = None) -> None:
        """Record a state, and facts, in one atomic change."""
        self._change(facts or {}, [Avu(self.attributes.named(STATE), state.value, self.resource)])

    def read(self) -> Workload:
        """What its owner asked for. NotFound, InvalidRequest."""
        return parsed(self.catalog.read(self.request_path), self.request_path)

    def of_its_task(self, task: Task, kept_in: str) -> Workload:
        """The workload of a task whose own collection lies, or is to lie, in ``kept_in``. Refused when
        the task is not its own: another owner's, of another place or kind."""
        if kept_in != self.collection:
            raise Refused("/workload", f"a task of {self.collection} is kept there, as its output collection")
        owner = self.sealed_owner()
        if owner != self.catalog.user:
            raise Refused(self.collection, f"is a workload of {owner}, and nobody else can give it tasks")
        workload = self.read()
        workload.admit(task)
        return workload

    def is_started(self) -> bool:
        """Whether it takes tasks."""
        return self.workload_state() is WorkloadState.STARTED
