"""A workload: what its tasks have in common, as a value, and its own record in the catalog.

``<project>/workloads/w-<id>/`` holds ``workload.json``, sealed like a ``task.json``. This collection
is the output collection of the workload's tasks, which are ordinary tasks. One AVU on the collection
says whether the workload accepts tasks; its units name the compute resource.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from compute_to_data.documents import request
from compute_to_data.documents.json_text import MAXIMUM_BYTES
from compute_to_data.documents.schema import problems, read_json, summary
from compute_to_data.errors import InvalidRequest, Refused
from compute_to_data.model import Avu
from compute_to_data.records.task import TaskRecord
from compute_to_data.task import RequestedLimits, Task

WORKLOAD_NAME = "workload.json"
LARGEST = MAXIMUM_BYTES
"""The most bytes that a ``workload.json`` has."""
STATE = "workload_state"
"""The fact whose value is a :class:`WorkloadState`."""
CONTINUED_AT = "continued_at"
"""The fact that says when the workload was continued last. Tasks that begin later get the dataset anew."""
INSTANCES = "instances"
DATASET = "dataset"
MOST_INSTANCES = 1024
_ID = re.compile(r"w-[0-9a-f]{12}")


class WorkloadState(str, Enum):
    """Whether a workload accepts tasks."""

    STARTED = "STARTED"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class Workload:
    """A workload as its user requested it. ``dataset``: a collection, or '' for none. ``instances``: how
    many of its tasks may run at the same time. ``each``: a pattern, if the workload has a task for each file of the
    dataset that matches it; the tasks have the files' names."""

    image: str
    instances: int
    role: str
    resource: str
    dataset: str = ""
    each: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: RequestedLimits = field(default_factory=RequestedLimits)
    name: str = ""

    def document(self) -> dict[str, Any]:
        """The content of ``workload.json``; the inverse of :func:`parsed`."""
        optional = {
            "name": self.name,
            "dataset": self.dataset,
            "each": self.each,
            "environment": dict(self.environment),
            "limits": request.limits_document(self.limits),
        }
        given = {name: value for name, value in optional.items() if value}
        needed = {"image": self.image, "instances": self.instances, "role": self.role, "resource": self.resource}
        return {"version": 1, **needed, **given}

    def admit(self, task: Task) -> None:
        """Refused unless a task has this workload's image, resource and limits.

        Only the task's walltime may differ.
        """
        if task.process is None or task.process.image != self.image:
            raise Refused("/process/image", f"all tasks of this workload must run the image {self.image}")
        if task.resource != self.resource:
            raise Refused("/resource", f"all tasks of this workload must run on {self.resource}")
        if task.limits != self.limits:
            raise Refused("/limits", "all tasks of this workload must have the workload's limits")


def parsed(content: bytes, subject: str) -> Workload:
    """The workload in a ``workload.json``. InvalidRequest when the content is not valid."""
    document = read_json(content, subject)
    found = problems(document, "workload")
    if found:
        raise InvalidRequest(*summary(found))
    given = {name: value for name, value in document.items() if name not in ("version", "limits")}
    return Workload(limits=request.limits(document.get("limits", {})), **given)


def new_workload_id() -> str:
    """A new id for a workload."""
    return f"w-{secrets.token_hex(6)}"


def is_workload_id(name: str) -> bool:
    """Whether ``name`` has the form of a workload's id."""
    return _ID.fullmatch(name) is not None


def instances_of(avus: Iterable[Avu]) -> int:
    """How many of a workload's tasks may run at the same time, from the AVUs of its :data:`INSTANCES`."""
    value = next((avu.value for avu in avus), "")
    return max(1, int(value)) if value.isdecimal() else 1


class WorkloadRecord(TaskRecord):
    """A workload's record. It works like a task's, but has its own states."""

    @property
    def request_path(self) -> str:
        """The logical path of ``workload.json``."""
        return f"{self.collection}/{WORKLOAD_NAME}"

    def workload_state(self) -> WorkloadState | None:
        """The recorded state; None when the collection has none."""
        found = self.facts(STATE).get(STATE, "")
        return WorkloadState(found) if found in WorkloadState.__members__ else None

    def declare(self, state: WorkloadState, facts: Mapping[str, str] | None = None) -> None:
        """Record a state, and facts, in one atomic change."""
        self._change(facts or {}, [Avu(self.attributes.named(STATE), state.value, self.resource)])

    def read(self) -> Workload:
        """The workload that the owner requested. NotFound, InvalidRequest."""
        return parsed(self.catalog.read(self.request_path, LARGEST), self.request_path)

    def of_its_task(self, task: Task, kept_in: str) -> Workload:
        """The workload of a task whose output collection is ``kept_in``.

        Refused when the task has another output collection, another owner, or does not fit the
        workload (:meth:`Workload.admit`).
        """
        if kept_in != self.collection:
            raise Refused("/workload", f"a task of this workload must have the output collection {self.collection}")
        owner = self.sealed_owner()
        if owner != self.catalog.user:
            raise Refused(self.collection, f"is a workload of {owner}, and only {owner} can add tasks to it")
        workload = self.read()
        workload.admit(task)
        return workload

    def is_started(self) -> bool:
        """Whether the workload accepts tasks."""
        return self.workload_state() is WorkloadState.STARTED

    def started_since(self) -> str | None:
        """When a workload that accepts tasks was continued last, '' if it never was; None when it accepts none."""
        found = self.facts(STATE, CONTINUED_AT)
        return found.get(CONTINUED_AT, "") if found.get(STATE) == WorkloadState.STARTED.value else None
