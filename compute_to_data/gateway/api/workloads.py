"""Workloads: many short tasks of one image, in sandboxes that are kept warm."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse

from compute_to_data.client import workloads
from compute_to_data.client.workbench import Workbench
from compute_to_data.client.workloads import WorkloadHandle
from compute_to_data.documents.schema import Schema, problems, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.gateway.api.common import A_DOCUMENT, created, document, workbench
from compute_to_data.records.task import timestamp

router = APIRouter(prefix="/workloads", tags=["workloads"])
_TEXTS = {"type": "object", "additionalProperties": {"type": "string", "title": "a text"}}
_START = Schema(
    {
        "title": "a workload, which is an object",
        "type": "object",
        "required": ["image"],
        "properties": {
            **{name: {"type": "string", "minLength": 1} for name in ("image", "role", "resource", "name")},
            "input_dataset": {"type": "string", "minLength": 1},
            "instances": {"type": "integer", "title": "an integer"},
            "environment": _TEXTS,
            "limits": {"type": "object"},
        },
        "additionalProperties": False,
    }
)
"""``submission.workloads.accept`` checks the values themselves."""
_TASK = Schema(
    {
        "title": "a task of a workload, which is an object",
        "type": "object",
        "required": ["command"],
        "properties": {
            "command": {"type": "array", "minItems": 1, "items": {"type": "string", "title": "a text"}},
            "stdin": {"type": "string", "title": "a text"},
            "name": {"type": "string", "title": "a text"},
            "environment": _TEXTS,
            "walltime_seconds": {"type": "number", "title": "a number"},
            "secrets": {"type": "array", "items": {"type": "string", "title": "a name"}},
        },
        "additionalProperties": False,
    }
)


def workload(workload_id: str, bench: Workbench = Depends(workbench)) -> WorkloadHandle:
    """The workload of the path. NotFound."""
    return workloads.find(bench, workload_id.lstrip("/"))


@router.get("", summary="The workloads of the project, newest first")
def listed(bench: Workbench = Depends(workbench)) -> Any:
    """As `c2d workload list --output json`."""
    return [vars(one) for one in workloads.listed(bench)]


@router.post("", status_code=201, summary="Start a workload", openapi_extra=A_DOCUMENT)
def start(bench: Workbench = Depends(workbench), asked: Any = Depends(document)) -> JSONResponse:
    """The document has `image`, and may have `name`, `input_dataset`, `instances`, `role`, `resource`,
    `environment` and `limits`."""
    _need(asked, _START)
    started = workloads.start(bench, asked.pop("image"), **asked)
    return created(f"workloads/{started.id}", _described(started))


@router.get("/{workload_id}", summary="A workload, and how many of its tasks are in each state")
def described(found: WorkloadHandle = Depends(workload)) -> Any:
    """What was asked for, and the tasks by state."""
    return _described(found)


@router.get("/{workload_id}/tasks", summary="The tasks of a workload, newest first")
def tasks_of(found: WorkloadHandle = Depends(workload)) -> Any:
    """Their ids, names and states."""
    return [vars(one) for one in found.tasks()]


@router.post("/{workload_id}/tasks", status_code=201, summary="Queue a task", openapi_extra=A_DOCUMENT)
def create_task(found: WorkloadHandle = Depends(workload), asked: Any = Depends(document)) -> JSONResponse:
    """The document has `command`, a list of words, and may have `stdin`, `name`, `environment`, `walltime_seconds` and
    `secrets`. 422 when the workload is stopped."""
    _need(asked, _TASK)
    stdin = asked.pop("stdin", None)
    task = found.create_task(asked.pop("command"), stdin=None if stdin is None else stdin.encode(), **asked)
    return created(f"tasks/{task.id}", task.status().document())


@router.post("/{workload_id}/stop", summary="Stop a workload")
def stop(found: WorkloadHandle = Depends(workload)) -> Any:
    """It accepts no more tasks. `cancelled`: the unfinished tasks, which are cancelled."""
    return {"cancelled": [one.id for one in found.stop()]}


@router.delete("/{workload_id}", summary="Remove a stopped workload with its tasks and their results")
def remove(found: WorkloadHandle = Depends(workload)) -> Any:
    """What was removed."""
    return vars(found.remove())


def _described(found: WorkloadHandle) -> dict[str, Any]:
    known = found.describe()
    return {
        "workload": known.workload_id,
        "state": known.state,
        "created": timestamp(known.created),
        "collection": known.collection,
        "request": known.workload.document(),
        "tasks": dict(known.tasks),
    }


def _need(asked: Any, schema: Schema) -> None:
    found = problems(asked, schema)
    if found:
        raise InvalidRequest(*summary(found))
