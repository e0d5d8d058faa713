"""The step that runs the job: submit it or adopt an earlier one, and wait for its end."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from dataclasses import replace

from compute_to_data.errors import (
    ComputeToDataError,
    EngineError,
    EngineNotReady,
    EngineOutOfReach,
    OutOfReach,
)
from compute_to_data.job import GID, UID, Exit, Image, Job, JobState, OutputMount
from compute_to_data.model import name_of, zone_of
from compute_to_data.pipeline import watch_job
from compute_to_data.pipeline.checkpoint import Moment, ResumePoint, required
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.hooks import Program
from compute_to_data.pipeline.running import apart, command_line, job_log, layout, plan
from compute_to_data.pipeline.running.command_line import OneContainer
from compute_to_data.pipeline.vault import workspace
from compute_to_data.pipeline.watch_job import Waiting
from compute_to_data.ports.engine import RunningJob
from compute_to_data.records import secret
from compute_to_data.records.state import State
from compute_to_data.task import INPUTS

log = logging.getLogger(__name__)


def run_in_sandbox(execution: Execution) -> Waiting[None]:
    """Submit the job, or adopt the one that an interrupted attempt submitted, and wait for its end."""
    yield from _run(execution)
    execution.left_sandbox = time.monotonic()


def _run(execution: Execution) -> Waiting[None]:
    execution.program = program = _program(execution)
    containers = command_line.containers(program)
    push_removals(execution)
    if execution.resume_point.has_exited:
        execution.job = _job(execution, containers[-1])
        execution.context.engine.remove(execution.job_key)  # nothing may write while the worker reads the outputs
        execution.exit = _recorded_exit(execution)
        execution.exit_status = str(execution.exit.status)
        execution.logs = job_log.kept_logs(execution)
        return
    found = _submitted_before(execution)
    apart.resume(execution, found)
    while True:
        container = containers[len(execution.checkpoint.ended)]
        yield from _run_one(execution, container, found)
        if not apart.goes_on(execution, container, len(containers)):
            return
        found = None


def _run_one(execution: Execution, container: OneContainer, found: RunningJob | None) -> Waiting[None]:
    """Run one container, or adopt the job ``found``, and wait for its end."""
    execution.adopted = found is not None
    execution.job = job = _job(execution, container)
    if found is None:
        execution.stop_if_cancelled()
        found = _submit(execution, job)
    execution.running = found
    shown = job_log.LiveLog(execution)
    try:
        execution.exit = yield from _ended(execution, shown)
    except OutOfReach:
        raise
    except watch_job.Detached:
        if job.sandbox is not None:  # a warm sandbox ends with its worker; the task may try again
            found.remove()
            execution.journal.save(replace(execution.checkpoint, attempt=execution.checkpoint.attempt - 1))
        raise
    except ComputeToDataError:
        _collect_logs(execution)
        raise
    if execution.adopted and not execution.exit.certain:
        found.remove()
        raise EngineOutOfReach(job.key.task, "the engine lost track of its job while no worker watched it")
    execution.exit_status = str(execution.exit.status)
    found.finish_log()
    job_log.collect(execution)


def _ended(execution: Execution, shown: job_log.LiveLog) -> Waiting[Exit]:
    """Wait until the job ends by itself, or stop it when the watcher says so.

    TaskFailed for a walltime or outputs over the limit. Cancelled. Detached, while the job runs on, when the
    worker is stopping.
    """
    running, job = execution.running, execution.job
    watch = watch_job.Watch(
        execution.context.engine,
        running,
        job,
        execution.record.collection,
        execution.grace,
        cancelled_by=execution.cancelled_by,
        followed=lambda: execution.followed,
        show=shown.show,
    )
    update: watch_job.Update = running.status()
    while True:
        if isinstance(update, watch_job.MustEnd):
            running.stop(update.grace)
            raise update.why
        if update.state is JobState.PREEMPTED:
            execution.journal.save(replace(execution.checkpoint, attempt=execution.checkpoint.attempt - 1))
            raise EngineOutOfReach(job.key.task, "the engine ended its job to run another one; it begins again")
        if update.state is JobState.UNKNOWN:
            raise EngineOutOfReach(job.key.task, "the engine has no job for it")
        if watch.is_pending and update.started is not None:
            _record_start(execution, update.started)
            watch.set_running(seconds_run(execution, update.started))
        if update.state is JobState.ENDED:
            exit = update.exit or running.wait(0)
            if exit is not None:
                return exit
        update = yield watch


def _record_start(execution: Execution, started: float) -> None:
    """Record that the job runs, and since when: its walltime begins. ``started``: Unix seconds."""
    checkpoint = execution.checkpoint
    if checkpoint.began is None:
        ran = min(max(0.0, time.time() - started), time.monotonic() - execution.submitted)  # the wall clock may jump
        began = Moment(_boot(), time.monotonic() - ran)
        execution.journal.save(replace(checkpoint, began=began))
    if not checkpoint.ended and (not execution.adopted or execution.recorded is not State.RUNNING):
        unused = execution.job.image.unused if execution.task.process else ""
        facts = {"attempt": str(checkpoint.attempt), "image_unused": printable(unused), "kept": "", "not_kept": ""}
        execution.record.move_to(State.RUNNING, facts, plan.avus(execution))


def seconds_run(execution: Execution, started: float) -> float:
    """For how many seconds the job has run, by the monotonic clock; by the wall clock if the host has restarted
    since. ``started``: the start that the engine reports, in Unix seconds."""
    began = execution.checkpoint.began
    if began is not None and began.boot == _boot():
        return max(0.0, time.monotonic() - began.seconds)
    return max(0.0, time.time() - started)


def _boot() -> str:
    """The id of the host's current boot, during which all processes share ``time.monotonic``."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return "unknown"


