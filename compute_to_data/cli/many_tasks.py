"""Waiting for many tasks: their progress in one line, and at the end what failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compute_to_data.cli.exits import of_reason
from compute_to_data.client.task_status import endings

if TYPE_CHECKING:
    from compute_to_data.cli.command import Call
    from compute_to_data.client.task_status.status import TaskStatus
    from compute_to_data.client.workloads import WorkloadHandle

_SHOWN = 10


def wait_for(call: Call, tasks: Sequence[str], name: str = "") -> list[TaskStatus]:
    """Wait until tasks, given by their collections, have ended; shows how many have. Returns the statuses of those
    that did not complete. ``name`` begins the line."""
    from compute_to_data.client import several
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.errors import NotFound
    from compute_to_data.model import name_of
    from compute_to_data.records.state import State

    start = f"{name}: " if name else ""
    try:
        ends = several.wait(call.session, tasks, lambda counts: call.out.progress(f"{start}{counts}"), call.out.note)
    finally:
        call.out.progress("")
    gone = [one for one, state in ends.items() if state is None]
    if gone:
        raise NotFound(f"task {name_of(gone[0])}", "was removed while this command waited for it")
    return [TaskHandle(call.session, one).status() for one, state in ends.items() if state is not State.COMPLETED]


def note_failures(call: Call, failed: Sequence[TaskStatus], more: str = "c2d list --state FAILED") -> None:
    """Print which tasks failed, and why. ``more``: the command that lists them all."""
    for status in failed[:_SHOWN]:
        named = f"{status.name} (task {status.task_id})" if status.name else f"task {status.task_id}"
        call.out.note(f"{named} {status.state.value}: {status.reason}")
        for words in endings.left(status):
            call.out.note(words)
    if failed:
        others = f" {len(failed) - _SHOWN} more failed. List them: {more}" if len(failed) > _SHOWN else ""
        call.out.note(f"Read what one wrote: c2d logs {failed[0].task_id}.{others}")


def exit_code(failed: Sequence[TaskStatus]) -> int:
    """The exit code of a command that waited for tasks: that of the first failure."""
    return next((code for code in (of_reason(status.reason_code) for status in failed) if code), 0)


def finish(call: Call, workload: WorkloadHandle) -> int:
    """Wait until all tasks of a workload have ended; print how many failed and why, and how to fetch the results.
    Of several tasks for one file, only the newest counts. Returns the exit code."""
    tasks = [task.collection for task in workload.current_tasks()]
    failed = wait_for(call, tasks, workload.id)
    completed = len(tasks) - len(failed)
    document: dict[str, Any] = {
        "workload": workload.id,
        "collection": workload.collection,
        "completed": completed,
        "failed": [status.document() for status in failed],
    }
    text = f"{workload.id}  {completed} of {len(tasks)} completed, {len(failed)} failed"
    call.out.result(document, text, (workload.id, str(completed), str(len(failed))))
    note_failures(call, failed, f"c2d list --workload {workload.id} --state FAILED")
    call.out.note(f"Fetch the results, a folder for each task: c2d fetch {workload.id} DIR")
    return exit_code(failed)
