"""The steps around the engine: submit the job or adopt it, wait, hold what it left to account."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import time
from dataclasses import replace

from compute_to_data.errors import (
    ComputeToDataError,
    EngineError,
    EngineOutOfReach,
    OutOfReach,
    ReasonCode,
    TaskFailed,
)
from compute_to_data.job import Exit, Image, Job, JobState, OutputMount
from compute_to_data.model import name_of, zone_of
from compute_to_data.pipeline import command_line, live_logs, output_metadata, outputs, watch_job, workspace
from compute_to_data.pipeline.checkpoint import Moment, ResumePoint, required
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.hooks import Program
from compute_to_data.pipeline.stage_out import kept_logs, log_files
from compute_to_data.pipeline.watch_job import Waiting
from compute_to_data.ports import RunningJob
from compute_to_data.records import secret
from compute_to_data.records.task import State
from compute_to_data.task import RESERVED_NAMES, STDERR_NAME

log = logging.getLogger(__name__)


def run_in_sandbox(execution: Execution) -> Waiting[None]:
    """Submit the job, or find the one an interrupted attempt submitted, and wait for its end."""
    yield from _run(execution)
    execution.left_sandbox = time.monotonic()


def _run(execution: Execution) -> Waiting[None]:
    engine = execution.context.engine
    found = _found_again(execution)
    execution.adopted = found is not None
    execution.job = job = _job(execution)
    push_removals(execution)
    if execution.resume_point.has_exited:
        engine.remove(job.key)  # nothing may write while outputs are read
        execution.exit = _recorded_exit(execution)
        execution.exit_status = str(execution.exit.status)
        execution.logs = kept_logs(execution)
        return
    if found is None:
        execution.stop_if_cancelled()
        found = _submit(execution, job)
    execution.running = found
    shown = live_logs.LiveLogs(execution)
    try:
        execution.exit = yield from _ended(execution, shown)
    except OutOfReach:
        raise
    except watch_job.Detached:
        if job.sandbox is not None:  # it ends with its worker, which is no fault of the task
            found.remove()
            execution.journal.save(replace(execution.checkpoint, attempt=execution.checkpoint.attempt - 1))
        raise
    except ComputeToDataError:
        _collect_logs(execution)
        raise
    if execution.adopted and not execution.exit.certain:
        found.remove()
        raise EngineOutOfReach(job.key.task, "the engine lost sight of its job while nobody watched")
    execution.exit_status = str(execution.exit.status)
    execution.logs = found.logs()
    shown.show_last(execution.logs)


def _ended(execution: Execution, shown: live_logs.LiveLogs) -> Waiting[Exit]:
    """Have the job watched until it ends by itself, or end it: TaskFailed for walltime or outputs over the
    limit, Cancelled likewise; Detached, with the job running on, when the worker is to stop."""
    running, job = execution.running, execution.job
    watch = watch_job.Watch(
        running,
        job,
        execution.record.collection,
        execution.grace,
        cancelled_by=execution.cancelled_by,
        followed=lambda: execution.followed,
        show=shown.show,
    )
    news: watch_job.News = running.status()
    while True:
        if isinstance(news, watch_job.MustEnd):
            running.stop(news.grace)
            raise news.why
        if news.state is JobState.UNKNOWN:
            raise EngineOutOfReach(job.key.task, "the engine holds no job for it")
        if watch.is_pending and news.started is not None:
            _record_start(execution, news.started)
            watch.runs(_ran(execution, news.started))
        if news.state is JobState.ENDED:
            exit = news.exit or running.wait(0)
            if exit is not None:
                return exit
        news = yield watch


def _record_start(execution: Execution, started: float) -> None:
    """The job runs: its walltime begins, and people learn of it. ``started``: Unix seconds."""
    checkpoint = execution.checkpoint
    if checkpoint.began is None:
        ran = min(max(0.0, time.time() - started), time.monotonic() - execution.submitted)  # the first clock may be set
        began = Moment(_boot(), time.monotonic() - ran)
        execution.journal.save(replace(checkpoint, began=began))
    if not execution.adopted or execution.recorded is not State.RUNNING:
        image = {"image": execution.job.image.name, "image_digest": execution.job.image.digest}
        execution.record.move_to(State.RUNNING, {"attempt": str(checkpoint.attempt), **image})


def _ran(execution: Execution, started: float) -> float:
    """For how many seconds the job has run, on a clock that nobody sets; by the wall's where the
    host was started anew since. ``started``: when the engine says it was."""
    began = execution.checkpoint.began
    if began is not None and began.boot == _boot():
        return max(0.0, time.monotonic() - began.seconds)
    return max(0.0, time.time() - started)


def _boot() -> str:
    """Names the host's present run, through which ``time.monotonic`` is one clock for all processes."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
    return "unknown"


