"""``c2d run``: submit a task, wait, print its output, and say where the results are."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import endings, zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode, of_reason
from compute_to_data.cli.interrupts import postponed
from compute_to_data.cli.run_inputs import STDIN_NAME
from compute_to_data.cli.submitting import queued
from compute_to_data.cli.task_options import (
    environment_argument,
    image_argument,
    in_options,
    limit_arguments,
    limits,
    place_arguments,
    secret_argument,
)
from compute_to_data.cli.tasks import after_argument
from compute_to_data.cli.zone_words import completes
from compute_to_data.errors import ComputeToDataError
from compute_to_data.task import INPUTS

if TYPE_CHECKING:
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.records.task import State


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "run",
        _run,
        "run a program on data in the zone, wait, and print its output",
        example="run debian:bookworm --input a.txt --output-collection results -- wc -c /inputs/a.txt",
        arguments=_arguments,
        takes_program=True,
    )


def _arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} IMAGE [options] -- PROGRAM [ARGUMENT ...]"
    image_argument(parser)
    given = parser.add_argument(
        "--input",
        "-i",
        action="append",
        default=[],
        metavar="PATH[:NAME]",
        help="what the program reads below /inputs: a data object, collection, dataset (d-...) or task of the zone, "
        "or a file or folder of this computer, which is uploaded; NAME: its name there; repeat for more",
    )
    completes(given, zone_words.datasets)
    parser.add_argument(
        "--stdin", action="store_true", help="send standard input, which the program reads as its standard input"
    )
    parser.add_argument(
        "--output-collection",
        "-o",
        default="",
        metavar="COLLECTION",
        help="the collection for the results; it is created if necessary",
    )
    parser.add_argument(
        "--expect",
        "-x",
        action="append",
        default=[],
        metavar="PATH",
        help="a file or directory below /outputs that the program must write; repeat for more",
    )
    place_arguments(parser)
    parser.add_argument("--name", "-n", default="", help="a name for the task")
    after_argument(parser)
    environment_argument(parser)
    secret_argument(parser)
    limit_arguments(parser)
    parser.add_argument("--detach", "-d", action="store_true", help="do not wait: print the task's id")
    parser.add_argument(
        "--reuse", action="store_true", help="do not run it again if an identical task of yours has completed"
    )


def _run(call: Call) -> int:
    from compute_to_data.cli.results import LogPrinter
    from compute_to_data.client import logs
    from compute_to_data.records.task import new_task_id

    printer = LogPrinter(only="stderr" if call.out.form == "json" else "")  # stdout is for the JSON document
    task: TaskHandle | None = None
    try:
        document, task_id = request(call), new_task_id()
        try:
            with postponed():
                task = _submitted(call, document, task_id)
        except KeyboardInterrupt:
            task = task or _task_if_there(call, task_id)
            raise
        if call.options.detach:
            return queued(call, task)
        call.out.note(f"task {task.id}{' is reused: an identical task completed earlier' if task.is_reused else ''}")
        logs.follow(task, printer.print, _state_printer(call, task))
        status = task.status()
    except KeyboardInterrupt:
        if task is None:
            call.out.note("no task was submitted")
            raise
        return _interrupted(call, task)
    for words in endings.notes(status):
        call.out.note(in_options(words))
    if call.out.form == "json":
        call.out.result(status.document())
    return of_reason(status.reason_code)


def _submitted(call: Call, document: dict[str, Any], task_id: str) -> TaskHandle:
    return call.session.submit(document, task_id=task_id, after=call.options.after, reuse=call.options.reuse)


def _task_if_there(call: Call, task_id: str) -> TaskHandle | None:
    """The task of an interrupted submission, when its record is complete."""
    try:
        task = call.session.task(task_id)
        task.status()
    except ComputeToDataError:
        return None
    return task


def _state_printer(call: Call, task: TaskHandle) -> Callable[[State], None]:
    """Prints each state once. The status that it reads may be later than the state it receives."""
    from compute_to_data.cli.tasks import state_text

    last = ""

    def print_state(state: State) -> None:
        nonlocal last
        now = in_options(state_text(task.status()))
        if now != last:
            call.out.note(now)
        last = now

    return print_state


def _interrupted(call: Call, task: TaskHandle) -> int:
    """After Ctrl-C the task continues, unless the person at the terminal answers to cancel it."""
    answer = ""
    if sys.stdin.isatty() and sys.stderr.isatty():
        call.out.note("")
        try:
            sys.stderr.write(f"\nCancel task {task.id}? [y/N] ")
            sys.stderr.flush()
            answer = sys.stdin.readline().strip().lower()
        except KeyboardInterrupt:
            answer = ""
    if answer in ("y", "yes"):
        task.cancel()
        call.out.note(f"cancelling. See when it has ended: c2d status {task.id}")
    else:
        call.out.note(f"the task continues. Follow it: c2d logs {task.id} --follow. Cancel it: c2d cancel {task.id}")
    return ExitCode.INTERRUPTED


def request(call: Call) -> dict[str, Any]:
    """The task that the command line describes. Uploads its inputs that are on this computer."""
    from compute_to_data.cli import run_inputs

    options, session = call.options, call.session
    found = run_inputs.read(call, options.input)
    into = session.absolute(options.output_collection) if options.output_collection else session.results
    session.catalog.create_collection(into, parents=True)
    if not options.stdin and run_inputs.stdin_has_data():
        call.out.note("standard input is not sent to the program. To send it: --stdin")
    inputs = run_inputs.entries(call, found)
    document: dict[str, Any] = {
        "inputs": [*inputs, run_inputs.stdin_entry(call)] if options.stdin else inputs,
        "output_collection": into,
        "process": _process(options),
        "limits": limits(options),
    }
    named = {"name": options.name, "resource": options.resource, "role": options.role, "secrets": options.secret}
    document.update({name: value for name, value in named.items() if value})
    if options.expect:
        document["expected_outputs"] = [name.removeprefix("/outputs/").rstrip("/") for name in options.expect]
    if not options.resource and not options.role:
        document["role"] = "CONTAINER"
    return document


def _process(options: argparse.Namespace) -> dict[str, Any]:
    """The process definition. Standard input goes through an adapter, which needs it to be the only input."""
    # Escape ${, so that the program sees it: on the command line it is never one of our references.
    words = [word.replace("${", "$${") for word in options.program]
    process: dict[str, Any] = {"image": options.image}
    if options.env:
        process["environment"] = dict(options.env)
    if options.stdin and options.input:
        words = ["sh", "-c", f'exec "$@" <{INPUTS}/{STDIN_NAME}', "sh", *words]
    elif options.stdin:
        stream = {"file_type": "stream", "stream_name": "STDIN"}
        process["input_adapter"] = {"input_type": "file", "input_parameters": stream}
    return {**process, "exec": words[0], "argv": words[1:]}
