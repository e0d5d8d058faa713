"""The state that the steps of the template share while one task runs."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compute_to_data.bounds import MOST_MEMBERS
from compute_to_data.configuration import Configuration
from compute_to_data.errors import NotFound, ZoneError
from compute_to_data.inputs.references import Staged
from compute_to_data.irods_names import shortened
from compute_to_data.job import Exit, Job, JobKey, Logs, OutputFile, Sandbox
from compute_to_data.model import Avu, Registration, Resource
from compute_to_data.pipeline import journal
from compute_to_data.pipeline.checkpoint import Checkpoint, resume_point
from compute_to_data.pipeline.hooks import Hooks, Program
from compute_to_data.pipeline.interruption import CancelRequests, Interruption
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.pipeline.replication.transfers import Transfers
from compute_to_data.pipeline.vault import workspace
from compute_to_data.pipeline.vault.workload_directories import WorkloadDirectories
from compute_to_data.pipeline.watch_job import cancelled
from compute_to_data.plain_text import spaced
from compute_to_data.ports.engine import Engine, RunningJob
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.records.task import CANCEL, FOLLOW, TaskRecord
from compute_to_data.records.undo import Undo
from compute_to_data.task import Task

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SharedDataset:
    """The dataset that a workload's task reads. ``directory``: its physical path on the compute resource. ``since``:
    when the task got it, in nanoseconds of its file system's clock."""

    collection: str
    directory: str
    since: int


@dataclass(frozen=True)
class ServedResource:
    """The compute resource that a worker serves, and what the worker serves it with.

    ``storage`` is the service account's session. ``scope`` identifies this worker's jobs in an engine that
    several zones share.
    """

    configuration: Configuration
    storage: Storage
    engine: Engine
    resource: Resource
    scope: str

    @property
    def capacity(self) -> int:
        """How many tasks can have begun and not ended at the same time."""
        return self.engine.capacity or self.configuration.worker.slots

    @property
    def journal_folder(self) -> str:
        """The folder with the journals of the worker's tasks."""
        return journal.folder_of(self.configuration.worker.state_directory, self.scope)


@dataclass(frozen=True)
class TaskContext(ServedResource):
    """What a task needs from its worker. ``catalog`` is the task owner's session; ``stopping`` says whether the
    worker is stopping."""

    catalog: Catalog
    in_use: InUse
    transfers: Transfers
    requests: CancelRequests
    workload_directories: WorkloadDirectories
    stopping: Callable[[], bool]


class Execution:
    """One attempt to run a task through the template: its input, and what its steps found out.

    ``recorded`` is the state that the task's record had when the attempt began. ``resume_point`` is where the attempt
    resumes the task; it does not change during the attempt. ``adopted``: whether the engine still holds the job that
    an earlier attempt submitted, which only the engine knows. ``submitted_at``: when the task was submitted, in Unix
    seconds of the catalog's clock. ``submitted``: when this attempt submitted the job, on the monotonic clock. Only
    ``run_job`` and ``check_job`` use these two.
    ``changed_inputs``: see ``changed_inputs.look``; None before. ``fetched_bytes``: of the inputs that this attempt
    fetched from URLs. ``folders``: the directories of the outputs that hold nothing. ``places``: the logical paths of
    outputs that are not registered in the task's collection, by their names. ``interruption``: how a step that takes
    long learns that a user cancels the task.
    """

    program: Program
    job: Job
    running: RunningJob
    exit: Exit

    def __init__(self, role: Hooks, context: TaskContext, record: TaskRecord, task: Task) -> None:
        self.role = role
        self.context = context
        self.record = record
        self.task = task
        self.undo = Undo()
        self.interruption = Interruption(context.requests, record.collection, self.stop_if_cancelled)
        self.recorded = record.state()
        self.job_key = JobKey.of(context.scope, record.collection)
        self.submitted_at = context.catalog.stat(record.collection).created
        self.journal = journal.Journal(context.journal_folder, self.job_key, self.submitted_at)
        self.private = workspace.private_directory(context.resource, record.collection, self.checkpoint.token)
        self.resume_point = resume_point(self.journal.found, self.recorded)
        self.staged: tuple[Staged, ...] = ()
        self.changed_inputs: tuple[str, ...] | None = None
        self.fetched_bytes = 0
        self.input_folders: tuple[str, ...] = ()
        self.sandbox: Sandbox | None = None
        self.dataset: SharedDataset | None = None
        self.stage_in_seconds = 0.0
        self.left_sandbox: float | None = None
        self.exit_status = ""
        self.adopted = False
        self.submitted = -math.inf
        self.logs = Logs(b"", b"")
        self.files: tuple[OutputFile, ...] = ()
        self.folders: tuple[str, ...] = ()
        self.places: Mapping[str, str] = {}
        self.metadata: tuple[Avu, ...] = ()
        self.after_sandbox: Callable[[], None] = lambda: None
        self.followed = False
        self.log_files: list[Registration] | None = None
        self.missing_log_bytes: dict[str, int] = {}

    @property
    def checkpoint(self) -> Checkpoint:
        """The current checkpoint in the journal."""
        return self.journal.checkpoint

    @property
    def outputs(self) -> str:
        """The physical path of the directory that the job sees as ``/outputs``. The logs and the crate are
        beside it, where no job can write."""
        return os.path.join(self.private, "outputs")

    @property
    def log_file(self) -> str:
        """The physical path of the job's log, also beside it."""
        return workspace.log_file(self.private)

    def logical_path(self, relative: str) -> str:
        """The logical path of an output, by its name."""
        return self.places.get(relative) or f"{self.record.collection}/{relative}"

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL when the worker stops the job."""
        return self.context.configuration.worker.stop_grace_seconds

    @property
    def most_members(self) -> int:
        """How many members of a collection of the task, with their replicas, the worker reads: what its outputs can
        need. The owner may have put other data objects there."""
        return MOST_MEMBERS + 2 * self.context.configuration.maximum_limits.output_files

    def durations(self) -> dict[str, str]:
        """How many seconds each part took, as facts, for the parts that this attempt did."""
        exit: Exit | None = getattr(self, "exit", None)
        took = {
            "stage_in_seconds": self.stage_in_seconds or None,
            "processing_seconds": exit.finished - exit.started if exit else None,
            "stage_out_seconds": time.monotonic() - self.left_sandbox if self.left_sandbox else None,
        }
        return {name: f"{seconds:.3f}" for name, seconds in took.items() if seconds is not None}

    def log_facts(self) -> dict[str, str]:
        """How many bytes of each stream are not kept, as facts, as far as this attempt knows."""
        return {f"{stream}_bytes_missing": str(count) for stream, count in self.missing_log_bytes.items()}

    def stop_if_cancelled(self) -> None:
        """Raise Cancelled when a user has cancelled the task, according to its record. For use between two steps."""
        who = self.cancelled_by()
        if who:
            raise cancelled(who)

    def cancelled_by(self) -> str:
        """Who cancelled the task, or ''. Also sets ``followed``.

        '' when the zone does not answer at the moment: that must not end a task. NotFound when the
        task's record is gone.
        """
        try:
            facts = self.record.facts(CANCEL, FOLLOW)
        except NotFound:
            raise
        except ZoneError as error:
            log.warning("task %s: the worker cannot read whether it is cancelled: %s", self.record.task_id, error)
            return ""
        self.followed = FOLLOW in facts
        return facts.get(CANCEL, "")


def printable(text: str) -> str:
    """``text`` as one line without control characters, short enough for an AVU."""
    return shortened(spaced(text))
