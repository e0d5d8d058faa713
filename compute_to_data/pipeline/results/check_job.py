"""The step that checks how the job ended and what it wrote, and removes the job."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace

from compute_to_data.errors import EngineError, OutOfReach
from compute_to_data.job import Job
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.results import expected, output_avus, output_metadata, placing
from compute_to_data.pipeline.running import exit_reason, layout
from compute_to_data.pipeline.running.job_log import log_files
from compute_to_data.pipeline.staging import changed_inputs
from compute_to_data.pipeline.vault import outputs
from compute_to_data.records.state import State
from compute_to_data.task import RESERVED_NAMES

log = logging.getLogger(__name__)


def check(execution: Execution) -> None:
    """Check the job's exit and its outputs, then remove the job."""
    job, exit = execution.job, execution.exit
    execution.context.engine.take_back(job.outputs)
    changed_inputs.look(execution)
    exit_reason.check(execution)
    layout.clear(execution)
    found = _inventory(execution, job)
    execution.files, execution.folders = found.files, _results(execution, found.folders)
    execution.places = placing.places(execution)
    targets = tuple(staged.target for staged in execution.staged)
    if not execution.resume_point.has_exited:  # afterwards, empty directories may be gone
        expected.check(execution, targets)
    execution.metadata = output_metadata.read(execution, execution.role.metadata_output(execution.task, targets))
    output_avus.check(execution)
    if not execution.resume_point.has_exited:
        log_files(execution)  # before the job is removed, which has the only other copy
        execution.journal.save(replace(execution.checkpoint, exit=exit))
        facts = {
            "exit_status": str(exit.status),
            **_left(found),
            **execution.log_facts(),
            **changed_inputs.facts(execution),
        }
        execution.record.move_to(State.STAGING_OUT, facts)
    remove_job_meanwhile(execution)


def _results(execution: Execution, folders: tuple[str, ...]) -> tuple[str, ...]:
    """The empty directories that the program made."""
    made = execution.task.tes.folders if execution.task.tes else ()
    return tuple(one for one in folders if one not in made)


def _inventory(execution: Execution, job: Job) -> outputs.Inventory:
    """The outputs, as they are or as an earlier attempt left them."""
    if execution.resume_point.has_exited and not os.path.isdir(job.outputs):
        return outputs.Inventory(())  # it held nothing, and that attempt removed it already
    return outputs.inventory(
        job.outputs,
        execution.record.collection,
        size_limit=job.limits.output_bytes,
        file_limit=job.limits.output_files,
        reserved=RESERVED_NAMES,
        between=execution.interruption.check,
    )


def _left(found: outputs.Inventory) -> dict[str, str]:
    """How much the program left, as facts: 0 for a program that wrote nothing to its outputs."""
    size = sum(file.size for file in found.files)
    return {"outputs": str(len(found.files) + len(found.folders)), "output_bytes": str(size)}


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
