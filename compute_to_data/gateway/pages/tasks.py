"""The pages of tasks: the list, one task, and what can be done with it."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from compute_to_data.client import finding, logs, task_rows
from compute_to_data.client.task_status import sentence
from compute_to_data.client.task_status.status import TaskStatus
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.errors import AccessDenied, ComputeToDataError
from compute_to_data.gateway.api import paging
from compute_to_data.gateway.pages import previews, rendering, timeline
from compute_to_data.gateway.pages.forms import Form, form
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.visitor import Visitor, gateway_of, visitor
from compute_to_data.gateway.problems import HttpError
from compute_to_data.log_file import STREAMS
from compute_to_data.records.state import State

router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/tasks")
_OF_A_PAGE = 50
_LOG_LINES = 500
_MOST_LOG_CHARACTERS = 200_000
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def task(task_id: str, known: Visitor = Depends(visitor)) -> TaskHandle:
    """The task of the path. NotFound also for a task that the person may not read."""
    return finding.find(known.workbench, task_id.lstrip("/"))


@router.get("")
def listed(
    request: Request,
    known: Visitor = Depends(visitor),
    state: str = Query("", max_length=20),
    name: str = Query("", max_length=255),
    everybodys: bool = Query(False),
    cursor: str = Query("", max_length=8192),
) -> Response:
    """Newest first."""
    states = (_state(state),) if state else ()
    pattern = name if not name or any(one in name for one in "*?[") else f"*{name}*"
    chosen = task_rows.Filter(states=states, name=pattern, everybodys=everybodys)
    found = paging.page(known.workbench, chosen, _OF_A_PAGE, cursor)
    return rendering.page(
        request,
        "tasks.html",
        known,
        tasks=found["tasks"],
        next=found["next"],
        states=[one.value for one in State],
        state=states[0].value if states else "",
        name=name,
        everybodys=everybodys,
        cursor=cursor,
        is_unfinished=any(not State(one["state"]).is_final for one in found["tasks"]),
    )


def _state(given: str) -> State:
    if given not in State.__members__:
        raise HttpError(400, f"state {given}", "there is no such state", f"It may be {', '.join(State.__members__)}")
    return State(given)


@router.get("/{task_id}")
def one(
    request: Request,
    found: TaskHandle = Depends(task),
    known: Visitor = Depends(visitor),
    log: bool = Query(False, description="show the log so far, for a browser without JavaScript"),
) -> Response:
    """Everything about a task."""
    status = found.status()
    outputs, records = previews.files(found.catalog, found.collection) if status.state.is_final else ([], [])
    return rendering.page(
        request,
        "task.html",
        known,
        task=status,
        sentence=_sentence(status),
        is_own=status.owner == str(known.person.user),
        steps=timeline.steps(status),
        logs=_log(found) if status.state.is_final or log else None,
        outputs=outputs,
        records=records,
        shown=previews.of_results(outputs),
        request_document=_request(found),
        facts=_facts(status),
    )


def _sentence(status: TaskStatus) -> str:
    """The sentence about a task, without its state and its reason, which the page shows as such."""
    said = sentence.of(status).removeprefix(f"{status.state.value.capitalize()} ").strip()
    for shown in (status.reason.rstrip("."), status.waiting_for):
        said = said.replace(f": {shown}", "") if shown else said
    return said


@dataclass(frozen=True)
class ShownLog:
    """The end of what a program wrote to a stream. ``is_cut``: it wrote more before."""

    text: str
    is_cut: bool = False


def _log(found: TaskHandle) -> dict[str, ShownLog]:
    """The last lines of each stream, as text; instead of a log that the person may not read, why not."""
    pieces: dict[str, list[bytes]] = {name: [] for name in STREAMS}
    try:
        logs.show(found, lambda name, piece: pieces[name].append(piece), tail=_LOG_LINES + 1)
    except AccessDenied as error:
        return dict.fromkeys(STREAMS, ShownLog(str(error)))
    return {name: shown_log(b"".join(piece)) for name, piece in pieces.items()}


def shown_log(content: bytes) -> ShownLog:
    """The last lines of what a program wrote, given one more than are shown."""
    is_cut = content.count(b"\n", 0, -1) >= _LOG_LINES
    text = as_text(content[content.index(b"\n") + 1 :] if is_cut else content)
    return ShownLog(text[-_MOST_LOG_CHARACTERS:], is_cut or len(text) > _MOST_LOG_CHARACTERS)


def as_text(content: bytes) -> str:
    """What a program wrote, for a page: without colours, and of a line that it wrote over, the last state."""
    text = _COLOURS.sub("", content.decode("utf-8", "replace"))
    return "\n".join(line.rstrip("\r").rpartition("\r")[2].expandtabs(8) for line in text.split("\n"))


def _request(found: TaskHandle) -> Any:
    """The request as it was accepted; None where it cannot be read any more."""
    with contextlib.suppress(ComputeToDataError):
        return found.recorded_request()
    return None


_FACTS = (
    ("Owner", "owner"),
    ("Role", "role"),
    ("Resource", "resource"),
    ("Why there", "choice"),
    ("Collection", "collection"),
    ("Image", "image"),
    ("Image's content", "image_digest"),
    ("Engine", "engine"),
    ("Version", "version"),
    ("Exit status", "exit_status"),
    ("Reason code", "reason_code"),
    ("Attempts", "attempts"),
    ("Moved to", "moved_to"),
)


def _facts(status: TaskStatus) -> list[tuple[str, str]]:
    found = [(title, getattr(status, name)) for title, name in _FACTS]
    return [(title, str(value)) for title, value in found if value not in ("", None)]


@router.post("/{task_id}/cancel")
def cancel(found: TaskHandle = Depends(task), sent: Form = Depends(form)) -> Response:
    """The worker ends it within seconds."""
    found.cancel()
    return _to(found)


@router.post("/{task_id}/rerun")
def rerun(request: Request, found: TaskHandle = Depends(task), sent: Form = Depends(form)) -> Response:
    """The same again: leads to the new task."""
    again = found.rerun(changed_inputs=sent.has("changed_inputs"))
    gateway_of(request).metrics.submitted.inc()
    return _to(again)


@router.post("/{task_id}/remove")
def remove(found: TaskHandle = Depends(task), sent: Form = Depends(form)) -> Response:
    """A task that has ended, with its results."""
    found.remove()
    return RedirectResponse("/tasks", 303)


def _to(found: TaskHandle) -> Response:
    return RedirectResponse(f"/tasks/{found.id}", 303)
