"""``c2d logs | open``: what tasks print, and their reports."""

from __future__ import annotations

import codecs
import json
import os
import re
import sys
from argparse import ArgumentParser

from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode, of_reason
from compute_to_data.cli.tasks import found, one_task, state_text

_MOVES_THE_CURSOR = re.compile(
    r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
"""Control characters and escapes, except tabs, line ends and colours; also marks that reverse text."""
_ERASES_THE_LINE = re.compile(r"\x1b\[[012]?K")
"""Progress bars send it beside ``\\r``. We erase the overwritten line ourselves."""


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add(
        "logs", _logs, "print what a task's program wrote", example="logs 3f2a --follow", arguments=_logs_arguments
    )
    commands.add("open", _open, "open a task's report in a browser", example="open 3f2a", arguments=_open_arguments)


def _logs_arguments(parser: ArgumentParser) -> None:
    one_task(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="print new output until the task has ended")


def _open_arguments(parser: ArgumentParser) -> None:
    one_task(parser)
    parser.add_argument("--no-browser", action="store_true", help="only fetch the report, and print its path")


class LogPrinter:
    """Prints a program's output on the streams that it wrote to; with ``only``, all on that stream."""

    def __init__(self, *, as_json: bool = False, only: str = "") -> None:
        self._json = as_json
        self._only = only
        self._shown: dict[str, TerminalText] = {}

    def print(self, stream: str, said: bytes) -> None:
        """Print bytes unchanged to a file or pipe; as JSON, one object for each call; on a terminal,
        without control characters."""
        target = sys.stderr if (self._only or stream) == "stderr" else sys.stdout
        target.flush()
        if self._json:
            target.write(json.dumps({"stream": stream, "text": said.decode("utf-8", "replace")}) + "\n")
        elif target.isatty():
            target.write(self._shown.setdefault(stream, TerminalText()).text(said))
        elif hasattr(target, "buffer"):
            target.buffer.write(said)
        else:
            target.write(said.decode("utf-8", "replace"))
        target.flush()


class TerminalText:
    """One stream as a terminal shows it. Of a line that the program overwrites, as a progress bar does
    with ``\\r``, it keeps the last state. Except for colours, control sequences are replaced."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def text(self, said: bytes) -> str:
        """The text to print for the program's next bytes."""
        *ended, last = (self._held + self._decoder.decode(said)).split("\n")
        shown = last.rstrip("\r")
        self._held = "\r" if shown != last else ""  # the next bytes decide whether the line ends or starts again
        lines = [*(line.rstrip("\r") for line in ended), shown]
        return "\n".join(map(_last_state, lines))


def _last_state(line: str) -> str:
    """The last state of a line, or of a part that was added to a line."""
    _, again, state = line.rpartition("\r")
    harmless = _MOVES_THE_CURSOR.sub("\N{REPLACEMENT CHARACTER}", _ERASES_THE_LINE.sub("", state))
    return f"\r\x1b[K{harmless}" if again else harmless


def _logs(call: Call) -> int:
    from compute_to_data.client import logs

    task = found(call, call.options.task)
    if call.options.follow:
        state = logs.follow(task, LogPrinter(as_json=call.out.form == "json").print)
        call.out.note(f"task {task.id} {state_text(task.status())}")
        return of_reason(task.status().reason_code) if state.value != "COMPLETED" else ExitCode.DONE
    said = logs.read(task)
    if call.out.form == "json":
        texts = {name: getattr(said, name).decode("utf-8", "replace") for name in ("stdout", "stderr")}
        call.out.result({"task_id": task.id, **texts})
        return 0
    printer = LogPrinter()
    printer.print("stdout", said.stdout)
    printer.print("stderr", said.stderr)
    return 0


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
