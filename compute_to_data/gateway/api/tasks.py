"""Tasks: submit, list, look, cancel, run again, remove, and fetch what they left."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, List, Optional

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from compute_to_data.client import finding, logs, task_rows, tasks
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import InvalidRequest
from compute_to_data.gateway.api import content, paging
from compute_to_data.gateway.api.common import A_DOCUMENT, created, document, workbench
from compute_to_data.gateway.following import SharedLog
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.log_file import STREAMS
from compute_to_data.records.state import State

router = APIRouter(prefix="/tasks", tags=["tasks"])
MOST_LISTED = 1000


class _EventStream(StreamingResponse):
    media_type = "text/event-stream"


_EVENT = {
    "type": "object",
    "required": ["event", "data", "id"],
    "properties": {name: {"type": "string"} for name in ("event", "data", "id")},
}


def task(task_id: str, bench: Workbench = Depends(workbench)) -> TaskHandle:
    """The task of the path, by its id or a beginning of it that no other task has. NotFound also for a task that
    the person may not read."""
    return finding.find(bench, task_id.lstrip("/"))


@router.post("", status_code=201, summary="Submit a task", openapi_extra=A_DOCUMENT)
def submit(
    request: Request,
    bench: Workbench = Depends(workbench),
    asked: Any = Depends(document),
    resource: str = Query("", min_length=1, description="the compute resource, overriding the request"),
    output_collection: str = Query(
        "", min_length=1, description="the collection for the results, overriding the request"
    ),
    image: str = Query("", min_length=1, description="the image, overriding the request"),
    after: List[str] = Query([], description="begin when this task has completed; repeat for more"),
    reuse: bool = Query(False, description="return an identical task that has completed, if there is one"),
    priority: Optional[int] = Query(None, ge=-10, le=10, description="the order among one's own tasks"),
) -> JSONResponse:
    """The request is in our own format or in another one that `c2d submit` takes. 201 with `Location`; 200 for an
    earlier task that is reused. Why a new task waits, and its place in the line, is at its own address."""
    submitted = tasks.submit(
        bench,
        asked,
        resource=resource,
        output_collection=bench.absolute(output_collection) if output_collection else "",
        image=image,
        after=after,
        reuse=reuse,
        priority=priority,
    )
    if submitted.is_reused:
        return JSONResponse(submitted.status().document())
    _gateway(request).metrics.submitted.inc()
    return created(f"tasks/{submitted.id}", submitted.status(reasons=False).document())


@router.get("", summary="List tasks, newest first")
def listed(
    bench: Workbench = Depends(workbench),
    state: List[State] = Query([], description="only tasks in this state; repeat for more"),
    name: str = Query("", description="only tasks of this name, or of a pattern such as filter*"),
    role: str = Query("", description="only tasks of this role"),
    resource: str = Query("", description="only tasks on this compute resource"),
    since: str = Query("", description="only tasks submitted since this time (ISO 8601)"),
    until: str = Query("", description="only tasks submitted until this time (ISO 8601)"),
    everybodys: bool = Query(False, description="also tasks of others that you may read"),
    limit: int = Query(50, ge=1, le=MOST_LISTED, description="at most so many"),
    cursor: str = Query("", max_length=8192, description="`next` of the page before"),
) -> Any:
    """`tasks`, and in `next` the cursor of the next page, or null."""
    chosen = task_rows.Filter(
        states=tuple(state),
        role=role,
        resource=resource,
        name=name,
        since=_moment(since, "since"),
        until=_moment(until, "until"),
        everybodys=everybodys,
    )
    return paging.page(bench, chosen, limit, cursor)


@router.get("/{task_id}", summary="Everything known about a task")
def status(found: TaskHandle = Depends(task)) -> Any:
    """As `c2d status --output json`."""
    return found.status().document()


@router.get("/{task_id}/request", summary="The request, as it was accepted")
def request_of(found: TaskHandle = Depends(task)) -> Any:
    """In our own format."""
    return found.recorded_request()


@router.post("/{task_id}/cancel", status_code=202, summary="Cancel a task")
def cancel(found: TaskHandle = Depends(task)) -> Any:
    """The worker ends it within seconds. 422 when it has ended already."""
    found.cancel()
    return found.status().document()


@router.post("/{task_id}/rerun", status_code=201, summary="Submit the same again")
def rerun(
    request: Request,
    found: TaskHandle = Depends(task),
    changed_inputs: bool = Query(False, description="on its inputs as they are now, if they have changed"),
) -> JSONResponse:
    """A new task on the same data objects. 422 when they have changed."""
    again = found.rerun(changed_inputs=changed_inputs)
    _gateway(request).metrics.submitted.inc()
    return created(f"tasks/{again.id}", again.status(reasons=False).document())


@router.delete("/{task_id}", summary="Remove a task that has ended, with its results")
def remove(found: TaskHandle = Depends(task)) -> Any:
    """What was removed. 422 while it has not ended, or while another task depends on it."""
    return vars(found.remove())


@router.get("/{task_id}/logs", summary="What the program wrote", response_class=PlainTextResponse)
def log_text(
    found: TaskHandle = Depends(task),
    stream: str = Query("stdout", pattern="^(stdout|stderr)$"),
    tail: Optional[int] = Query(None, ge=0, le=1_000_000, description="only so many last lines"),
) -> Response:
    """So far, while the task runs. As plain text."""
    pieces: dict[str, list[bytes]] = {name: [] for name in STREAMS}
    logs.show(found, lambda name, piece: pieces[name].append(piece), tail=tail)
    return PlainTextResponse(b"".join(pieces[stream]), headers=content.HEADERS)


async def _shared_log(request: Request, task_id: str, bench: Workbench = Depends(workbench)) -> SharedLog:
    """The log of a task, which the person's followers share. NotFound; HttpError 503 when too many are followed."""

    def find() -> TaskHandle:
        found = finding.find(bench, task_id)
        _ = found.state  # NotFound as long as it can be said with a status
        return found

    return await _gateway(request).following.found(bench.user, task_id, find)


