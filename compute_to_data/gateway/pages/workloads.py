"""The pages of workloads."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from compute_to_data.client import workloads
from compute_to_data.client.workloads import WorkloadHandle
from compute_to_data.gateway.pages import rendering
from compute_to_data.gateway.pages.forms import Form, form
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.visitor import Visitor, visitor
from compute_to_data.records.state import State
from compute_to_data.records.task import timestamp
from compute_to_data.records.workload import WorkloadState

router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/workloads")
_MOST_TASKS = 200


def workload(workload_id: str, known: Visitor = Depends(visitor)) -> WorkloadHandle:
    """The workload of the path. NotFound."""
    return workloads.find(known.workbench, workload_id.lstrip("/"))


@router.get("")
def listed(request: Request, known: Visitor = Depends(visitor)) -> Response:
    """Newest first."""
    return rendering.page(request, "workloads.html", known, workloads=workloads.listed(known.workbench))


@router.get("/{workload_id}")
def one(request: Request, found: WorkloadHandle = Depends(workload), known: Visitor = Depends(visitor)) -> Response:
    """A workload, and its newest tasks."""
    described = found.describe()
    tasks = found.tasks()
    counts = [(state.value, described.tasks.get(state.value, 0)) for state in State]
    return rendering.page(
        request,
        "workload.html",
        known,
        workload=described,
        asked=described.workload,
        created=timestamp(described.created),
        counts=[(state, count) for state, count in counts if count],
        total=len(tasks),
        tasks=tasks[:_MOST_TASKS],
        is_started=described.state == WorkloadState.STARTED.value,
        is_unfinished=any(not State(task.state).is_final for task in tasks),
    )


@router.post("/{workload_id}/stop")
def stop(found: WorkloadHandle = Depends(workload), sent: Form = Depends(form)) -> Response:
    """It accepts no more tasks, and its unfinished tasks are cancelled."""
    found.stop()
    return RedirectResponse(f"/workloads/{found.id}", 303)


@router.post("/{workload_id}/remove")
def remove(found: WorkloadHandle = Depends(workload), sent: Form = Depends(form)) -> Response:
    """A stopped workload, with its tasks and their results."""
    found.remove()
    return RedirectResponse("/workloads", 303)
