"""``c2d run``: one command that submits, waits, shows the log and says where the results are."""

from __future__ import annotations

import argparse
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode, of_reason
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.session import Session
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.records.task import State

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "run",
        _run,
        "run a program on data of the zone, wait, and show what it writes",
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
        help="a data object, or a collection or dataset (d-...) with all that is in it; repeat for more",
    )
    completes(given, zone_words.datasets)
    parser.add_argument(
        "--output", dest="into", default="", metavar="COLLECTION", help="where results go; made if need be"
    )
    place_arguments(parser)
    parser.add_argument("--name", default="", help="what you call the task")
    parser.add_argument(
        "--env", action="append", default=[], type=variable, metavar="KEY=VALUE", help="repeat for more"
    )
    secret_argument(parser)
    limit_arguments(parser)


def image_argument(parser: ArgumentParser) -> None:
    """``IMAGE``, what programs run in."""
    image = parser.add_argument("image", metavar="IMAGE", help="an image that the site allows")
    completes(image, zone_words.images)


def place_arguments(parser: ArgumentParser) -> None:
    """``--resource`` and ``--role``: where programs run, and as what."""
    named = "the compute resource; by default one that bears the role"
    completes(parser.add_argument("--resource", default="", help=named), zone_words.resources)
    completes(parser.add_argument("--role", default="", help="the role (default CONTAINER)"), zone_words.roles)


def secret_argument(parser: ArgumentParser) -> None:
    """``--secret NAME``, as often as one likes."""
    secret = parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME", help="a secret, read as /run/secrets/NAME; repeat"
    )
    completes(secret, zone_words.secrets)


def limit_arguments(parser: ArgumentParser) -> None:
    """What :func:`limits` reads."""
    parser.add_argument("--walltime", type=float, metavar="SECONDS", help="how long it may run")
    parser.add_argument("--memory", type=_bytes, metavar="BYTES", help="what it may use: 512m, 4g")
    parser.add_argument("--cpus", type=float, help="processors: 0.5, 2")


def limits(options: argparse.Namespace) -> dict[str, Any]:
    """A request's ``limits``: those that were given."""
    asked = {"walltime_seconds": options.walltime, "memory_bytes": options.memory, "cpus": options.cpus}
    return {name: value for name, value in asked.items() if value is not None}


def variable(text: str) -> tuple[str, str]:
    """``KEY=VALUE``, divided."""
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
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, as 512m or 4g") from None


def _run(call: Call) -> int:
    from compute_to_data.cli.results import Speaker
    from compute_to_data.client import logs

    speaker = Speaker(only="stderr" if call.out.form == "json" else "")  # stdout is for the one document
    task = call.session.submit(request(call))
    call.out.note(f"task {task.id}")
    try:
        logs.follow(task, speaker.hear, _teller(call, task))
    except KeyboardInterrupt:
        return _interrupted(call, task)
    status = task.status()
    call.out.note(f"results in {task.collection}")
    if call.out.form == "json":
        call.out.result(status.document())
    return of_reason(status.reason_code)


def _teller(call: Call, task: TaskHandle) -> Callable[[State], None]:
    """Notes each state once: the task may be further by the time its status is read."""
    from compute_to_data.cli.tasks import told

    last = ""

    def tell(state: State) -> None:
        nonlocal last
        now = told(task.status())
        if now != last:
            call.out.note(now)
        last = now

    return tell


def _interrupted(call: Call, task: TaskHandle) -> int:
    """Ctrl-C leaves the task running, unless one who can be asked says otherwise."""
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
        call.out.note(f"cancelling; c2d status {task.id} tells when it has ended")
    else:
        call.out.note(f"it goes on. Follow it: c2d logs {task.id} --follow. End it: c2d cancel {task.id}")
    return ExitCode.INTERRUPTED


def request(call: Call) -> dict[str, Any]:
    """The task that the command line describes."""
    options, session = call.options, call.session
    into = session.absolute(options.into) if options.into else session.results
    session.catalog.create_collection(into, parents=True)
    # ${ is for the program to see: nothing on a command line is meant as our own reference.
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
            remedy = f"{path} is a file of this computer: put it into the zone first: c2d dataset upload, or iput"
            raise NotFound(logical_path, error.cause, remedy, code=error.code) from None
        raise
    return {"collection" if isinstance(found, Collection) else "object": logical_path}
