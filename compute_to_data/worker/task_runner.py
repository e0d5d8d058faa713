"""Runs one task: reads its record and its request, and lets its role do the rest."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from enum import Enum

from compute_to_data.documents import task_json
from compute_to_data.errors import Code, ComputeToDataError, EngineError, NotFound, OutOfReach, Refused
from compute_to_data.job import JobKey
from compute_to_data.model import User
from compute_to_data.pipeline import journal
from compute_to_data.pipeline.checkpoint import Ending
from compute_to_data.pipeline.execution import ServedResource, TaskContext, printable
from compute_to_data.pipeline.finish import ending_of
from compute_to_data.pipeline.interruption import CancelRequests
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.pipeline.replication.transfers import Transfers
from compute_to_data.pipeline.vault import workspace
from compute_to_data.pipeline.vault.workload_directories import WorkloadDirectories
from compute_to_data.pipeline.watch_job import Detached, Waiting, cancelled
from compute_to_data.ports.zone import Catalog
from compute_to_data.records import awaited, readable
from compute_to_data.records.state import State
from compute_to_data.records.task import CANCEL, HELD_UP, NO_REQUESTS, TaskRecord
from compute_to_data.records.waiting_bound import too_many
from compute_to_data.roles import role_named
from compute_to_data.task import REQUEST_NAME, Task
from compute_to_data.worker.presence import Presence
from compute_to_data.worker.waiting import WaitingTasks

log = logging.getLogger("compute_to_data.worker")


class Purpose(Enum):
    """What the worker wants of a task. When the task is in another state by now, nothing happens."""

    RUN = "run"
    """Run it to its end, unless it is WAITING."""
    CANCEL = "cancel"
    """End it, if it is cancelled and has not begun."""
    REFUSE = "refuse"
    """End it, if it has not begun: its owner has more waiting tasks than the site allows."""
    QUEUE = "queue"
    """If it is WAITING, queue it when all that it waits for has completed, and end it when that cannot happen."""


class Unintelligible(Exception):
    """The worker can neither run nor end a task, so it ignores the task until the worker starts again."""


class NotEnded(Exception):
    """A task was begun and could not be brought to its end: an end could not even be recorded. The cause says why."""


class TaskRunner:
    """Runs the tasks of one worker. Threads may share it."""

    def __init__(
        self,
        served: ServedResource,
        workload_directories: WorkloadDirectories,
        waiting_tasks: WaitingTasks,
        presence: Presence,
        stopping: Callable[[], bool],
    ) -> None:
        self._served = served
        self._waiting_tasks = waiting_tasks
        self._workload_directories = workload_directories
        self._stopping = stopping
        self._presence = presence
        self.in_use = InUse()
        self.cancel_requests = CancelRequests()
        self.transfers = Transfers(served.storage, self.in_use, served.journal_folder, 2 * served.capacity)

    def run(self, collection: str, purpose: Purpose) -> Waiting[Ending | None]:
        """Run, cancel or queue a task, in its owner's session. None when the task has not ended by this, or when the
        worker is stopping and has not begun the task.

        Raises Unintelligible, Detached, OutOfReach, and errors in recording the end.
        """
        if self._stopping():
            return None
        try:
            owner = self._served.storage.owner(f"{collection}/{REQUEST_NAME}")
            try:
                catalog = self._served.storage.on_behalf_of(owner)
            except NotFound:
                return self._end_without_owner(collection, owner)
            record = self._record(catalog, collection)
        except NotFound as error:
            raise Unintelligible(str(error)) from error
        try:
            state = record.state()
            if state is None or state.is_final:
                record.settle()
                return self._remove_late_requests(record) if purpose is Purpose.CANCEL else None
            record.sealed_owner()
            if purpose is not Purpose.CANCEL and (purpose is Purpose.QUEUE) != (state is State.WAITING):
                record.settle()
                return None
            if purpose is not Purpose.RUN:
                self._do_without_a_slot(purpose, record, state, owner)
                return None
            task = self._request(record)
            if state is State.QUEUED:
                self._need_engine(record)
            role = role_named(self._served.configuration, record.facts("role").get("role", task.role))
        except OutOfReach:
            raise
        except (ComputeToDataError, ValueError) as error:
            return self._end_without_role(record, self._what_ends(record, error))
        try:
            return (yield from role.run(self._context(catalog), record, task))
        except OutOfReach as error:
            self._note(record, error)
            raise
        except (Detached, GeneratorExit):
            raise
        except Exception as error:
            raise NotEnded(collection) from error

    def _do_without_a_slot(self, purpose: Purpose, record: TaskRecord, state: State, owner: User) -> None:
        """Queue a task that waits for others; or raise what ends a task that has not begun."""
        if purpose is Purpose.CANCEL:
            self._stop_if_cancelled(record, state)
        elif purpose is Purpose.QUEUE:
            self._queue_if_ready(record, self._request(record))
        elif state is State.QUEUED:
            raise too_many(owner, self._served.resource.name, self._served.configuration.worker.per_user)

    @staticmethod
    def _request(record: TaskRecord) -> Task:
        """The task as it was accepted."""
        return task_json.recorded_task(record.catalog.read(record.request_path, task_json.LARGEST), record.request_path)

    def _what_ends(self, record: TaskRecord, error: Exception) -> Exception:
        """The error that ends a task: this one, or Cancelled. OutOfReach, which it notes, when the request cannot be
        read because resources are marked down."""
        try:
            readable.need_after(record.catalog, error)
        except OutOfReach as waits:
            who = record.facts(CANCEL).get(CANCEL)
            if who:
                return cancelled(who)
            self._note(record, waits)
            raise
        return error

    @staticmethod
    def _note(record: TaskRecord, error: OutOfReach) -> None:
        """Record what a task waits for that cannot go on, for people, if the catalog answers."""
        why = printable(str(error))
        with contextlib.suppress(ComputeToDataError):
            if record.facts(HELD_UP).get(HELD_UP) != why:
                record.decide({HELD_UP: why})

    def _need_engine(self, record: TaskRecord) -> None:
        """EngineError, after which a queued task waits in the line, while no job can begin: later, it would wait in
        another state. Cancelled when its owner wants no more of it."""
        try:
            self._served.engine.need_ready()
        except EngineError:
            self._stop_if_cancelled(record, State.QUEUED)
            raise

    def _queue_if_ready(self, record: TaskRecord, task: Task) -> None:
        """Queue a waiting task, unless it must wait on. Cancelled when that would be in vain, Refused when the task
        waits for itself."""
        circle = self._waiting_tasks.circle_of(record.collection)
        if circle or record.collection in task.awaited:
            circle = circle or f"{record.task_id} waits for {record.task_id}"
            raise Refused("task", f"waits for itself, so it can never begin: {circle}", "Submit it again")
        unfinished = awaited.unfinished(record.catalog, record.attributes, task.awaited)
        if not unfinished:
            record.move_to(State.QUEUED, priority=task.priority)
        self._waiting_tasks.note(record.collection, unfinished)

    @staticmethod
    def _remove_late_requests(record: TaskRecord) -> None:
        """Remove requests that arrived after the task's end, which they do not change. Unintelligible when
        the worker cannot remove them."""
        try:
            record.decide(NO_REQUESTS)
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            raise Unintelligible(f"the worker cannot remove a request that came too late: {error}") from error

    @staticmethod
    def _stop_if_cancelled(record: TaskRecord, state: State) -> None:
        """Raise Cancelled if the task waits or is queued, and still has a request to cancel it."""
        who = record.facts(CANCEL).get(CANCEL)
        if who and state in (State.WAITING, State.QUEUED):
            raise cancelled(who)

    @staticmethod
    def _end_without_role(record: TaskRecord, error: Exception) -> Ending:
        ending = ending_of(error)
        try:
            record.move_to(ending.state, ending.facts)
        except OutOfReach:
            raise
        except ComputeToDataError as refusal:
            raise Unintelligible(f"{error} (and the worker cannot record this: {refusal})") from error
        return ending

    def _end_without_owner(self, collection: str, owner: User) -> Ending:
        """End a task whose owner's account is gone. Without it, the worker has no right to register or to undo. What is
        registered stays, for an administrator."""
        gone = Refused(f"user {owner}", "the account of the task's owner was removed", code=Code.CAT_INVALID_USER)
        return self._end_as_service(collection, ending_of(gone), {})

    def give_up(self, collection: str, error: Exception) -> Ending:
        """End a task that its owner's session cannot end, for example as the owner may no longer write in its
        collection. Errors in recording that."""
        log.warning("%s is ended with the service account's rights: %s", collection, error)
        return self._end_as_service(collection, ending_of(error), {"not_kept": "what it wrote could not be registered"})

    def _end_as_service(self, collection: str, ending: Ending, facts: Mapping[str, str]) -> Ending:
        """Record an end without the owner's session, after removing the job and, unless results in it may be
        registered, its directory."""
        key = JobKey.of(self._served.scope, collection)
        left = journal.Journal(self._served.journal_folder, key, None)
        self._served.engine.remove(key)
        if left.found is not None and left.found.exit is None:  # else results in it may be registered
            workspace.discard(workspace.private_directory(self._served.resource, collection, left.found.token))
        record = self._record(self._served.storage.catalog, collection)
        record.end_without_owner(self._served.storage, {**ending.facts, **facts})
        left.remove()
        return ending

    def _record(self, catalog: Catalog, collection: str) -> TaskRecord:
        attributes, resource = self._served.configuration.attributes, self._served.resource.name
        return TaskRecord(catalog, attributes, collection, resource, self._presence.confirm)

    def _context(self, catalog: Catalog) -> TaskContext:
        return TaskContext(
            **vars(self._served),
            catalog=catalog,
            in_use=self.in_use,
            transfers=self.transfers,
            requests=self.cancel_requests,
            workload_directories=self._workload_directories,
            stopping=self._stopping,
        )