@router.get(
    "/{task_id}/logs/events",
    summary="What the program writes, as server-sent events",
    response_class=_EventStream,
    responses={200: {"content": {"text/event-stream": {"schema": _EVENT}}}},
)
async def log_events(request: Request, log: SharedLog = Depends(_shared_log)) -> Response:
    """From the beginning, or after the event of `Last-Event-ID`, until the task has ended. `stdout`, `stderr` and
    `note` have a `text`; `state` and `end` the task's `state`; `restart` says that all is sent once more."""
    events = _gateway(request).following.events(log, request.headers.get("last-event-id", ""))
    headers = {**content.HEADERS, "X-Accel-Buffering": "no"}  # nginx would collect them
    return _EventStream(events, headers=headers)


@router.get("/{task_id}/results", summary="The files in a task's collection")
def results(
    found: TaskHandle = Depends(task),
    path: str = Query("", max_length=1087, description="a folder, a file, or a pattern such as *.csv"),
    recursive: bool = Query(True, description="also what is in its folders"),
) -> Any:
    """With sizes and checksums: outputs, logs, the request and the provenance."""
    return [one.document() for one in found.files(path, recursive=recursive)]


@router.get(
    "/{task_id}/results/{path:path}",
    summary="The content of a file",
    response_class=Response,
    responses=content.ANSWERS,
)
async def result(request: Request, path: str, found: TaskHandle = Depends(task)) -> Response:
    """The whole, or a part with the header `Range`. The entity tag is the checksum."""
    return await content.data_object(request, found.catalog, content.below(found.collection, path))


def _moment(text: str, name: str) -> float | None:
    """Unix seconds of a time in ISO 8601, by default in UTC."""
    if not text:
        return None
    try:
        # Python 3.9 does not know the Z.
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (ValueError, OverflowError):
        expected = "expected a time such as 2026-11-29T10:00:00Z"
        raise InvalidRequest(f"query parameter {name}", f"found {text[:80]!r}, {expected}") from None


def _gateway(request: Request) -> Gateway:
    found: Gateway = request.app.state.gateway
    return found
