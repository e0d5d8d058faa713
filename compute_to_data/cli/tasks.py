"""``c2d status | list | cancel | show``: tasks."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.task_arguments import count, found, moment, one_task, several_tasks, state_argument
from compute_to_data.cli.task_printer import describe, made_of
from compute_to_data.cli.zone_words import completes

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


def _cancel_arguments(parser: ArgumentParser) -> None:
    several_tasks(parser)
    parser.add_argument("--wait", action="store_true", help="wait until they have ended")


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


def _status(call: Call) -> int:
    return describe(call, found(call, call.options.task))


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
    lines = [("task_id", status.task_id), ("state", status.state.value), *made_of(document)]
    if not status.inputs:  # the task has none, has not begun, or failed before it had claimed one
        lines += _asked_inputs(request)
    if not status.commands:  # the task has not begun, or an earlier release ended it
        lines += _asked_commands(request)
    call.out.facts(shown, [*lines, ("repeat", shown["repeat"])])
    return 0
