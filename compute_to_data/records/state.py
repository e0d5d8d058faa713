"""The states of a task, and the units of the AVU that holds one.

The state is one AVU on the task's collection. Its units name the compute resource, so one plain query finds the next
task of a resource.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from compute_to_data.task import HIGHEST_PRIORITY, LOWEST_PRIORITY


class State(str, Enum):
    """How far a task is. The last three are final: each task reaches exactly one of them, once.

    A task is WAITING while it waits for the success of other tasks; most tasks never are.
    """

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    STAGING_IN = "STAGING_IN"
    RUNNING = "RUNNING"
    STAGING_OUT = "STAGING_OUT"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether no other state follows."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)


UNFINISHED = (State.STAGING_OUT, State.RUNNING, State.STAGING_IN)
FINAL = frozenset(state.value for state in State if state.is_final)
"""The values of the final states."""
_NEVER_BEGUN = {State.QUEUED.value, State.COMPLETED.value}
"""A worker never leaves both, since a task is RUNNING before it is COMPLETED."""
_ONLY_BEGUN = frozenset(state.value for state in (*UNFINISHED, State.COMPLETED))
"""A worker never leaves WAITING beside one of these, since a task is QUEUED before it begins."""


def furthest(found: Iterable[str]) -> State | None:
    """The latest of the states on a task's collection; None when no worker could have left them.

    A collection may briefly have two states, the earlier one and the new one, because iRODS may
    need a second call to remove the earlier one (``zones/irods/avus.py``). Both also stay when a
    worker is killed between the two calls.
    """
    names = set(found)
    if not names or not names <= State.__members__.keys():
        return None
    if len(names & FINAL) > 1 or names >= _NEVER_BEGUN:
        return None
    if State.WAITING.value in names and names & _ONLY_BEGUN:
        return None
    return max((State(name) for name in names), key=list(State).index)


def queue_units(resource: str, priority: int = 0) -> str:
    """The units of a QUEUED task's state: its resource, and its priority unless that is 0. Names of resources have no
    semicolon."""
    return f"{resource};priority={priority}" if priority else resource


def queue_levels(resource: str) -> tuple[str, ...]:
    """The units of the states of all tasks that may be queued on a resource, the highest priority first. No worker
    looks at any other, so a priority that a user has written by hand is one of these."""
    return tuple(queue_units(resource, one) for one in range(HIGHEST_PRIORITY, LOWEST_PRIORITY - 1, -1))


def resource_of(units: str) -> str:
    """The resource in the units of a task's state."""
    return units.partition(";")[0]


def priority_of(units: str) -> int:
    """The priority in units that are one of :func:`queue_levels`."""
    _, _, priority = units.partition(";priority=")
    return int(priority) if priority else 0
