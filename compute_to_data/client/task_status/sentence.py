"""A task in one sentence: how far it is, since when, where, and what it left."""

from __future__ import annotations

import time

from compute_to_data.client.task_status import endings
from compute_to_data.client.task_status.status import TaskStatus, unix_time
from compute_to_data.client.task_status.wording import ago, duration
from compute_to_data.records.state import State

_DOES = {
    State.WAITING: "Waiting",
    State.QUEUED: "Queued",
    State.STAGING_IN: "Bringing its inputs to the resource",
    State.RUNNING: "Running",
    State.STAGING_OUT: "Registering its results",
}


def of(status: TaskStatus) -> str:
    """The sentence, for example ``Completed 2 minutes ago after 3.4 s on dsp_resc; 3 results in /zone/home/...``."""
    return _ended(status) if status.state.is_final else _going_on(status)


def _going_on(status: TaskStatus) -> str:
    since = _since(status)
    lasts = f" for {duration(since)}" if since is not None else ""
    asked = f"; {status.cancel_asked_by} asked to cancel it" if status.cancel_asked_by else ""
    waits = f": {status.waiting_for}" if status.waiting_for else ""
    return f"{_DOES[status.state]}{lasts} on {status.resource}{asked}{waits}"


def _ended(status: TaskStatus) -> str:
    since = _since(status)
    words = [status.state.value.capitalize()]
    if since is not None:
        words.append(ago(since))
    if "processing" in status.seconds:
        words.append(f"after {duration(status.seconds['processing'])}")
    words.append(f"on {status.resource}")
    why = f": {status.reason.rstrip('.')}" if status.state is not State.COMPLETED and status.reason else ""
    return "; ".join([" ".join(words) + why, *endings.changed(status), *_left(status)])


def _left(status: TaskStatus) -> list[str]:
    """What it left: its results, or what a task that did not complete had written."""
    if status.state is not State.COMPLETED:
        return list(endings.left(status))
    number = next(iter(status.other.get("outputs", ())), "")
    if number == "0":
        return ["it wrote nothing to /outputs"]
    many = f"{number} result{'s' * (number != '1')}" if number else "results"
    return [f"{many} in {status.collection}"]


def _since(status: TaskStatus) -> float | None:
    """For how many seconds it is in its state; None when that was not recorded."""
    moment = unix_time(status.times.get(status.state.value, ""))
    return None if moment is None else max(0.0, time.time() - moment)
