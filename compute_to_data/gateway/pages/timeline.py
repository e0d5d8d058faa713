"""The steps of a task on a line of time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from compute_to_data.client.task_status.status import TaskStatus, unix_time
from compute_to_data.records.state import State

_NAMES = {
    State.WAITING: "Waiting for other tasks",
    State.QUEUED: "In the queue",
    State.STAGING_IN: "Bringing the inputs",
    State.RUNNING: "Running",
    State.STAGING_OUT: "Registering the results",
}
_LEAST_WIDTH = 0.6
"""Per cent: a step that took no time to speak of can be seen all the same."""


@dataclass(frozen=True)
class Step:
    """``start`` and ``width`` in per cent of the whole time. ``is_current``: it goes on."""

    name: str
    state: str
    seconds: float
    start: float
    width: float
    is_current: bool


def steps(status: TaskStatus, now: float | None = None) -> list[Step]:
    """The steps that have begun, in their order. Times that a task's owner has damaged are left out."""
    known = [(unix_time(status.times.get(state.value, "")), state) for state in State]
    # Sorted by time alone: of steps that began at the same moment, the order is that of the states.
    moments = sorted(((when, state) for when, state in known if when is not None), key=lambda one: one[0])
    if not moments:
        return []
    end = moments[-1][0] if status.state.is_final else max(now or time.time(), moments[-1][0])
    begin, whole = moments[0][0], max(end - moments[0][0], 0.001)
    found = []
    for place, (when, state) in enumerate(moments):
        if state.is_final:
            continue
        until = moments[place + 1][0] if place + 1 < len(moments) else end
        width = max(_LEAST_WIDTH, 100 * (until - when) / whole)
        start = min(100 * (when - begin) / whole, 100 - width)
        is_current = place + 1 == len(moments) and not status.state.is_final
        found.append(Step(_NAMES[state], state.value, max(0.0, until - when), start, width, is_current))
    return found
