"""``c2d run``: submit a task, wait, print its output, and say where the results are."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import endings, zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode, of_reason
from compute_to_data.cli.tasks import after_argument
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.session import Session
    from compute_to_data.client.tasks import TaskHandle

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "run",
        _run,
        "run a program on data in the zone, wait, and print its output",
        example="run debian:bookworm --input a.txt --output results -- wc -c /inputs/a.txt",
        arguments=_arguments,
        takes_program=True,
    )


def _arguments(parser: ArgumentParser) -> None:
    parser.usage = f"{parser.prog} IMAGE [options] -- PROGRAM [ARGUMENT ...]"
    image_argument(parser)
    given = parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="PATH",
        help="a data object, collection or dataset (d-...) that the program reads below /inputs; repeat for more",
    )
    completes(given, zone_words.datasets)
    parser.add_argument(
        "--output",
        dest="into",
        default="",
        metavar="COLLECTION",
        help="the collection for the results; it is created if necessary",
    )
    place_arguments(parser)
    parser.add_argument("--name", default="", help="a name for the task")
    after_argument(parser)
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        type=variable,
        metavar="KEY=VALUE",
        help="an environment variable for the program; repeat for more",
    )
    secret_argument(parser)
    limit_arguments(parser)


def image_argument(parser: ArgumentParser) -> None:
    """``IMAGE``, what programs run in."""
    image = parser.add_argument("image", metavar="IMAGE", help="an image that the site allows")
    completes(image, zone_words.images)


def place_arguments(parser: ArgumentParser) -> None:
    """``--resource`` and ``--role``: where programs run, and as what."""
    named = "the compute resource (default: one that has the role)"
    completes(parser.add_argument("--resource", default="", help=named), zone_words.resources)
    kind = "the kind of computation (default: CONTAINER)"
    completes(parser.add_argument("--role", default="", help=kind), zone_words.roles)


def secret_argument(parser: ArgumentParser) -> None:
    """Add ``--secret NAME``, which can be repeated."""
    secret = parser.add_argument(
        "--secret",
        action="append",
        default=[],
        metavar="NAME",
        help="a secret that the program reads as /run/secrets/NAME; repeat for more",
    )
    completes(secret, zone_words.secrets)


def limit_arguments(parser: ArgumentParser) -> None:
    """Add the options that :func:`limits` reads."""
    parser.add_argument("--walltime", type=float, metavar="SECONDS", help="how long a task may run")
    parser.add_argument(
        "--memory", type=_bytes, metavar="BYTES", help="how much memory a task may use, for example 512m or 4g"
    )
    parser.add_argument("--cpus", type=float, help="how many processors a task may use, for example 0.5 or 2")


def limits(options: argparse.Namespace) -> dict[str, Any]:
    """A request's ``limits``, from the options given."""
    asked = {"walltime_seconds": options.walltime, "memory_bytes": options.memory, "cpus": options.cpus}
    return {name: value for name, value in asked.items() if value is not None}


def variable(text: str) -> tuple[str, str]:
    """The name and value of ``KEY=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, value


def _bytes(text: str) -> int:
    unit = _UNITS.get(text[-1:].lower())
    number = text[:-1] if unit else text
    try:
        return int(float(number) * (unit or 1))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, such as 512m or 4g") from None


def _run(call: Call) -> int:
    from compute_to_data.cli.log_printer import LogPrinter
    from compute_to_data.cli.tasks import state_printer
    from compute_to_data.client import logs

    printer = LogPrinter(only="stderr" if call.out.form == "json" else "")  # stdout is for the JSON document
    task = call.session.submit(request(call), after=call.options.after)
    call.out.note(f"task {task.id}")
    try:
        logs.follow(task, printer.print, state_printer(call, task), on_note=call.out.note)
    except KeyboardInterrupt:
        return _interrupted(call, task)
    status = task.status()
    for words in endings.notes(status):
        call.out.note(words)
    if call.out.form == "json":
        call.out.result(status.document())
    return of_reason(status.reason_code)


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
    """The task that the command line describes."""
    options, session = call.options, call.session
    into = session.absolute(options.into) if options.into else session.results
    session.catalog.create_collection(into, parents=True)
    # Escape ${, so that the program sees it: on the command line it is never one of our references.
    words = [word.replace("${", "$${") for word in options.program]
    environment = {"environment": dict(options.env)} if options.env else {}
    document: dict[str, Any] = {
        "inputs": [_input(session, path) for path in options.input],
        "output_collection": into,
        "process": {"image": options.image, "exec": words[0], "argv": words[1:], **environment},
        "limits": limits(options),
    }
    named = {"name": options.name, "resource": options.resource, "role": options.role}
    document.update({name: value for name, value in named.items() if value})
    if options.secret:
        document["secrets"] = options.secret
    if not options.resource and not options.role:
        document["role"] = "CONTAINER"
    return document


def _input(session: Session, path: str) -> dict[str, str]:
    """A dataset of the project, a data object or a collection as an input."""
    from compute_to_data.client import datasets
    from compute_to_data.client.manifest import DATASET_ID, FILES
    from compute_to_data.errors import NotFound
    from compute_to_data.model import Collection

    if DATASET_ID.fullmatch(path):
        return {"collection": f"{datasets.find(session, path)}/{FILES}"}
    logical_path = session.absolute(path)
    try:
        found = session.catalog.stat(logical_path)
    except NotFound as error:
        if os.path.exists(path):
            remedy = f"{path} is a file on this computer. Upload it first, with c2d dataset upload or iput"
            raise NotFound(logical_path, error.cause, remedy, code=error.code) from None
        raise
    return {"collection" if isinstance(found, Collection) else "object": logical_path}