def _collect_logs(execution: Execution) -> None:
    try:
        execution.logs = execution.running.logs()
    except EngineError as error:
        log.warning("%s: its logs are lost: %s", execution.job_key.task, error)


def _found_again(execution: Execution) -> RunningJob | None:
    """The job that an earlier attempt started (it may have ended since); None when the engine holds no
    job, or none that may be watched: only the engine knows, and only at STARTED is it asked. At other
    points there is no job, or it must not run on, or it belongs to a lost checkpoint."""
    if execution.resume_point is not ResumePoint.STARTED:
        return None
    return execution.context.engine.find(execution.job_key)


def _job(execution: Execution) -> Job:
    context, task = execution.context, execution.task
    execution.program = program = _program(execution)
    container = command_line.in_one_container(program)
    image = _image(execution, container.image)
    timeout = task.process.timeout_seconds if task.process else None
    return Job(
        key=execution.job_key,
        owner=context.catalog.user,
        scope=context.scope,
        image=image,
        command=container.command,
        limits=context.configuration.effective_limits(task.limits, timeout),
        outputs=execution.outputs,
        inputs=tuple(staged.mount for staged in execution.staged),
        output_mounts=tuple(OutputMount(output.name, output.path) for output in task.outputs),
        environment=container.environment,
        working_directory=container.working_directory,
        sandbox=execution.sandbox,
    )


def _image(execution: Execution, name: str) -> Image:
    """What is to run; for a job that runs already, what does, whatever its name means by now."""
    if execution.adopted or execution.resume_point.has_exited:
        return Image(name, execution.checkpoint.image_digest)
    image = execution.context.engine.identify(name)
    execution.context.configuration.permit(image)
    return image


def _program(execution: Execution) -> Program:
    first = execution.staged[0].data_object.logical_path if execution.staged else ""
    supplied = {
        "TASK_ID": execution.record.task_id,
        "INPUT_FILE_BASENAME": name_of(first),
        "IRODS_UID": str(os.getuid()),
        "IRODS_GID": str(os.getgid()),
    }
    targets = tuple(staged.target for staged in execution.staged)
    return execution.role.program(execution.task, targets, supplied)


def _submit(execution: Execution, job: Job) -> RunningJob:
    record = execution.record
    secrets = secret.read(execution.context.catalog, zone_of(record.collection), execution.task.secrets)
    attempt = execution.checkpoint.attempt + 1
    allowed = execution.context.configuration.worker.attempts
    if attempt > allowed:
        raise EngineError(f"task {record.task_id}", f"its job was lost {allowed} times", "See the worker's log")
    if execution.resume_point is not ResumePoint.FRESH:
        execution.context.engine.remove(job.key)  # made, but never started; or nobody's any more
        workspace.discard(job.outputs)
    checkpoint = replace(execution.checkpoint, attempt=attempt, image_digest=job.image.digest, began=None)
    execution.journal.save(checkpoint)
    execution.context.engine.prepare(job.outputs)
    execution.submitted = time.monotonic()
    return execution.context.engine.submit(replace(job, secrets=secrets))  # kept nowhere else


def push_removals(execution: Execution) -> None:
    """Should the task fail, what its followers read, its job and then its workspace go."""
    record = execution.record
    execution.undo.push(
        f"remove the outputs of task {record.task_id}", functools.partial(workspace.discard, execution.outputs)
    )
    execution.undo.push(
        f"remove the job of task {record.task_id}",
        functools.partial(execution.context.engine.remove, execution.job_key),
    )
    execution.undo.push(
        f"remove the live logs of task {record.task_id}", functools.partial(live_logs.remove, execution)
    )


