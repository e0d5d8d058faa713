"""Many tasks at the same time: how far they are, with few questions to the catalog, and waiting for all ends."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compute_to_data.client.task_status.hold_ups import HoldUps
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.coordination.pauses import WaitingPauses
from compute_to_data.model import EntityKind, Query, Row
from compute_to_data.records.state import State, furthest, resource_of

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_CALL_AGAIN_SECONDS = 5.0
"""How often to call a worker on demand again, because it may have been killed."""


@dataclass(frozen=True)
class Counts:
    """How many tasks there are, and how many of them completed, failed or were cancelled, and run now."""

    total: int
    completed: int
    failed: int
    running: int

    def __str__(self) -> str:
        return f"{self.completed} of {self.total} done, {self.failed} failed, {self.running} running"


def wait(
    workbench: Workbench,
    tasks: Sequence[str],
    on_change: Callable[[Counts], None] = lambda counts: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> dict[str, State | None]:
    """Wait until all tasks, given by their collections, have ended; returns their final states.

    None for a task that was removed. ``on_change`` receives the counts whenever they are others, ``on_note`` why no
    task begins on a resource.
    """
    ended: dict[str, State | None] = {}
    pauses, next_call, last = WaitingPauses(_FIRST_PAUSE, _LONGEST_PAUSE), 0.0, None
    hold_ups = HoldUps(workbench)
    while True:
        left = [one for one in tasks if one not in ended]
        rows = _rows(workbench, left)
        states = _states(left, rows)
        ended.update((one, state) for one, state in states.items() if state is None or state.is_final)
        counts = _counts(len(tasks), {**states, **ended})
        if counts != last:
            last = counts
            on_change(counts)
        if len(ended) == len(tasks):
            return {one: ended[one] for one in tasks}
        if time.monotonic() >= next_call:
            waiting = {resource_of(row.units): row.collection for row in rows if row.collection not in ended}
            for resource, collection in waiting.items():
                TaskHandle(workbench, collection).call_worker()
                if why := hold_ups.news(resource):
                    on_note(why)
            next_call = time.monotonic() + _CALL_AGAIN_SECONDS
        pauses.pause()


def _rows(workbench: Workbench, tasks: Sequence[str]) -> list[Row]:
    """The rows with the states of tasks."""
    query = Query(EntityKind.COLLECTION, workbench.attributes.state)
    return [row for part in query.among_each(tasks) for row in workbench.catalog.query(part)]


def _states(tasks: Sequence[str], rows: Sequence[Row]) -> dict[str, State | None]:
    values: dict[str, list[str]] = {one: [] for one in tasks}
    for row in rows:
        values[row.collection].append(row.value)
    return {one: furthest(found) for one, found in values.items()}


def _counts(total: int, states: Mapping[str, State | None]) -> Counts:
    each = Counter(states.values())
    failed = each[State.FAILED] + each[State.CANCELLED] + each[None]
    running = each[State.STAGING_IN] + each[State.RUNNING] + each[State.STAGING_OUT]
    return Counts(total, each[State.COMPLETED], failed, running)