def _collect_logs(execution: Execution) -> None:
    try:
        execution.running.finish_log()
    except EngineError as error:
        log.warning("%s: its log may lack the last bytes: %s", execution.job_key.task, error)
    job_log.collect(execution)


def _submitted_before(execution: Execution) -> RunningJob | None:
    """The job that an earlier attempt submitted, which may have ended; None when the engine holds none.

    At resume points other than STARTED there is no job, or it must not run on, or its checkpoint is lost.
    """
    if execution.resume_point is not ResumePoint.STARTED or execution.checkpoint.between:
        return None
    return execution.context.engine.find(execution.job_key)


def _job(execution: Execution, container: OneContainer) -> Job:
    context, task = execution.context, execution.task
    image = _image(execution, container.image)
    timeout = task.process.timeout_seconds if task.process else None
    contents = layout.contents(execution)
    return Job(
        key=execution.job_key,
        owner=context.catalog.user,
        scope=context.scope,
        image=image,
        command=container.command,
        limits=apart.remaining(execution, context.configuration.effective_limits(task.limits, timeout)),
        outputs=execution.outputs,
        log_file=execution.log_file,
        inputs=(*(staged.mount for staged in execution.staged), *contents),
        input_folders=layout.folders(execution.input_folders, contents),
        output_mounts=tuple(OutputMount(output.name, output.path) for output in task.outputs),
        environment=container.environment,
        working_directory=container.working_directory,
        helper=container.helper,
        sandbox=execution.sandbox,
        grace_seconds=execution.grace,
    )


def _image(execution: Execution, name: str) -> Image:
    """The image to run. For a job that runs already, the image that it runs, even if the tag has moved since."""
    if execution.adopted or execution.resume_point.has_exited:
        return Image(name, execution.checkpoint.image_digest)
    image = execution.context.engine.identify(name)
    execution.context.configuration.permit(image)
    return image


def _program(execution: Execution) -> Program:
    first = execution.staged[0].target if execution.staged else ""
    supplied = {
        "TASK_ID": execution.record.task_id,
        "INPUT_FILE_BASENAME": first[len(INPUTS) + 1 :] if first.startswith(f"{INPUTS}/") else name_of(first),
        "IRODS_UID": UID,
        "IRODS_GID": GID,
    }
    targets = tuple(staged.target for staged in execution.staged)
    return execution.role.program(execution.task, targets, supplied)


def _submit(execution: Execution, job: Job) -> RunningJob:
    record = execution.record
    secrets = secret.read(execution.context.catalog, zone_of(record.collection), execution.task.secrets)
    continues, before = bool(execution.checkpoint.ended), execution.checkpoint.attempt
    attempt = before + (not continues)
    allowed = execution.context.configuration.worker.attempts
    if attempt > allowed:
        raise EngineError(f"task {record.task_id}", f"its job was lost {allowed} times", "See the worker's log")
    if execution.resume_point is not ResumePoint.FRESH and not continues:
        execution.context.engine.remove(job.key)  # a job that never started, or one that a worker lost
        execution.context.engine.take_back(job.outputs)
        workspace.discard(job.outputs)
        job_log.discard_files(execution)
    if continues:
        layout.check(execution)
    checkpoint = replace(
        execution.checkpoint, attempt=attempt, image_digest=job.image.digest, began=None, between=False
    )
    execution.journal.save(checkpoint)
    if not continues:
        execution.context.engine.prepare(job.outputs)
        layout.make(execution)
    execution.submitted = time.monotonic()
    try:
        return execution.context.engine.submit(replace(job, secrets=secrets))  # the only place that gets the secrets
    except EngineNotReady:  # the job has not begun, and the task waits: this was no attempt
        execution.journal.save(replace(execution.checkpoint, attempt=before))
        raise


def push_removals(execution: Execution) -> None:
    """If the task fails, stop showing its log, then remove its job. Its outputs are settled last (``left_behind``)."""
    record = execution.record
    execution.undo.push(
        f"remove the job of task {record.task_id}",
        functools.partial(execution.context.engine.remove, execution.job_key),
    )
    execution.undo.push(f"stop showing the log of task {record.task_id}", functools.partial(job_log.hide, execution))


def _recorded_exit(execution: Execution) -> Exit:
    return required(execution.checkpoint.exit, "exit")
