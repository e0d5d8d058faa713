"""A task that a command submits and waits for: its output, its end, and Ctrl-C meanwhile."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.interrupts import can_ask, confirmed, postponed
from compute_to_data.cli.task_options import in_options
from compute_to_data.cli.task_printer import ended, state_printer
from compute_to_data.client.task_status import endings

if TYPE_CHECKING:
    from compute_to_data.cli.command import Call
    from compute_to_data.cli.log_printer import LogPrinter
    from compute_to_data.client.tasks import TaskHandle


class Interrupted(Exception):
    """Ctrl-C, when there is a task already."""

    def __init__(self, task: TaskHandle) -> None:
        super().__init__(task.id)
        self.task = task


def submitted(call: Call, document: dict[str, Any], **asked: Any) -> TaskHandle:
    """Submit a task; ``asked`` as for ``Session.submit``. Ctrl-C meanwhile leaves no task (KeyboardInterrupt), or it
    raises Interrupted with the task."""
    from compute_to_data.records.task import new_task_id

    task, task_id = None, new_task_id()
    try:
        with postponed():
            task = call.session.submit(document, task_id=task_id, **asked)
    except KeyboardInterrupt:
        task = task or _task_if_there(call, task_id)
        if task is None:
            call.out.note("no task was submitted")
            raise
        raise Interrupted(task) from None
    return task


def _task_if_there(call: Call, task_id: str) -> TaskHandle | None:
    """The task of an interrupted submission, when its record is complete."""
    from compute_to_data.errors import ComputeToDataError

    try:
        task = call.session.task(task_id)
        task.status()
    except ComputeToDataError:
        return None
    return task


def follow(call: Call, task: TaskHandle) -> None:
    """Print the task's id, what the program writes until the task has ended, and what it left. Interrupted after
    Ctrl-C."""
    call.out.note(f"task {task.id}{' is reused: an identical task completed earlier' if task.is_reused else ''}")
    follow_output(call, task, only="stderr" if call.out.form == "json" else "")  # stdout is for the JSON document
    for words in endings.notes(task.status()):
        call.out.note(in_options(words, call.options))


def follow_output(call: Call, task: TaskHandle, *, only: str) -> LogPrinter:
    """Print the task's states, and what the program writes until the task has ended, on the streams that it wrote to
    or ``only`` on this one. Returns what printed it. Interrupted after Ctrl-C. When the zone or its gateway goes away
    meanwhile, it says that the task continues."""
    from compute_to_data.cli.log_printer import LogPrinter
    from compute_to_data.client import logs
    from compute_to_data.errors import Code, ComputeToDataError, OutOfReach

    def closed() -> None:
        call.out.note(f"nobody reads this any more; waiting for the end. All of it: c2d logs {task.id}")

    try:
        printer = LogPrinter(only=only, on_closed=closed)

        def note(text: str) -> None:
            printer.begin_line()
            call.out.note(in_options(text, call.options))

        logs.follow(task, printer.print, state_printer(task, note), on_note=note)
        return printer
    except KeyboardInterrupt:
        raise Interrupted(task) from None
    except OSError:
        call.out.note(_continues(task))
        raise
    except ComputeToDataError as error:
        if isinstance(error, OutOfReach) or error.code is Code.CAT_INVALID_AUTHENTICATION:
            call.out.note(_continues(task))
        raise


def wait(call: Call, task: TaskHandle) -> int:
    """Print what the program writes and how the task ends; returns the exit code. For ``--wait``."""
    try:
        printed = follow_output(call, task, only="" if call.out.form == "pretty" else "stderr")
        printed.begin_line(sys.stdout)  # for the result
    except Interrupted as interrupted:
        return ask(call, interrupted.task)
    return ended(call, task.status())


def ask(call: Call, task: TaskHandle) -> int:
    """After Ctrl-C the task continues, unless the person at the terminal answers to cancel it."""
    cancels = False
    with contextlib.suppress(KeyboardInterrupt):
        cancels = can_ask() and confirmed(f"\nCancel task {task.id}?")
    if cancels:
        task.cancel()
        call.out.note(f"cancelling. See when it has ended: c2d status {task.id}")
    else:
        call.out.note(_continues(task))
    return ExitCode.INTERRUPTED


def _continues(task: TaskHandle) -> str:
    return f"the task continues. Follow it: c2d logs {task.id} --follow. Cancel it: c2d cancel {task.id}"
