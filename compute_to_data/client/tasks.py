"""Tasks as a person uses them: submit, look, wait, cancel, run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compute_to_data.client import acceptance, browsing, removing, results
from compute_to_data.client.given import need_seconds, text_of
from compute_to_data.client.kinds import Kind, Named
from compute_to_data.client.task_status import queue
from compute_to_data.client.task_status.hold_ups import HoldUps
from compute_to_data.client.task_status.status import TaskStatus, recorded, status_of
from compute_to_data.client.task_status.waiting_reasons import waiting_for
from compute_to_data.coordination.pauses import WaitingPauses
from compute_to_data.documents import request, task_json
from compute_to_data.errors import (
    AccessDenied,
    NotFound,
    ReasonCode,
    Refused,
    TaskFailed,
)
from compute_to_data.model import Access, Entity, EntityKind, name_of
from compute_to_data.ports.zone import ClientCatalog
from compute_to_data.records import archive
from compute_to_data.records.access import require
from compute_to_data.records.cancel import request_cancel
from compute_to_data.records.state import State
from compute_to_data.records.task import ARCHIVED, TaskRecord
from compute_to_data.submission import rerun
from compute_to_data.submission import submit as submission
from compute_to_data.task import REQUEST_NAME

if TYPE_CHECKING:
    from compute_to_data.client import fetching
    from compute_to_data.client.task_logs.task_logs import TaskLogs
    from compute_to_data.client.workbench import Workbench

_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0
_CALL_AGAIN_SECONDS = 5.0
"""How often to call a worker on demand again, because it may have been killed."""


class TaskHandle:
    """One task of the zone, by its collection. Every method and property asks the zone again.

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
        """``catalog``: an administrator's session on behalf of the task's owner. The default is the
        person's own session."""
        self.workbench = workbench
        self.collection = collection
        self.catalog = catalog or workbench.catalog
        self.is_reused = False
        """Whether ``submit`` returned this earlier task instead of making a new one."""

    def __repr__(self) -> str:
        return f"<TaskHandle {self.collection}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskHandle) and other.collection == self.collection

    def __hash__(self) -> int:
        return hash(self.collection)

    @property
    def id(self) -> str:
        """The task's id, which names its collection."""
        return name_of(self.collection)

    @property
    def _entity(self) -> Entity:
        return Entity(EntityKind.COLLECTION, self.collection)

    def status(self, *, reasons: bool = True) -> TaskStatus:
        """Everything recorded about the task, and why it waits or does not go on. NotFound when it does not exist or
        the person may not read it. Without ``reasons``, not why it waits, which takes several questions."""
        attributes = self.workbench.attributes
        record = TaskRecord(self.catalog, attributes, self.collection, "")
        avus = archive.in_place_of(record, recorded(self.catalog, self.collection, attributes))
        found = status_of(self.collection, avus, attributes, time.time())
        if found is None:
            raise self._no_task()
        if not found.owner:
            found = replace(found, owner=str(self.catalog.stat(self.collection).owner))
        if found.state.is_final or not reasons:
            return found
        return replace(found, waiting_for=waiting_for(self.workbench, self.catalog, found))

    @property
    def state(self) -> State:
        """The task's state."""
        attributes = self.workbench.attributes
        for attribute in (attributes.state, attributes.named(ARCHIVED)):
            for avu in self.catalog.avus(self._entity, attribute):
                if avu.value in State.__members__:
                    return State(avu.value)
        raise self._no_task()

    def _no_task(self) -> NotFound:
        return NotFound(f"task {self.id}", f"{self.collection} has no task's state", "List your tasks: c2d list")

    def has_worker(self, resource: str) -> bool:
        """Whether a worker runs for the resource, or can be started on demand."""
        return queue.has_worker(self.workbench, resource)

    def wait(
        self,
        timeout: float | None = None,
        on_change: Callable[[TaskStatus], None] | None = None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> TaskStatus:
        """Return when the task has ended, in any final state. ``on_change`` receives each new status,
        ``on_note`` why no task begins on the resource, when it can run none.

        TimeoutError after ``timeout`` seconds; the task continues.
        """
        need_seconds(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        seen, pauses, next_call = None, WaitingPauses(_FIRST_PAUSE, _LONGEST_PAUSE), 0.0
        hold_ups, resource = HoldUps(self.workbench), self.status(reasons=False).resource
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
                if why := hold_ups.news(resource):
                    on_note(why)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"task {self.id} is {state.value} after {timeout:g} s, and continues")
            pauses.pause(None if deadline is None else deadline - time.monotonic())

    def call_worker(self) -> None:
        """Wake or start the task's worker, when this is its host and account. Otherwise do nothing:
        a worker looks at its queue every few seconds."""
        self.workbench.site_access.call_worker(self.catalog, self.collection)

    def cancel(self) -> None:
        """Ask the worker to end the task, in any state. The worker sees it within seconds.

        Refused when the task has already ended; AccessDenied when the person does not own it.
        """
        status = self.status()
        if not status.state.is_final:
            self._require_own()
        record = TaskRecord(self.catalog, self.workbench.attributes, self.collection, status.resource)
        if not request_cancel(record, status.state, self.workbench.user):
            raise NotFound(f"task {self.id}", "was removed in the meantime")
        self.call_worker()

    def _require_own(self) -> None:
        try:
            require(self.catalog, self.collection, Access.OWN, "to cancel it")
        except AccessDenied as error:
            remedy = "Ask its owner to cancel it, or an administrator: c2d cancel --admin"
            raise AccessDenied(f"task {self.id}", error.cause, remedy, code=error.code) from None

    def request(self, *, changed_inputs: bool = False) -> dict[str, Any]:
        """The request that repeats the task on the same data objects (see ``submission.rerun``)."""
        return rerun.again(self.catalog, self.workbench.attributes, self.collection, changed_inputs=changed_inputs)

    def recorded_request(self) -> dict[str, Any]:
        """The request as it was accepted, in our own format."""
        path = f"{self.collection}/{REQUEST_NAME}"
        return request.document(task_json.recorded_task(self.catalog.read(path, task_json.LARGEST), path))

    def rerun(self, *, changed_inputs: bool = False) -> TaskHandle:
        """Submit the same again: a new task beside this one, on the same data objects. NotFound when
        they no longer exist. Refused when they have changed, unless ``changed_inputs``: the new task then
        reads them as they are now."""
        return submit(self.workbench, self.request(changed_inputs=changed_inputs))

    def results(self) -> Mapping[str, results.Result]:
        """The task's outputs by name, for example ``task.results()["a.txt"].lines()``.

        TaskFailed when the task did not complete, Refused while it has not ended.
        """
        status = self.status()
        if not status.state.is_final:
            raise Refused(f"task {self.id}", f"has not ended yet: it is {status.state.value}", "Wait until it ends")
        if status.state is not State.COMPLETED:
            raise failure(status)
        return results.outputs(self.catalog, self.collection)

    def files(self, path: str = "", *, recursive: bool = False) -> list[browsing.Member]:
        """The files and folders in the task's collection, or in one of its folders, with their sizes.

        >>> process = {"image": image, "exec": "sh", "argv": ["-c", "mkdir /outputs/d; echo hi > /outputs/d/a"]}
        >>> with c2d.connect() as session:
        ...     task = session.submit({"role": "CONTAINER", "inputs": [], "process": process})
        ...     _ = task.wait()
        ...     print([(one.name, one.size) for one in task.files("d")])
        ...     print(task.fetch("d", folder).fetched)
        ...     print(task.remove().files > 0)
        [('d/a', 3)]
        ('d/a',)
        True
        """
        return browsing.members(self.catalog, self.collection, text_of(path, "path"), recursive=recursive)

    def fetch(self, *words: str, directory: str = "", force: bool = False) -> fetching.Fetched:
        """Fetch everything into the folder ``<directory>/<task id>``; or only the files, folders and patterns
        that ``words`` name, into ``directory`` itself. The last word may be the folder instead, when it
        names nothing in the task. See :func:`fetching.fetch` for the errors."""
        from compute_to_data.client import fetching

        given = [text_of(word, "what to fetch") for word in words]
        folder = text_of(directory or "", "directory")
        return fetching.fetch_words(self.catalog, self.collection, given, directory=folder, force=force)

    def remove(self) -> removing.Removal:
        """Remove the task with its results, logs and record; returns what was removed. Refused while it has
        not ended, or while another unfinished task depends on it."""
        run = removing.Removing(self.workbench)
        planned = run.plan(Named(Kind.TASK, self.id, self.collection))
        run.remove(planned)
        return planned

    def logs(self) -> TaskLogs:
        """What the program wrote, as bytes: ``task.logs().stdout``. Of a running task, what there is so far.

        >>> process = {"image": image, "exec": "sh", "argv": ["-c", "echo hello; echo oh >&2"]}
        >>> with c2d.connect() as session:
        ...     task = session.submit({"role": "CONTAINER", "inputs": [], "process": process})
        ...     _ = task.wait()
        ...     print(task.logs().stdout, task.logs().stderr)
        b'hello\\n' b'oh\\n'
        """
        from compute_to_data import client

        logs: TaskLogs = client.logs.read(self)  # loaded now, because following a log needs more than most tasks do
        return logs


def failure(status: TaskStatus) -> TaskFailed:
    """The error for a task that ended without completing."""
    known = {one.value: one for one in ReasonCode}
    reason = known.get(status.reason_code, ReasonCode.SYSTEM_ERROR)
    if status.state is State.CANCELLED:
        reason = ReasonCode.CANCELLED
    return TaskFailed(
        reason,
        f"task {status.task_id}",
        f"{status.state.value}: {status.reason or 'no reason recorded'}",
        f"What it left: c2d fetch {status.task_id}" if "kept" in status.other else "",
    )


def submit(workbench: Workbench, document: Any, **options: Any) -> TaskHandle:
    """Submit a task. For ``options`` see :meth:`Session.submit`."""
    return _submitted(workbench, acceptance.accepted(workbench, document, **options))


def submit_all(
    workbench: Workbench, documents: Sequence[tuple[str, Callable[[], Any]]], **options: Any
) -> Iterator[TaskHandle]:
    """Submit several tasks, and yield each once it is submitted. ``documents``: the name of each request's file, and
    a function that reads it.

    Checks all requests first: when one is refused, nothing is submitted, and the error names each file that is
    wrong. For ``options`` see :meth:`Session.submit`.
    """
    for accepted in acceptance.all_accepted(workbench, documents, **options):
        yield _submitted(workbench, accepted)


def _submitted(workbench: Workbench, accepted: submission.Accepted) -> TaskHandle:
    submitted = accepted.reused or submission.record(workbench.catalog, workbench.configuration, accepted)
    task = TaskHandle(workbench, submitted.collection)
    task.is_reused = submitted.reused
    if not submitted.reused:
        task.call_worker()
    return task
