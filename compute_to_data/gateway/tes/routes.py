"""The addresses of the Task Execution Service. https://github.com/ga4gh/task-execution-schemas"""

from __future__ import annotations

from enum import Enum
from typing import Any, List, Optional

from fastapi import APIRouter, Depends, Query, Request
from starlette.convertors import StringConvertor, register_url_convertor

from compute_to_data import __version__
from compute_to_data.client import finding
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workbench import Workbench
from compute_to_data.documents.tes import BACKEND_PARAMETERS, SECRET
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.gateway.api.common import A_DOCUMENT, document, nothing_unknown, workbench
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.tes import listing, submitting, views
from compute_to_data.gateway.tes.views import View

PREFIX = "/ga4gh/tes/v1"
MOST_LISTED = 2047


class _TaskId(StringConvertor):
    """An id in a path. What follows a colon is none of it."""

    regex = "[^/:]+"


register_url_convertor("tes_id", _TaskId())
router = APIRouter(prefix=PREFIX, tags=["GA4GH TES"], dependencies=[Depends(nothing_unknown)])


class TesState(str, Enum):
    """The states of the specification. Tasks here are never PAUSED, PREEMPTED or UNKNOWN."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETE = "COMPLETE"
    EXECUTOR_ERROR = "EXECUTOR_ERROR"
    SYSTEM_ERROR = "SYSTEM_ERROR"
    CANCELED = "CANCELED"
    PREEMPTED = "PREEMPTED"
    CANCELING = "CANCELING"


def task(task_id: str, bench: Workbench = Depends(workbench)) -> TaskHandle:
    """The task of the path, by its whole id. NotFound also for a task that the person may not read."""
    try:
        found = finding.find(bench, task_id) if task_id.strip("/") == task_id else None
    except (NotFound, InvalidRequest):
        found = None
    if found is None or found.id != task_id:
        raise views.not_tes(task_id)
    return found


@router.get("/service-info", summary="What this service is")
def service_info(bench: Workbench = Depends(workbench)) -> Any:
    """As GA4GH's service-info describes it, with the keys of `backend_parameters` that have an effect."""
    return {
        "id": "compute-to-data",
        "name": "Compute to data for iRODS",
        "type": {"group": "org.ga4gh", "artifact": "tes", "version": "1.1.0"},
        "description": f"Runs tasks on the storage resources of the iRODS zone {bench.zone} that hold their data.",
        "organization": {"name": f"iRODS zone {bench.zone}", "url": "https://irods.org"},
        "version": __version__,
        "storage": [f"irods://{bench.home}"],
        "tesResources_backend_parameters": [*BACKEND_PARAMETERS, f"{SECRET}HOST"],
    }


@router.get("/tasks/service-info", include_in_schema=False)
def earlier_service_info(bench: Workbench = Depends(workbench)) -> Any:
    """The same in TES 1.0, which clients of that version ask for at its address there."""
    now = service_info(bench)
    return {"name": now["name"], "doc": now["description"], "storage": now["storage"]}


@router.post("/tasks", summary="Submit a task", openapi_extra=A_DOCUMENT)
def create(request: Request, bench: Workbench = Depends(workbench), asked: Any = Depends(document)) -> Any:
    """A TES task. Its own collection, with logs and provenance, is in the project's results."""
    gateway: Gateway = request.app.state.gateway
    submitted = submitting.create(bench, gateway, asked)
    gateway.metrics.submitted.inc()
    return {"id": submitted.id}


@router.get("/tasks", summary="List your tasks, newest first")
def listed(
    bench: Workbench = Depends(workbench),
    name_prefix: str = Query("", description="only tasks whose name begins so"),
    state: Optional[TesState] = Query(None, description="only tasks in this state"),
    tag_key: List[str] = Query([], description="only tasks with this tag; repeat for more"),
    tag_value: List[str] = Query([], description="the values of these tags; an empty one admits any"),
    page_size: int = Query(256, ge=1, le=MOST_LISTED, description="at most so many"),
    page_token: str = Query("", max_length=8192, description="`next_page_token` of the page before"),
    view: View = Query(View.MINIMAL, description="how much of each task"),
) -> Any:
    """Tasks that were submitted by TES, and are not archived."""
    if len(tag_value) > len(tag_key):
        raise InvalidRequest("query parameter tag_value", f"found {len(tag_value)} values for {len(tag_key)} keys")
    if len(set(tag_key)) < len(tag_key):
        raise InvalidRequest("query parameter tag_key", "names a key twice", "No task has two values for a key")
    tags = dict(zip(tag_key, [*tag_value, *([""] * (len(tag_key) - len(tag_value)))]))
    wanted = listing.Wanted(name_prefix, state.value if state else "", tags)
    return listing.page(bench, wanted, view, page_size, page_token)


@router.get("/tasks/{task_id:tes_id}", summary="A task")
def one(found: TaskHandle = Depends(task), view: View = Query(View.MINIMAL, description="how much of the task")) -> Any:
    """Its state; in the view BASIC also its document and how its executors ended; in FULL what they wrote."""
    return views.task(found, view)


@router.post("/tasks/{task_id:tes_id}:cancel", summary="Cancel a task")
def cancel(found: TaskHandle = Depends(task)) -> Any:
    """The worker ends it within seconds. 422 when it has ended already, other than by being cancelled."""
    if views.task(found, View.MINIMAL)["state"] not in ("CANCELED", "CANCELING"):
        found.cancel()
    return {}
