"""``c2d process``: process definitions that are kept in the zone, for tasks to use by name."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from dataclasses import asdict
from typing import TYPE_CHECKING

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.submitting import content
from compute_to_data.cli.task_options import at_least_one, limit_arguments, limits, parameter_argument, place_arguments
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.processes import Process


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    process = commands.group("process", "keep process definitions in the zone, and run them by name")
    process.add(
        "create",
        _create,
        "store a process definition from a JSON file",
        example="create tr.json --name without-x",
        arguments=_create_arguments,
    )
    process.add("list", _list, "list the process definitions that you may use", example="list")
    process.add("show", _show, "print a process definition, as JSON", example="show without-x", arguments=_one)
    process.add(
        "update",
        _update,
        "replace a process definition, which keeps its name and id",
        example="update without-x tr.json",
        arguments=_update_arguments,
    )
    process.add("delete", _delete, "delete a process definition", example="delete without-x", arguments=_one)
    process.add(
        "start",
        _start,
        "start a service: each data object that arrives in a collection is a message to it",
        example="start translator messages --instances 2",
        arguments=_start_arguments,
    )
    process.add(
        "stop",
        _stop,
        "stop a service, and cancel what it has not answered",
        example="stop w-0123",
        arguments=_stop_arguments,
    )


def _one(parser: ArgumentParser) -> None:
    name = parser.add_argument("process", metavar="PROCESS", help="its name, its id or its logical path")
    completes(name, zone_words.processes)


def _file(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a file with a process definition; - reads standard input")


def _create_arguments(parser: ArgumentParser) -> None:
    _file(parser)
    parser.add_argument("--name", default="", help="its name (default: the file's, without .json)")


def _update_arguments(parser: ArgumentParser) -> None:
    _one(parser)
    _file(parser)


def _start_arguments(parser: ArgumentParser) -> None:
    _one(parser)
    parser.add_argument("collection", metavar="COLLECTION", help="where messages arrive; it is created if necessary")
    parser.add_argument(
        "--instances",
        type=at_least_one,
        default=1,
        help="how many messages are worked on at the same time (default: 1)",
    )
    parameter_argument(parser, "a value for a parameter of the process")
    place_arguments(parser)
    limit_arguments(parser)


def _stop_arguments(parser: ArgumentParser) -> None:
    help = "the service's workload: its id, the beginning of one, or its logical path"
    completes(parser.add_argument("workload", metavar="WORKLOAD", help=help), zone_words.workloads)


def _create(call: Call) -> int:
    from compute_to_data.client import processes

    options = call.options
    given = options.file
    name = options.name or ("" if given == "-" else os.path.basename(given).removesuffix(".json"))
    made = processes.create(call.session, content(given), name)
    _say(call, made)
    return 0


def _say(call: Call, made: Process) -> None:
    """Print the definition's name, and where it is kept."""
    call.out.note(f"process definition {made.name} (id {made.id}) is in {made.data_object}")
    call.out.result(asdict(made), made.name)


def _list(call: Call) -> int:
    from compute_to_data.client import processes

    rows = [{**asdict(one), "runs": _runs(one)} for one in processes.listed(call.session)]
    columns = {"name": "NAME", "id": "ID", "runs": "RUNS", "owner": "OWNER", "data_object": "DATA OBJECT"}
    empty = "No process definitions yet. Store one with: c2d process create FILE"
    call.out.table(rows, columns, empty=empty, free=["runs"])
    return 0


def _runs(process: Process) -> str:
    """What the definition runs, in a few words."""
    from compute_to_data.client import processes

    return "(not valid)" if process.problem else processes.runs(process.document)


def _show(call: Call) -> int:
    import json

    from compute_to_data.client import processes
    from compute_to_data.errors import InvalidRequest

    found = processes.describe(call.session, call.options.process)
    if found.problem:
        raise InvalidRequest(f"process definition {found.name}", f"is not valid: {found.problem}")
    call.out.note(f"{found.name}, id {found.id}, of {found.owner}, changed {found.modified}: {found.data_object}")
    schema = processes.schema(call.session, found)
    call.out.result({**asdict(found), "schema": schema}, json.dumps(found.document, indent=2, ensure_ascii=False))
    return 0


def _update(call: Call) -> int:
    from compute_to_data.client import processes

    _say(call, processes.update(call.session, call.options.process, content(call.options.file)))
    return 0


def _delete(call: Call) -> int:
    from compute_to_data.client import processes

    path = processes.delete(call.session, call.options.process)
    call.out.note(f"process definition {path} is deleted")
    return 0


def _start(call: Call) -> int:
    from compute_to_data.client import notebooks, services

    options = call.options
    started = services.start(
        call.session,
        options.process,
        call.session.absolute(options.collection),
        instances=options.instances,
        values=notebooks.parameters(options.pairs, options.parameters),
        limits=limits(options),
        role=options.role,
        resource=options.resource,
    )
    call.out.result(asdict(started), started.workload)
    call.out.note(f"what arrives in {started.messages} is a message; the answers are in {started.answers}")
    return 0


def _stop(call: Call) -> int:
    from compute_to_data.client import services

    stopped = services.stop(call.session, call.options.workload)
    call.out.note(f"service {stopped.workload} is stopped; what arrives in {stopped.messages} is no message any more")
    return 0
