"""The step that checks how the job ended and what it wrote, and removes the job."""

from __future__ import annotations

import logging
import signal
import threading
from dataclasses import replace

from compute_to_data.errors import EngineError, OutOfReach, ReasonCode, TaskFailed
from compute_to_data.job import Exit, Job
from compute_to_data.pipeline import output_metadata, outputs
from compute_to_data.pipeline.execution import Execution, printable
from compute_to_data.pipeline.job_log import log_files
from compute_to_data.pipeline.run_job import seconds_run
from compute_to_data.records.task import State
from compute_to_data.task import RESERVED_NAMES, STDERR_NAME

log = logging.getLogger(__name__)


def check(execution: Execution) -> None:
    """Check the job's exit and its outputs, then remove the job."""
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
        log_files(execution)  # before the job is removed, which has the only other copy
        execution.journal.save(replace(execution.checkpoint, exit=exit))
        execution.record.move_to(State.STAGING_OUT, {"exit_status": str(exit.status), **execution.log_facts()})
    remove_job_meanwhile(execution)


def _check_expected(execution: Execution, targets: tuple[str, ...]) -> None:
    """Each output that the request or the role expects must be a file, or a directory that holds one."""
    present = {file.relative for file in execution.files}
    folders = {relative[: index + 1] for relative in present for index, c in enumerate(relative) if c == "/"}
    expected = (*execution.task.expected_outputs, *execution.role.expected_outputs(execution.task, targets))
    missing = [name for name in dict.fromkeys(expected) if name not in present and f"{name}/" not in folders]
    if missing:
        plural, what = ("s", "them") if len(missing) > 1 else ("", "it")
        subject = f"output{plural} {', '.join(map(repr, missing))}"
        raise TaskFailed(ReasonCode.OUTPUT_MISSING, subject, f"the task ended successfully but did not write {what}")


def _check_exit(execution: Execution, exit: Exit, job: Job) -> None:
    if exit.out_of_memory:
        raise TaskFailed(
            ReasonCode.OUT_OF_MEMORY,
            "memory",
            f"the task needed more than its {job.limits.memory_bytes} bytes, and the kernel stopped it",
            "Ask for more in limits.memory_bytes",
        )
    longest = job.limits.walltime_seconds + execution.grace + 1
    ran = min(exit.finished - exit.started, seconds_run(execution, exit.started))  # the wall clock may jump
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
    """The signal that ended a program, from a shell's exit status; '' when there was none."""
    try:
        return f" (as {signal.Signals(status - 128).name} ends a program)"
    except ValueError:
        return ""


def remove_job_meanwhile(execution: Execution) -> None:
    """Remove the job in another thread: an engine takes longer for that than registering the results takes."""
    key = execution.job_key
    problem: list[EngineError] = []

    def remove() -> None:
        try:
            execution.context.engine.remove(key)
        except EngineError as error:  # the task is fine, and the next worker removes the job
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
