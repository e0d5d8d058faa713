"""``c2d status | list | cancel | show``: tasks."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import of_reason
from compute_to_data.cli.zone_words import completes
from compute_to_data.client.task_status import endings

if TYPE_CHECKING:
    from compute_to_data.client.task_status.status import TaskStatus
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.records.state import State

WAIT = "wait until the task has ended; the exit code says how"
_MOST = 10**12
"""More than any zone has, and every catalog can compare it."""
_STATES = ("WAITING", "QUEUED", "STAGING_IN", "RUNNING", "STAGING_OUT", "COMPLETED", "FAILED", "CANCELLED")


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add("status", _status, "show everything known about a task", example="status 3f2a", arguments=one_task)
    commands.add(
        "list",
        _list,
        "list your tasks, newest first",
        example="list --state FAILED --since 2d",
        arguments=_list_arguments,
    )
    commands.add("cancel", _cancel, "cancel tasks", example="cancel 3f2a", arguments=_cancel_arguments)
    commands.add(
        "show",
        _show,
        "show a task's request, inputs and image, and how to repeat it",
        example="show 3f2a",
        arguments=one_task,
    )


def one_task(parser: ArgumentParser) -> None:
    task_argument(parser)
    administering(parser)


def task_argument(parser: ArgumentParser) -> None:
    task = parser.add_argument(
        "task", metavar="ID", help="a task's id, the beginning of one, or the logical path of its collection"
    )
    completes(task, zone_words.tasks)


def several_tasks(parser: ArgumentParser) -> None:
    tasks = parser.add_argument("tasks", metavar="ID", nargs="+", help="task ids, their beginnings, or logical paths")
    completes(tasks, zone_words.tasks)
    administering(parser)


def administering(parser: ArgumentParser) -> None:
    parser.add_argument("--admin", action="store_true", help="act as an administrator, on behalf of the task's owner")


def _cancel_arguments(parser: ArgumentParser) -> None:
    several_tasks(parser)
    parser.add_argument("--wait", action="store_true", help="wait until they have ended")


def after_argument(parser: ArgumentParser) -> None:
    """``--after ID``: a task that this one waits for."""
    after = parser.add_argument(
        "--after",
        action="append",
        default=[],
        metavar="ID",
        help="begin when this task has completed, and not if it fails; repeat for more",
    )
    completes(after, zone_words.tasks)


def _list_arguments(parser: ArgumentParser) -> None:
    state_argument(parser, _STATES, "only tasks in this state")
    parser.add_argument(
        "--name", default="", metavar="NAME", help="only tasks of this name, or of a pattern such as 'filter*'"
    )
    completes(parser.add_argument("--role", default="", help="only tasks of this role"), zone_words.roles)
    resource = parser.add_argument("--resource", default="", help="only tasks on this compute resource")
    completes(resource, zone_words.resources)
    parser.add_argument(
        "--since", type=moment, metavar="WHEN", help="only tasks of the last 30m, 12h or 7d, or since 2026-11-30"
    )
    parser.add_argument(
        "--older-than", type=moment, metavar="WHEN", help="only tasks submitted before that: 7d ago, or 2026-11-30"
    )
    workload = parser.add_argument("--workload", default="", metavar="ID", help="only tasks of this workload")
    completes(workload, zone_words.workloads)
    parser.add_argument("--all", action="store_true", help="also list tasks of others that you may read")
    parser.add_argument(
        "--archived", action="store_true", help="list archived tasks instead; not with --name and --role"
    )
    parser.add_argument("--limit", type=count, default=50, help="list at most this many (default: 50; 0: all)")
    parser.add_argument("--offset", type=count, default=0, help="skip this many first")


def state_argument(parser: ArgumentParser, states: Sequence[str], help: str) -> None:
    """``--state STATE``, which can be repeated."""
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        type=str.upper,
        choices=states,
        metavar="STATE",
        help=f"{help}; repeat for more: {', '.join(states)}",
    )


def count(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text) if len(text) < len(str(_MOST)) else _MOST


def moment(text: str) -> float:
    """The Unix seconds of a time: ``30m``, ``12h`` or ``7d`` ago, or a local date with or without a time."""
    import time
    from datetime import datetime

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    try:
        if text[-1:] in units and text[:-1].isdecimal():
            return time.time() - int(text[:-1]) * units[text[-1]]
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30m, 12h, 7d or 2026-11-30") from None


def found(call: Call, given: str) -> TaskHandle:
    """The task that the person means, found with their own rights or, with ``--admin``, as administrator."""
    if getattr(call.options, "admin", False):
        from compute_to_data.client.session import find_as_administrator

        return find_as_administrator(call.session, given)
    return call.session.task(given)


def state_printer(task: TaskHandle, note: Callable[[str], None]) -> Callable[[State], None]:
    """Passes each state to ``note`` once. The status that it reads may be later than the state it receives."""
    last = ""

    def print_state(state: State) -> None:
        nonlocal last
        now = state_text(task.status())
        if now != last:
            note(now)
        last = now

    return print_state


def state_text(status: TaskStatus) -> str:
    """The state, and the reason when there is one."""
    state = status.state.value
    why = status.waiting_for or (status.reason if state in ("FAILED", "CANCELLED") else "")
    return f"{state}{f': {why}' if why else ''}"


def ended(call: Call, status: TaskStatus) -> int:
    """Print how the task ended; returns the exit code."""
    for words in endings.notes(status):
        call.out.note(words)
    call.out.result(status.document(), f"{status.task_id}  {status.state.value}", (status.task_id, status.state.value))
    return of_reason(status.reason_code)


def _status(call: Call) -> int:
    return describe(call, found(call, call.options.task))


def describe(call: Call, task: TaskHandle) -> int:
    """Print everything known about a task."""
    from compute_to_data.client.task_status import sentence

    status = task.status()
    if call.out.form == "pretty":
        call.out.result(None, sentence.of(status) + "\n")
    call.out.facts(status.document(), list(_lines(status)))
    if call.out.form != "pretty" and endings.left_nothing(status):
        call.out.note("it wrote nothing to /outputs")
    return 0


def _lines(status: TaskStatus) -> Any:
    """Names and values for reading, without the empty ones."""
    document = status.document()
    for name in ("task_id", "name", "state", "waiting_for", "reason", "reason_code", "exit_status", "error_code"):
        if document[name] not in ("", None):
            yield name, str(document[name])
    for name in ("owner", "role", "resource", "choice", "collection", "moved_to", "attempts", "cancel_asked_by"):
        if document[name] not in ("", None):
            yield name, str(document[name])
    for collection in document["after"]:
        yield "after", collection
    for name, when in document["times"].items():
        yield f"{name.lower()}_at", when
    for name, seconds in document["seconds"].items():
        yield f"{name}_seconds", f"{seconds:.3f}"
    yield from _made_of(document)
    for name, values in document["other"].items():
        for value in values:
            yield name, value


def _made_of(document: dict[str, Any]) -> Any:
    for name in ("image", "image_digest", "engine", "version"):
        if document[name]:
            yield name, document[name]
    for one in document["inputs"]:
        yield "input", f"{one['object']}  {one['checksum'] or 'no checksum'}"
    for name in document["staged"]:
        yield "staged", name
    for command in document["commands"] or filter(None, [document["runs"]]):
        yield "command", command
    for name, value in document["parameters"].items():
        yield f"parameter {name}", str(value)
    for name, count in document["log_bytes_missing"].items():
        yield f"{name}_bytes_missing", str(count)


def _asked_inputs(request: dict[str, Any]) -> Any:
    """The inputs in a request, for a task that has recorded none."""
    for one in request["inputs"]:
        kind, *more = sorted(one, key=("task", "object", "collection", "next_of", "path", "name").index)
        yield f"input {kind}", " ".join([one[kind], *(f"({name} {one[name]})" for name in more)])


def _asked_commands(request: dict[str, Any]) -> Any:
    """The commands in a request, for a task that has recorded none."""
    import shlex

    process = request.get("process", {})
    for words in process.get("commands", [[process["exec"], *process.get("argv", [])]] if "exec" in process else []):
        yield "command", shlex.join(words)


def _list(call: Call) -> int:
    from compute_to_data.cli import listing
    from compute_to_data.records.state import State

    options = call.options
    limit = options.limit or None
    if options.archived and (options.name or options.role):
        options.parser.error("--archived cannot be used with --name and --role, which archived records hold")
    rows = call.session.tasks(
        limit=limit and limit + 1,  # one more, to see whether there are more
        offset=options.offset,
        with_course=call.out.form != "raw",  # which has no columns for it
        states=tuple(State(name) for name in options.state),
        role=options.role,
        resource=options.resource,
        name=options.name,
        since=options.since,
        until=options.older_than,
        workload=call.session.workload(options.workload).collection if options.workload else "",
        everybodys=options.all,
        archived=options.archived,
    )
    listing.show(call, rows[:limit], with_owners=options.all)
    if limit and len(rows) > limit:
        call.out.note(f"There are more: --offset {options.offset + limit}")
    return 0


def _cancel(call: Call) -> int:
    tasks = [found(call, given) for given in call.options.tasks]
    for task in tasks:
        task.cancel()
        if not call.options.wait and not task.has_worker(task.status().resource):
            resource = task.status().resource
            call.out.note(f"{task.id}: {resource} has no live worker; the task ends when a worker starts there")
    statuses = [task.wait(on_note=call.out.note) if call.options.wait else task.status() for task in tasks]
    columns = {"task_id": "TASK ID", "state": "STATE", "cancel_asked_by": "CANCEL ASKED BY"}
    call.out.table([status.document() for status in statuses], columns)
    return 0


def _show(call: Call) -> int:
    task = found(call, call.options.task)
    status, request = task.status(), task.recorded_request()
    document = status.document()
    kept = ("task_id", "name", "state", "role", "resource", "image", "image_digest", "engine", "version")
    shown = {name: document[name] for name in (*kept, "inputs", "commands", "parameters")}
    shown |= {"request": request, "repeat": f"c2d rerun {status.task_id}"}
    lines = [("task_id", status.task_id), ("state", status.state.value), *_made_of(document)]
    if not status.inputs:  # the task has none, has not begun, or failed before it had claimed one
        lines += _asked_inputs(request)
    if not status.commands:  # the task has not begun, or an earlier release ended it
        lines += _asked_commands(request)
    call.out.facts(shown, [*lines, ("repeat", shown["repeat"])])
    return 0
