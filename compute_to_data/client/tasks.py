"""Tasks as a person handles them: submit, look, wait, cancel, run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compute_to_data.client import results
from compute_to_data.client.status import TaskStatus, status_of
from compute_to_data.coordination.pauses import Pauses
from compute_to_data.documents import request, task_json
from compute_to_data.errors import (
    AccessDenied,
    NotFound,
    ReasonCode,
    Refused,
    TaskFailed,
)
from compute_to_data.model import Access, Entity, EntityKind, Query, name_of
from compute_to_data.ports import ClientCatalog
from compute_to_data.records.cancel import request_cancel
from compute_to_data.records.task import State, TaskRecord, require
from compute_to_data.submission import rerun, selection
from compute_to_data.submission import submit as submission
from compute_to_data.task import REQUEST_NAME

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.25
_CALL_AGAIN_SECONDS = 5.0
"""A worker on demand may have been killed: call it again every so often."""


class TaskHandle:
    """One task of the zone, by its collection. Everything asks the zone anew.

    >>> with c2d.connect() as session:
    ...     process = {"image": image, "exec": "sh", "argv": ["-c", "echo hello; exit 3"]}
    ...     task = session.submit({"role": "CONTAINER", "inputs": [], "process": process})
    ...     status = task.wait()
    ...     print(status.state.value, status.exit_status, status.reason_code)
    ...     print(session.task(task.id[:8]).status().reason)
    FAILED 3 nonzero_exit
    program: exited with status 3...
    """

    def __init__(self, workbench: Workbench, collection: str, catalog: ClientCatalog | None = None) -> None:
        """``catalog``: an administrator's session on behalf of the task's owner; by default the
        person's own."""
        self.workbench = workbench
        self.collection = collection
        self.catalog = catalog or workbench.catalog
        self.is_reused = False
        """Whether submitting took this earlier task instead of making one."""

    def __repr__(self) -> str:
        return f"<TaskHandle {self.collection}>"

    @property
    def id(self) -> str:
        """The task's id, which names its collection."""
        return name_of(self.collection)

    @property
    def _entity(self) -> Entity:
        return Entity(EntityKind.COLLECTION, self.collection)

    def status(self) -> TaskStatus:
        """Everything recorded, and why it waits. NotFound when the task is gone, or hidden."""
        attributes = self.workbench.attributes
        found = status_of(self.collection, self.catalog.avus(self._entity), attributes, time.time())
        if found is None:
            raise NotFound(f"task {self.id}", f"{self.collection} bears no state of a task")
        if not found.owner:
            found = replace(found, owner=str(self.catalog.stat(self.collection).owner))
        return replace(found, waiting_for=self._waiting_for(found)) if found.state is State.QUEUED else found

    @property
    def state(self) -> State:
        """How far it is."""
        attribute = self.workbench.attributes.state
        for avu in self.catalog.avus(self._entity):
            if avu.attribute == attribute and avu.value in State.__members__:
                return State(avu.value)
        raise NotFound(f"task {self.id}", f"{self.collection} bears no state of a task")

    def _waiting_for(self, status: TaskStatus) -> str:
        """Why a QUEUED task does not run yet."""
        attributes = self.workbench.attributes
        queue = self.catalog.find(Query(EntityKind.COLLECTION, attributes.state, State.QUEUED.value, status.resource))
        before = queue.index(self.collection) if self.collection in queue else 0
        many = f"{before} task{'s' * (before > 1)} before it" if before else "it is the next"
        ahead = f"{many} on {status.resource}"
        if not self.has_worker(status.resource):
            return f"{status.resource} has no live worker; {ahead}"
        return ahead

    def has_worker(self, resource: str) -> bool:
        """Whether somebody works on the resource, or can be called to."""
        try:
            return selection.has_worker(self.catalog, self.workbench.configuration, resource)
        except Refused:
            return False  # no worker says anything

    def wait(self, timeout: float | None = None, on_change: Callable[[TaskStatus], None] | None = None) -> TaskStatus:
        """Return when the task has ended, however it did. ``on_change`` is told of each new state.

        TimeoutError after ``timeout`` seconds; the task goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        seen, pauses, next_call = None, Pauses(_FIRST_PAUSE, _LONGEST_PAUSE), 0.0
        while True:
            state = self.state
            if state is not seen:
                seen = state
                pauses.restart()
                if on_change is not None:
                    status = self.status()
                    seen = state = status.state  # it may be further by now
                    on_change(status)
            if state.is_final:
                return self.status()
            if time.monotonic() >= next_call:
                self.call_worker()
                next_call = time.monotonic() + _CALL_AGAIN_SECONDS
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"task {self.id} is {state.value} after {timeout:g} s, and goes on")
            pauses.pause()

    def call_worker(self) -> None:
        """Wake the worker, or start it, where this is its own host and account; elsewhere it looks
        by itself every few seconds."""
        self.workbench.site_access.call_worker(self.catalog, self.collection)

    def cancel(self) -> None:
        """Ask for the task's end, in whatever state it is; its worker sees it within seconds.

        Refused when it has ended already; AccessDenied for anybody but its owner.
        """
        status = self.status()
        if not status.state.is_final:
            self._require_own()
        record = TaskRecord(self.catalog, self.workbench.attributes, self.collection, status.resource)
        if not request_cancel(record, status.state, self.workbench.user):
            raise NotFound(f"task {self.id}", "it was removed just now")
        self.call_worker()

    def _require_own(self) -> None:
        try:
            require(self.catalog, self.collection, Access.OWN, "to cancel it")
        except AccessDenied as error:
            remedy = "Ask its owner; an administrator can: c2d cancel --admin"
            raise AccessDenied(f"task {self.id}", error.cause, remedy, code=error.code) from None

    def request(self) -> dict[str, Any]:
        """The request that repeats the task on the very data objects it had (``submission.rerun``)."""
        return rerun.again(self.catalog, self.workbench.attributes, self.collection)

    def recorded_request(self) -> dict[str, Any]:
        """The request as it was accepted, in our own format."""
        path = f"{self.collection}/{REQUEST_NAME}"
        return request.document(task_json.recorded_task(self.catalog.read(path), path))

    def rerun(self) -> TaskHandle:
        """Submit the same again: a new task beside this one, on the data objects that this one had.
        NotFound when they are gone."""
        return submit(self.workbench, self.request())

    def results(self) -> Mapping[str, results.Result]:
        """What the task made, by name. TaskFailed when it did not succeed, Refused while it runs.

        ``task.results()["a.txt"].lines()``; a result also reads as bytes and is saved to a file.
        """
        status = self.status()
        if not status.state.is_final:
            raise Refused(f"task {self.id}", f"has not ended yet: it is {status.state.value}", "Wait for it first")
        if status.state is not State.COMPLETED:
            raise failure(status)
        return results.outputs(self.catalog, self.collection)


def failure(status: TaskStatus) -> TaskFailed:
    """The error that says how a task ended that did not complete."""
    known = {one.value: one for one in ReasonCode}
    reason = known.get(status.reason_code, ReasonCode.SYSTEM_ERROR)
    if status.state is State.CANCELLED:
        reason = ReasonCode.CANCELLED
    return TaskFailed(
        reason, f"task {status.task_id}", f"{status.state.value}: {status.reason or 'no reason recorded'}"
    )


def submit(
    workbench: Workbench,
    document: Any,
    *,
    resource: str = "",
    output_collection: str = "",
    image: str = "",
    task_id: str = "",
    reuse: bool = False,
) -> TaskHandle:
    """As :meth:`Session.submit`."""
    names_own = isinstance(document, Mapping) and ("output_collection" in document or "external" in document)
    if not names_own and not output_collection:
        output_collection = workbench.results
        workbench.catalog.create_collection(output_collection, parents=True)
    submitted = submission.submit(
        workbench.catalog,
        workbench.configuration,
        document,
        resource=resource,
        output_collection=output_collection,
        image=image,
        task_id=task_id,
        reuse_earlier=reuse,
    )
    task = TaskHandle(workbench, submitted.collection)
    task.is_reused = submitted.reused
    if not submitted.reused:
        task.call_worker()
    return task
