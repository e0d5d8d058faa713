"""Prints tasks for a person: their states, their ends, and everything known about one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compute_to_data.cli.command import Call
from compute_to_data.cli.exits import of_reason
from compute_to_data.client.task_status import endings

if TYPE_CHECKING:
    from compute_to_data.client.task_status.status import TaskStatus
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.records.state import State


def state_text(status: TaskStatus) -> str:
    """The state, and the reason when there is one."""
    state = status.state.value
    why = status.waiting_for or (status.reason if state in ("FAILED", "CANCELLED") else "")
    return f"{state}{f': {why}' if why else ''}"


def state_printer(task: TaskHandle, note: Callable[[str], None]) -> Callable[[State], None]:
    """Passes each state to ``note`` once. The status that it reads may be later than the state it receives."""
    last = ""

    def print_state(state: State) -> None:
        nonlocal last
        now = state_text(task.status())
        if now != last:
            note(now)
        last = now

    return print_state


def ended(call: Call, status: TaskStatus) -> int:
    """Print how the task ended; returns the exit code."""
    for words in endings.notes(status):
        call.out.note(words)
    call.out.result(status.document(), f"{status.task_id}  {status.state.value}", (status.task_id, status.state.value))
    return of_reason(status.reason_code)


def describe(call: Call, task: TaskHandle) -> int:
    """Print everything known about a task."""
    from compute_to_data.client.task_status import sentence

    status = task.status()
    if call.out.form == "pretty":
        call.out.result(None, sentence.of(status) + "\n")
    call.out.facts(status.document(), list(_lines(status)))
    if call.out.form != "pretty" and endings.left_nothing(status):
        call.out.note("it wrote nothing to /outputs")
    return 0


def _lines(status: TaskStatus) -> Any:
    """Names and values for reading, without the empty ones."""
    document = status.document()
    for name in ("task_id", "name", "state", "waiting_for", "reason", "reason_code", "exit_status", "error_code"):
        if document[name] not in ("", None):
            yield name, str(document[name])
    for name in ("owner", "role", "resource", "choice", "collection", "moved_to", "attempts", "cancel_asked_by"):
        if document[name] not in ("", None):
            yield name, str(document[name])
    for collection in document["after"]:
        yield "after", collection
    for name, when in document["times"].items():
        yield f"{name.lower()}_at", when
    for name, seconds in document["seconds"].items():
        yield f"{name}_seconds", f"{seconds:.3f}"
    yield from made_of(document)
    for name, values in document["other"].items():
        for value in values:
            yield name, value


def made_of(document: dict[str, Any]) -> Any:
    """Names and values of what a task was made of: its image, inputs, commands and parameters."""
    for name in ("image", "image_digest", "engine", "version"):
        if document[name]:
            yield name, document[name]
    for one in document["inputs"]:
        yield "input", f"{one['object']}  {one['checksum'] or 'no checksum'}"
    for name in document["staged"]:
        yield "staged", name
    for command in document["commands"] or filter(None, [document["runs"]]):
        yield "command", command
    for name, value in document["parameters"].items():
        yield f"parameter {name}", str(value)
    for name, count in document["log_bytes_missing"].items():
        yield f"{name}_bytes_missing", str(count)
