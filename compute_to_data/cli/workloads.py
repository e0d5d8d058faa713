"""``c2d workload`` and ``c2d task``: many short tasks of one image, in sandboxes kept warm."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from compute_to_data.cli import run_inputs, zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.task_arguments import WAIT, task_argument
from compute_to_data.cli.task_options import (
    at_least_one,
    environment_argument,
    image_argument,
    limit_arguments,
    of_a_workload,
    place_arguments,
    secret_argument,
    walltime_argument,
)
from compute_to_data.cli.workload_results import fetch_all
from compute_to_data.cli.zone_words import completes

_TASK_COLUMNS = {
    "task_id": "TASK ID",
    "name": "CMD",
    "collection": "OUTPUT ID",
    "state": "STATUS",
    "created": "CREATED",
}


def register(commands: Commands) -> None:
    """Add these nouns' commands."""
    workload = commands.group("workload", "run many short tasks of one image, in sandboxes kept warm")
    workload.add(
        "start",
        _start,
        "start a workload, which then accepts tasks",
        example="start debian:bookworm --instances 2 --input-dataset d-0123456789ab",
        arguments=_start_arguments,
    )
    workload.add("list", _list, "list the project's workloads, newest first", example="list")
    workload.add(
        "describe", _describe, "show everything known about a workload", example="describe w-0123", arguments=_one
    )
    workload.add(
        "stop",
        _stop,
        "accept no more tasks, and cancel the unfinished ones",
        example="stop w-0123",
        arguments=_one,
    )
    workload.add(
        "download",
        _download,
        "fetch the results of a workload's tasks, one folder for each",
        example="download w-0123 results",
        arguments=_download_arguments,
    )
    task = commands.group("task", "create and manage the tasks of a workload")
    task.add(
        "create",
        _create,
        "queue a task in a workload",
        example="create w-0123 -- wc -l /input/a.txt",
        arguments=_create_arguments,
        takes_program=True,
    )
    task.add("list", _tasks, "list a workload's tasks, newest first", example="list w-0123", arguments=_one)
    task.add(
        "describe",
        _describe_task,
        "show everything known about a task",
        example="describe 3f2a",
        arguments=task_argument,
    )
    task.add("stop", _stop_task, "cancel a task", example="stop 3f2a", arguments=task_argument)


def _one(parser: ArgumentParser) -> None:
    workload = parser.add_argument(
        "workload", metavar="WORKLOAD", help="a workload's id, the beginning of one, or its logical path"
    )
    completes(workload, zone_words.workloads)


def _start_arguments(parser: ArgumentParser) -> None:
    image_argument(parser)
    parser.add_argument(
        "--instances", type=at_least_one, default=1, help="how many tasks run at the same time (default: 1)"
    )
    dataset = parser.add_argument(
        "--input-dataset",
        default="",
        metavar="DATASET",
        help="a dataset's id, a collection, or a folder of this computer, which is uploaded: tasks read it at /input",
    )
    completes(dataset, zone_words.datasets)
    environment_argument(parser)
    parser.add_argument("--name", default="", help="a name for the workload")
    place_arguments(parser)
    limit_arguments(parser)


def _download_arguments(parser: ArgumentParser) -> None:
    _one(parser)
    parser.add_argument(
        "directory",
        metavar="DIR",
        nargs="?",
        default=".",
        help="where to create the tasks' folders (default: here)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite files that have other content")


def _create_arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} WORKLOAD [options] -- PROGRAM [ARGUMENT ...]"
    _one(parser)
    # An option, because in a shell's loop our standard input belongs to the loop.
    parser.add_argument("--stdin", action="store_true", help="pass standard input to the program")
    environment_argument(parser)
    secret_argument(parser)
    parser.add_argument("--name", default="", help="a name for the task (default: its command)")
    walltime_argument(parser)
    parser.add_argument("--wait", action="store_true", help=WAIT)


def _start(call: Call) -> int:
    from compute_to_data.client import workloads

    options = call.options
    asked = of_a_workload(options, options.instances)

    def check(local: str) -> None:
        workloads.check(call.session, options.image, **asked)

    dataset = options.input_dataset and run_inputs.dataset(call, options.input_dataset, check)
    workload = call.session.start_workload(options.image, input_dataset=dataset, **asked)
    call.out.result({"workload": workload.id, "collection": workload.collection}, workload.id)
    call.out.note(f"add tasks with: c2d task create {workload.id} -- PROGRAM")
    return ExitCode.DONE


def _list(call: Call) -> int:
    columns = {"workload": "WORKLOAD", "name": "NAME", "state": "STATE", "resource": "RESOURCE", "created": "CREATED"}
    rows = [vars(one) for one in call.session.workloads()]
    call.out.table(rows, columns, empty="No workloads in this project yet.", free=["name"])
    return ExitCode.DONE


def _describe(call: Call) -> int:
    from compute_to_data.records.task import timestamp

    found = call.session.workload(call.options.workload).describe()
    asked = found.workload.document()
    document = {
        "workload": found.workload_id,
        "collection": found.collection,
        "state": found.state,
        "created": timestamp(found.created),
        "tasks": dict(found.tasks),
        "request": asked,
    }
    lines = [(name, str(document[name])) for name in ("workload", "state", "created", "collection")]
    lines += [
        (name, str(asked[name]))
        for name in ("name", "image", "instances", "dataset", "role", "resource")
        if name in asked
    ]
    lines += [(f"env {name}", value) for name, value in found.workload.environment.items()]
    lines += [(name, f"{value:.15g}") for name, value in asked.get("limits", {}).items()]
    lines += [(f"tasks {state}", str(count)) for state, count in found.tasks.items()]
    call.out.facts(document, lines)
    return ExitCode.DONE


def _stop(call: Call) -> int:
    workload = call.session.workload(call.options.workload)
    asked = workload.stop()
    call.out.result({"workload": workload.id, "cancelled": [task.id for task in asked]}, workload.id)
    if asked:
        call.out.note(f"cancelling {len(asked)} task{'s' * (len(asked) > 1)}")
    return ExitCode.DONE


def _download(call: Call) -> int:
    return fetch_all(call, call.options.workload, call.options.directory)


def _create(call: Call) -> int:
    from compute_to_data.cli import foreground

    options = call.options
    if options.stdin:
        run_inputs.need_redirected()
    task = call.session.workload(options.workload).create_task(
        options.program,
        stdin=sys.stdin.buffer if options.stdin else None,
        name=options.name,
        environment=dict(options.env),
        walltime_seconds=options.walltime,
        secrets=options.secret,
    )
    if not options.wait:
        call.out.result({"task_id": task.id, "collection": task.collection}, task.id)
        return ExitCode.DONE
    call.out.note(f"task {task.id}")
    return foreground.wait(call, task)


def _tasks(call: Call) -> int:
    rows = [vars(one) for one in call.session.workload(call.options.workload).tasks()]
    call.out.table(rows, _TASK_COLUMNS, empty="No tasks in this workload yet.", free=["name"])
    return ExitCode.DONE


def _describe_task(call: Call) -> int:
    from compute_to_data.cli.task_printer import describe

    return describe(call, call.session.task(call.options.task))


def _stop_task(call: Call) -> int:
    task = call.session.task(call.options.task)
    task.cancel()
    status = task.status()
    call.out.result(status.document(), f"{task.id}  {status.state.value}", (task.id, status.state.value))
    return ExitCode.DONE