def _recorded_exit(execution: Execution) -> Exit:
    return required(execution.checkpoint.exit, "exit")


def check(execution: Execution) -> None:
    """Hold the end and the outputs against what was asked; then the job itself may go."""
    job, exit = execution.job, execution.exit
    _check_exit(execution, exit, job)
    execution.files = outputs.inventory(
        job.outputs,
        execution.record.collection,
        size_limit=job.limits.output_bytes,
        file_limit=job.limits.output_files,
        reserved=RESERVED_NAMES,
    )
    targets = tuple(staged.target for staged in execution.staged)
    _check_expected(execution, targets)
    execution.metadata = output_metadata.read(execution, execution.role.metadata_output(execution.task, targets))
    if not execution.resume_point.has_exited:
        log_files(execution)  # on disk before the job, the only other place they are in, may go
        execution.journal.save(replace(execution.checkpoint, exit=exit))
        execution.record.move_to(State.STAGING_OUT, {"exit_status": str(exit.status)})
    remove_job_meanwhile(execution)


def _check_expected(execution: Execution, targets: tuple[str, ...]) -> None:
    """What the request and the role expect is there: as a file, or as a directory that holds one."""
    present = {file.relative for file in execution.files}
    folders = {relative[: index + 1] for relative in present for index, c in enumerate(relative) if c == "/"}
    expected = (*execution.task.expected_outputs, *execution.role.expected_outputs(execution.task, targets))
    missing = [name for name in dict.fromkeys(expected) if name not in present and f"{name}/" not in folders]
    if missing:
        plural, what = ("s", "them") if len(missing) > 1 else ("", "it")
        subject = f"output{plural} {', '.join(map(repr, missing))}"
        raise TaskFailed(ReasonCode.OUTPUT_MISSING, subject, f"the task ended well without writing {what}")


def _check_exit(execution: Execution, exit: Exit, job: Job) -> None:
    if exit.out_of_memory:
        raise TaskFailed(
            ReasonCode.OUT_OF_MEMORY,
            "memory",
            f"the task needed more than its {job.limits.memory_bytes} bytes and was ended",
            "Ask for more in limits.memory_bytes",
        )
    longest = job.limits.walltime_seconds + execution.grace + 1
    ran = min(exit.finished - exit.started, _ran(execution, exit.started))  # the first by a clock that may be set
    if execution.adopted and ran > longest:
        raise TaskFailed(  # it ended by itself, too late, while no worker watched
            ReasonCode.WALLTIME_EXCEEDED,
            "walltime",
            f"the task ran longer than its {job.limits.walltime_seconds:g} seconds",
            "Ask for more in limits.walltime_seconds",
        )
    if exit.status != 0:
        said = execution.role.explanation(exit, execution.logs)
        cause = f"exited with status {exit.status}{_signal(exit.status)}" + (f": {printable(said)}" if said else "")
        raise TaskFailed(ReasonCode.NONZERO_EXIT, "program", cause, f"{STDERR_NAME} holds what it wrote")


def _signal(status: int) -> str:
    """What a shell's status says of the signal that ended a program."""
    try:
        return f" (as {signal.Signals(status - 128).name} ends a program)"
    except ValueError:
        return ""


def remove_job_meanwhile(execution: Execution) -> None:
    """Removing a job takes an engine longer than registering: let both go on at once."""
    key = execution.job_key
    problem: list[EngineError] = []

    def remove() -> None:
        try:
            execution.context.engine.remove(key)
        except EngineError as error:  # swept by the next worker; the task itself is fine
            problem.append(error)

    thread = threading.Thread(target=remove, name=f"remove-{key}")
    thread.start()

    def joined() -> None:
        thread.join()
        for error in problem:
            if isinstance(error, OutOfReach):
                raise error
            log.warning("%s: its job is still in the engine: %s", key.task, error)

    execution.after_sandbox = joined
