"""``c2d run``: submit a task, wait, print its output, and say where the results are."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from typing import Any

from compute_to_data.cli import foreground, run_inputs, zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import of_reason
from compute_to_data.cli.run_inputs import STDIN_NAME
from compute_to_data.cli.submitting import queued
from compute_to_data.cli.task_arguments import after_argument
from compute_to_data.cli.task_options import (
    environment_argument,
    image_argument,
    limit_arguments,
    limits,
    parameter_argument,
    place_arguments,
    priority_argument,
    secret_argument,
)
from compute_to_data.cli.zone_words import completes
from compute_to_data.task import INPUTS


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
    parser.usage = (
        f"{parser.prog} IMAGE [options] -- PROGRAM [ARGUMENT ...]\n       {parser.prog} --process PROCESS [options]"
    )
    image_argument(parser, optional=True)
    process = parser.add_argument(
        "--process",
        action=_Stored,
        default="",
        metavar="PROCESS",
        help="run a stored process definition, instead of IMAGE and PROGRAM: its name, its id or its logical path",
    )
    completes(process, zone_words.processes)
    parameter_argument(parser, "a value for a parameter of --process")
    run_inputs.input_argument(parser)
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
    priority_argument(parser)
    parser.add_argument(
        "--reuse", action="store_true", help="do not run it again if an identical task of yours has completed"
    )


class _Stored(argparse.Action):
    """``--process``: no program follows after ``--``, since the definition has it."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        namespace.process = values
        namespace.takes_program = False


def _run(call: Call) -> int:
    from compute_to_data.client.new_collection import made_for

    options = call.options
    asked = {"after": options.after, "priority": options.priority}
    into = call.session.absolute(options.output_collection) if options.output_collection else call.session.results
    try:
        with made_for(call.session.catalog, into):
            document = request(call, into, **asked)
            task = foreground.submitted(call, document, reuse=options.reuse, **asked)
        if options.detach:
            return queued(call, task)
        foreground.follow(call, task)
    except foreground.Interrupted as interrupted:
        return foreground.ask(call, interrupted.task)
    status = task.status()
    if call.out.form == "json":
        call.out.result(status.document())
    return of_reason(status.reason_code)


def request(call: Call, into: str, **asked: Any) -> dict[str, Any]:
    """The task that the command line describes, with its results in the collection ``into``. Uploads its inputs that
    are on this computer. ``asked``: as for ``Session.submit``."""
    options = call.options
    what = _stored(call) if options.process else _given(options)
    found = run_inputs.read(call, options.input)
    if not options.stdin and run_inputs.stdin_has_data():
        call.out.note("standard input is not sent to the program. To send it: --stdin")
    document: dict[str, Any] = {"output_collection": into, **what, "limits": limits(options)}
    named = {"name": options.name, "resource": options.resource, "role": options.role, "secrets": options.secret}
    document.update({name: value for name, value in named.items() if value})
    if options.expect:
        document["expected_outputs"] = [_below_outputs(name) for name in options.expect]
    if not options.resource and not options.role:
        document.setdefault("role", "CONTAINER")
    return run_inputs.with_inputs(call, document, found, stdin=options.stdin, **asked)


def _below_outputs(name: str) -> str:
    """The name of an output that a person gave as ``./name``, ``/outputs/name`` or with a slash at its end."""
    return name.removeprefix("/outputs/").removeprefix("./").rstrip("/")


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What the words of the command line run."""
    if not options.image:
        options.parser.error("the following arguments are required: IMAGE, or --process PROCESS")
    if options.pairs or options.parameters:
        options.parser.error("-p and -P are for the parameters of a stored process definition: name one with --process")
    return {"process": _process(options)}


def _stored(call: Call) -> dict[str, Any]:
    """What a stored process definition runs."""
    from compute_to_data.client import notebooks, processes
    from compute_to_data.documents import process_definition

    options = call.options
    for given, words in ((options.image, "IMAGE"), (options.env, "--env")):
        if given:
            options.parser.error(f"--process runs the definition as it is: leave out {words}")
    values = notebooks.parameters(options.pairs, options.parameters)  # fail before anything is uploaded
    found = processes.describe(call.session, options.process)
    is_notebook = process_definition.runs_notebook(found.document) and not (options.role or options.resource)
    role = {"role": notebooks.role(call.session.configuration)} if is_notebook else {}
    return {"process": found.data_object, **role, **({"parameters": values} if values else {})}


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
