"""``c2d submit | wait | rerun``: new tasks, and waiting for tasks."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import foreground, zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import of_reason
from compute_to_data.cli.many_tasks import exit_code, finish, note_failures, wait_for
from compute_to_data.cli.task_arguments import WAIT, after_argument, found, one_task, several_tasks
from compute_to_data.cli.task_options import priority_argument
from compute_to_data.cli.task_printer import ended, state_text
from compute_to_data.cli.workload_results import is_workload
from compute_to_data.cli.zone_words import completes
from compute_to_data.client.task_status import endings

if TYPE_CHECKING:
    from compute_to_data.client.tasks import TaskHandle


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "submit",
        _submit,
        "submit a task from each JSON file",
        example="submit task.json --wait",
        arguments=_submit_arguments,
    )
    commands.add(
        "wait",
        _wait,
        "wait until tasks, or all tasks of a workload, have ended",
        example="wait 3f2a 77b0",
        arguments=several_tasks,
    )
    commands.add(
        "rerun",
        _rerun,
        "submit a task's request again, as a new task",
        example="rerun 3f2a --wait",
        arguments=_rerun_arguments,
    )


def _submit_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a file with a request; - reads standard input. Of several, all or none",
    )
    parser.add_argument("--wait", action="store_true", help=WAIT)
    resource = parser.add_argument("--resource", default="", help="the compute resource, overriding the request")
    completes(resource, zone_words.resources)
    parser.add_argument(
        "--output-collection",
        default="",
        metavar="COLLECTION",
        help="the collection for the results, overriding the request",
    )
    image = parser.add_argument(
        "--image", default="", help="the image, overriding the request; needed if its format names none"
    )
    completes(image, zone_words.images)
    after_argument(parser)
    priority_argument(parser)
    parser.add_argument(
        "--reuse", action="store_true", help="do not run it again if an identical task of yours has completed"
    )


def _rerun_arguments(parser: ArgumentParser) -> None:
    one_task(parser)
    changed = "run it on its inputs as they are now, if they have changed since"
    parser.add_argument("--changed-inputs", action="store_true", help=changed)
    parser.add_argument("--wait", action="store_true", help=WAIT)


def _submit(call: Call) -> int:
    from compute_to_data.client import tasks
    from compute_to_data.client.this_computer import local_inputs
    from compute_to_data.documents.json_text import read_json

    options, session = call.options, call.session
    asked = {
        "resource": options.resource,
        "output_collection": session.absolute(options.output_collection) if options.output_collection else "",
        "image": options.image,
        "after": options.after,
        "reuse": options.reuse,
        "priority": options.priority,
    }
    names = ["standard input" if file == "-" else file for file in options.files]

    inputs: list[str] = []

    def reading(file: str, name: str) -> Callable[[], Any]:
        def read() -> Any:
            document = read_json(content(file), name)
            inputs.extend(local_inputs.named_inputs(document))
            return document

        return read

    documents = [(name, reading(file, name)) for file, name in zip(options.files, names)]
    submitted: list[TaskHandle] = []
    try:
        with local_inputs.hint(inputs):
            for task in tasks.submit_all(session, documents, **asked):
                submitted.append(task)
                if len(documents) > 1 and call.out.form != "json":
                    call.out.result({}, f"{task.id}  {names[len(submitted) - 1]}", task.id)
    except BaseException:
        if submitted:
            call.out.note(f"submitted before that: {' '.join(task.id for task in submitted)}")
        raise
    return _submitted(call, submitted[0]) if len(documents) == 1 else _several_submitted(call, submitted)


def _several_submitted(call: Call, tasks: Sequence[TaskHandle]) -> int:
    """Print the tasks as JSON; with ``--wait``, wait until they have ended, and print what failed."""
    failed = wait_for(call, [task.collection for task in tasks]) if call.options.wait else []
    if call.out.form == "json":
        call.out.result([task.status().document() for task in tasks])
    elif call.options.wait:
        call.out.note(f"{len(tasks) - len(failed)} of {len(tasks)} completed, {len(failed)} failed")
    note_failures(call, failed)
    return exit_code(failed)


def content(file: str) -> bytes:
    """The bytes of a file of this computer; - is standard input. Of more than a document can hold, the beginning.
    InvalidRequest."""
    from compute_to_data.documents.json_text import MAXIMUM_BYTES
    from compute_to_data.errors import InvalidRequest

    most = MAXIMUM_BYTES + 1
    if file == "-":
        return sys.stdin.buffer.read(most)
    try:
        with open(file, "rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise InvalidRequest(file, f"cannot be read: {error.strerror}") from None


def _submitted(call: Call, task: TaskHandle) -> int:
    """Print the task's id; with ``--wait``, wait until the task has ended."""
    status = task.status()
    for note in status.other.get("note", ()):
        call.out.note(f"note: {note}")
    if not call.options.wait:
        return queued(call, task)
    call.out.note(f"task {task.id}{' is reused: an identical task completed earlier' if task.is_reused else ''}")
    if task.is_reused:
        return ended(call, task.wait(on_change=lambda now: call.out.note(state_text(now))))
    return foreground.wait(call, task)


def queued(call: Call, task: TaskHandle) -> int:
    """Print the task's id, and where it waits."""
    status = task.status()
    reused = "reused: an identical task completed earlier; results are in"
    where = f"queued on {status.resource} ({status.choice}); results go to"
    if status.state.value == "WAITING":
        where = f"waits for {status.waiting_for}. It will run on {status.resource} ({status.choice}); results go to"
    where = reused if task.is_reused else where
    call.out.note(f"{where} {task.collection}")
    call.out.result(status.document(), task.id)
    return 0


def _wait(call: Call) -> int:
    from compute_to_data.errors import InvalidRequest

    if any(map(is_workload, call.options.tasks)):
        if len(call.options.tasks) > 1:
            raise InvalidRequest("c2d wait", "waits for one workload, or for tasks", "Call it once for each workload")
        return finish(call, call.session.workload(call.options.tasks[0]))
    tasks = [found(call, given) for given in call.options.tasks]
    ends = []
    for task in tasks:
        ends.append(task.wait(on_note=call.out.note))
        call.out.note(f"{task.id} {state_text(ends[-1])}")
        for words in (*endings.changed(ends[-1]), *endings.left(ends[-1])):
            call.out.note(words)
    columns = {"task_id": "TASK ID", "state": "STATE", "reason": "REASON"}
    call.out.table([status.document() for status in ends], columns)
    return next((code for code in (of_reason(status.reason_code) for status in ends) if code), 0)


def _rerun(call: Call) -> int:
    return _submitted(call, found(call, call.options.task).rerun(changed_inputs=call.options.changed_inputs))
