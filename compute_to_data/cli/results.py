"""``c2d logs | open``: what tasks print, and their reports."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import of_reason
from compute_to_data.cli.log_printer import LogPrinter
from compute_to_data.cli.task_arguments import count, found, one_task
from compute_to_data.cli.task_printer import state_text
from compute_to_data.client.task_status import endings

if TYPE_CHECKING:
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.records.state import State


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "logs", _logs, "print what a task's program wrote", example="logs 3f2a --follow", arguments=_logs_arguments
    )
    commands.add("open", _open, "open a task's report in a browser", example="open 3f2a", arguments=_open_arguments)


def _logs_arguments(parser: ArgumentParser) -> None:
    one_task(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="print new output until the task has ended")
    parser.add_argument(
        "--tail", type=count, metavar="LINES", help="begin with this many last lines of stdout, and of stderr"
    )
    parser.add_argument(
        "--timestamps",
        "-t",
        action="store_true",
        help="print before each line when the worker received it",
    )


def _open_arguments(parser: ArgumentParser) -> None:
    one_task(parser)
    parser.add_argument("--no-browser", action="store_true", help="only fetch the report, and print its path")


def _logs(call: Call) -> int:
    from compute_to_data.client import logs

    task = found(call, call.options.task)
    chosen = {"tail": call.options.tail, "stamps": call.options.timestamps}
    if call.options.follow:
        printer = LogPrinter(as_json=call.out.form == "json")

        def note(text: str) -> None:
            printer.begin_line()
            call.out.note(text)

        logs.follow(task, printer.print, on_note=note, **chosen)
        printer.end()
        printer.begin_line()
        status = task.status()
        call.out.note(f"task {task.id} {state_text(status)}")
        for words in endings.missing(status):
            call.out.note(words)
        return of_reason(status.reason_code)
    said = {"stdout": b"", "stderr": b""}
    shown = LogPrinter()

    def show(stream: str, content: bytes) -> None:
        if call.out.form == "json":
            said[stream] += content
        else:
            said[stream] = said[stream] or content[:1]
            shown.print(stream, content)

    state = logs.show(task, show, **chosen)
    shown.begin_line()
    _note_what_lacks(call, task, state, any(said.values()))
    if call.out.form == "json":
        call.out.result({"task_id": task.id, **{name: text.decode("utf-8", "replace") for name, text in said.items()}})
    return 0


def _note_what_lacks(call: Call, task: TaskHandle, state: State, has_said: bool) -> None:
    """Say why there is no output, or not all of it."""
    if state.is_final:
        for words in endings.missing(task.status()):
            call.out.note(words)
    elif state.value in ("WAITING", "QUEUED"):
        call.out.note(f"task {task.id} is {state_text(task.status())}")
    elif not has_said:
        call.out.note(
            f"task {task.id} is {state.value} and has printed nothing yet. Follow it: c2d logs {task.id} --follow. "
            "Many programs hold their output back when it goes to no terminal: run python with -u"
        )


def _open(call: Call) -> int:
    import tempfile
    import webbrowser
    from pathlib import Path

    from compute_to_data.client import results
    from compute_to_data.errors import NotFound

    task = found(call, call.options.task)
    pages = [one for one in results.everything(task.catalog, task.collection) if one.name.endswith(".html")]
    if not pages:
        raise NotFound(f"task {task.id}", "has no HTML report", f"Fetch all its results: c2d fetch {task.id}")
    report = min(pages, key=lambda one: (one.name.count("/"), one.name))
    file = os.path.join(tempfile.mkdtemp(prefix="c2d-"), os.path.basename(report.name))
    Path(file).write_bytes(report.bytes())
    call.out.result({"task_id": task.id, "report": report.path, "file": file}, file)
    if not call.options.no_browser and not webbrowser.open(Path(file).as_uri()):
        call.out.note("cannot start a browser; open the file yourself")
    return 0
