"""A task of ours as a TES task: its state, its document, and its logs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from compute_to_data.client.task_status.status import TaskStatus
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.documents import task_json
from compute_to_data.errors import ComputeToDataError, NotFound, ReasonCode
from compute_to_data.gateway.tes.submitting import WARNING
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.pipeline.results.placing import PLACED
from compute_to_data.pipeline.results.put_urls import PUT_TO
from compute_to_data.pipeline.running.apart import EXECUTORS
from compute_to_data.records.state import State
from compute_to_data.records.task import timestamp
from compute_to_data.task import REQUEST_NAME, STDERR_NAME, STDOUT_NAME
from compute_to_data.tes_task import PlacedKind, TesTask

_SHOWN_BYTES = 1 << 16
"""The most bytes of each stream of an executor that the view FULL shows: the last ones."""
_STATES = {
    State.WAITING: "QUEUED",
    State.QUEUED: "QUEUED",
    State.STAGING_IN: "INITIALIZING",
    State.RUNNING: "RUNNING",
    State.STAGING_OUT: "RUNNING",
    State.COMPLETED: "COMPLETE",
    State.CANCELLED: "CANCELED",
}
_OF_THE_PROGRAM = frozenset(
    reason.value
    for reason in (
        ReasonCode.NONZERO_EXIT,
        ReasonCode.OUT_OF_MEMORY,
        ReasonCode.WALLTIME_EXCEEDED,
        ReasonCode.OUTPUT_LIMIT,
        ReasonCode.OUTPUT_MISSING,
        ReasonCode.OUTPUT_REFUSED,
    )
)
"""Reasons that the program can mend."""


class View(str, Enum):
    """How much of a task is shown."""

    MINIMAL = "MINIMAL"
    BASIC = "BASIC"
    FULL = "FULL"


def state_of(state: State, reason_code: str, is_cancelling: bool) -> str:
    """The TES state."""
    if state is State.FAILED:
        return "EXECUTOR_ERROR" if reason_code in _OF_THE_PROGRAM else "SYSTEM_ERROR"
    return "CANCELING" if is_cancelling and not state.is_final else _STATES[state]


def task(handle: TaskHandle, view: View) -> dict[str, Any]:
    """The TES task. NotFound for a task that was not submitted as one."""
    status = handle.status()
    state = state_of(status.state, status.reason_code, bool(status.cancel_asked_by))
    path = f"{handle.collection}/{REQUEST_NAME}"
    recorded = task_json.recorded_task(handle.catalog.read(path, task_json.LARGEST), path)
    if recorded.tes is None:
        raise not_tes(handle.id)
    if view is View.MINIMAL:
        return {"id": handle.id, "state": state}
    document = {**_filled(recorded.tes.document, view), "id": handle.id, "state": state}
    document["creation_time"] = timestamp(handle.catalog.stat(handle.collection).created)
    document["logs"] = [_log(handle, status, recorded.tes, view)] if State.RUNNING.value in status.times else []
    if not document["logs"] and status.state.is_final:
        document["logs"] = [_log(handle, status, recorded.tes, view)]
    return document


def not_tes(task_id: str) -> NotFound:
    """The error for a task that TES does not show."""
    cause = "does not exist, you may not read it, or it was not submitted by TES"
    return NotFound(f"task {task_id[:80]}", cause, "GET /ga4gh/tes/v1/tasks lists them")


def _filled(document: Mapping[str, Any], view: View) -> dict[str, Any]:
    """The document as it was accepted, with the types of its files."""
    found = dict(document)
    for side in ("inputs", "outputs"):
        if side in found:
            found[side] = [{"type": "FILE", **one} for one in found[side]]
    if view is View.BASIC and "inputs" in found:
        hidden = [{name: value for name, value in one.items() if name != "content"} for one in found["inputs"]]
        found["inputs"] = hidden
    return found


def _log(handle: TaskHandle, status: TaskStatus, tes: TesTask, view: View) -> dict[str, Any]:
    executors = _executors(handle, status, view)
    # The worker notes the state a little after the first executor has begun.
    begun = [one["start_time"] for one in executors[:1]] or [status.times.get(State.RUNNING.value)]
    times = {"start_time": begun[0], "end_time": None}
    if status.state.is_final:
        times["end_time"] = status.times.get(status.state.value)
    metadata = {"resource": status.resource, "collection": status.collection, "image_digest": status.image_digest}
    found: dict[str, Any] = {
        **{name: value for name, value in times.items() if value},
        "logs": executors,
        "metadata": {name: value for name, value in metadata.items() if value},
        "outputs": _outputs(handle, tes),
    }
    if view is View.FULL:
        said = (status.reason, status.choice, *status.other.get("note", ()), *status.other.get(WARNING, ()))
        found["system_logs"] = [one for one in said if one]
    return found


def _executors(handle: TaskHandle, status: TaskStatus, view: View) -> list[dict[str, Any]]:
    """The executors that have ended."""
    steps = _steps(next(iter(status.other.get(EXECUTORS, ())), "[]"))
    logs = [{"start_time": timestamp(one[1]), "end_time": timestamp(one[2]), "exit_code": one[0]} for one in steps]
    if view is View.FULL and status.state.is_final:
        for member, name, place in (("stdout", STDOUT_NAME, 3), ("stderr", STDERR_NAME, 4)):
            texts = _texts(handle, name, [one[place] for one in steps])
            for log, text in zip(logs, texts):
                log[member] = text
    return logs


def _steps(text: str) -> list[list[Any]]:
    """How each executor ended. The owner of a task can write its AVUs, so a malformed value counts as none."""
    try:
        found = json.loads(text)
        checked = [[int(one[0]), float(one[1]), float(one[2]), int(one[3]), int(one[4])] for one in found]
        _ = [timestamp(moment) for one in checked for moment in one[1:3]]
        return [one for one in checked if min(one[3:]) >= 0 and abs(one[0]) < 1 << 31]
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, OSError):
        return []


def _texts(handle: TaskHandle, name: str, sizes: Sequence[int]) -> list[str]:
    """The end of what each executor wrote. The last one's is what remains of the file."""
    path, found, begin = f"{handle.collection}/{name}", [], 0
    try:
        stream = handle.catalog.stat(path)
        size = stream.size if isinstance(stream, DataObject) else 0
        with handle.catalog.open_to_read(path) as opened:
            for number, each in enumerate(sizes):
                end = size if number == len(sizes) - 1 else min(begin + each, size)
                start = max(begin, end - _SHOWN_BYTES)
                found.append(opened.read(start, end - start).decode("utf-8", "replace") if end > start else "")
                begin = end
    except ComputeToDataError:  # an executor that wrote nothing leaves no file
        return [""] * len(sizes)
    return found


