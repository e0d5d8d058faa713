"""``c2d notebook``: run a notebook beside data in the zone, and fetch the executed notebook and its report."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from compute_to_data.cli import foreground, run_inputs, zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import of_reason
from compute_to_data.cli.task_options import limit_arguments, limits, parameter_argument, secret_argument
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.tasks import TaskHandle


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "notebook",
        _notebook,
        "run a notebook beside data in the zone, and fetch it with its report",
        example="notebook count.ipynb -p threshold=3 --input a.txt --image jupyter:1 --open",
        arguments=_arguments,
    )


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("notebook", metavar="NOTEBOOK", help="a notebook of this computer, or a logical path of one")
    parameter_argument(parser, "a value for the cell tagged parameters")
    run_inputs.input_argument(parser)
    image = parser.add_argument("--image", default="", help="an image that has run-notebook (default: the role's)")
    completes(image, zone_words.images)
    resource = parser.add_argument("--resource", default="", help="the compute resource (default: one with the role)")
    completes(resource, zone_words.resources)
    role = parser.add_argument("--role", default="", help="the role that runs it (default: the one for notebooks)")
    completes(role, zone_words.roles)
    parser.add_argument("--name", default="", help="a name for the task")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        default=".",
        help="where to create the folder <id> (default: here)",
    )
    parser.add_argument("--open", action="store_true", help="open the report in a browser")
    secret_argument(parser)
    limit_arguments(parser)


def _notebook(call: Call) -> int:
    from compute_to_data.client import notebooks
    from compute_to_data.errors import Refused

    options, session = call.options, call.session
    parameters = notebooks.parameters(options.pairs, options.parameters)  # fail before anything is uploaded
    if os.path.exists(options.directory) and not os.path.isdir(options.directory):
        raise Refused(options.directory, "is not a folder", "Name another one with --directory")
    logical_path, uploaded = notebooks.in_zone(session, options.notebook)
    if uploaded:
        call.out.note(f"uploaded {options.notebook} to {logical_path}")
    document = _request(call, logical_path, parameters)
    try:
        task = foreground.submitted(call, document)
        foreground.follow(call, task)
    except foreground.Interrupted as interrupted:
        return foreground.ask(call, interrupted.task)
    files = _fetched(call, task, logical_path)
    status = task.status()
    call.out.result({**status.document(), "files": files}, "\n".join(files))
    report = next((file for file in files if file.endswith(".html")), "")
    if options.open:
        _open(call, report)
    return of_reason(status.reason_code)


def _request(call: Call, logical_path: str, parameters: dict[str, Any]) -> dict[str, Any]:
    from compute_to_data.client import notebooks

    options, session = call.options, call.session
    session.catalog.create_collection(session.results, parents=True)
    notebook = {"data_object": logical_path, "parameters": parameters, "image": options.image}
    document: dict[str, Any] = {
        "output_collection": session.results,
        "notebook": {name: value for name, value in notebook.items() if value},
        "limits": limits(options),
    }
    role = options.role or ("" if options.resource else notebooks.role(session.configuration))
    named = {"name": options.name, "resource": options.resource, "role": role, "secrets": options.secret}
    document.update({name: value for name, value in named.items() if value})
    return run_inputs.with_inputs(call, document, run_inputs.read(call, options.input))


def _fetched(call: Call, task: TaskHandle, notebook: str) -> list[str]:
    """Fetch the executed notebook and the report, also those of a failed task; returns their physical paths."""
    from pathlib import Path

    from compute_to_data.client import notebooks

    files = []
    for result in notebooks.results(task, notebook):
        file = Path(call.options.directory, task.id, *result.name.split("/"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(result.bytes())
        files.append(str(file))
    if not files:
        call.out.note("the task left neither an executed notebook nor a report")
    return files


def _open(call: Call, report: str) -> None:
    import webbrowser
    from pathlib import Path

    if not report:
        call.out.note("there is no report to open")
    elif not webbrowser.open(Path(os.path.abspath(report)).as_uri()):
        call.out.note("cannot start a browser; open the file yourself")