def _outputs(handle: TaskHandle, tes: TesTask) -> list[dict[str, str]]:
    attributes = handle.workbench.attributes
    placed, put = attributes.named(PLACED), attributes.named(PUT_TO)
    avus = handle.catalog.avus(Entity(EntityKind.COLLECTION, handle.collection), placed, put)
    found = []
    for avu in sorted(avus, key=lambda one: one.value):
        if avu.attribute == placed:
            found.append({"url": f"irods://{avu.value}", "path": _path(tes, avu.value), "size_bytes": avu.units or "0"})
        else:
            found.append({"url": avu.value, "path": _path_of(tes, avu), "size_bytes": _size(handle, avu)})
    return found


def _path(tes: TesTask, logical_path: str) -> str:
    """The path in the sandbox of a result at a logical path."""
    for one in tes.placed:
        if logical_path == one.logical_path and one.kind is PlacedKind.FILE:
            return one.path
        if one.kind is not PlacedKind.FILE and logical_path.startswith(f"{one.logical_path}/"):
            return f"{one.path}{logical_path[len(one.logical_path) :]}"
    return ""


def _path_of(tes: TesTask, avu: Avu) -> str:
    urls = {str(one.get("url", "")): str(one["path"]) for one in tes.document.get("outputs", ())}
    return urls.get(avu.value) or f"/outputs/{avu.units}"


def _size(handle: TaskHandle, avu: Avu) -> str:
    try:
        found = handle.catalog.stat(f"{handle.collection}/{avu.units}")
    except ComputeToDataError:
        return "0"
    return str(found.size) if isinstance(found, DataObject) else "0"
