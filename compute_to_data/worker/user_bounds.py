"""What one user may have on a resource at a time: running tasks, waiting tasks, and staged bytes (``worker.per_user``).

A user with as many running tasks, or as many staged bytes, as the site allows waits for them to end. The submission
refuses a task beyond the waiting ones (``submission/submit.py``); the worker refuses those that reached the catalog
all the same, the newest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from compute_to_data.model import EntityKind, Query, User
from compute_to_data.pipeline.execution import ServedResource
from compute_to_data.pipeline.replication.staged_bytes import StagedBytes
from compute_to_data.records.state import State, queue_levels
from compute_to_data.worker.line import InLine
from compute_to_data.worker.pace import Pace

_AT_ONCE = 16


class UserBounds:
    """The bounds of one worker's resource."""

    def __init__(self, served: ServedResource, staged_bytes: StagedBytes, pace: Pace) -> None:
        self._served = served
        self._staged_bytes = staged_bytes
        self._pace = pace
        self._bounds = served.configuration.worker.per_user

    def may_begin(self, owner: User, taken: int) -> bool:
        """Whether a user who has this many tasks here may begin one more."""
        running, staged = self._bounds.running, self._bounds.staged_bytes
        if (running is not None and taken >= running) or not self._pace.may_begin(owner):
            return False
        return staged is None or not taken or self._staged_bytes.of(owner) < staged

    def excess(self, line: Iterable[InLine]) -> list[str]:
        """Some tasks that wait although their owner has too many waiting, the newest first."""
        most = self._bounds.waiting
        found: list[str] = []
        for one in line:
            if most is None or one.waiting <= most or len(found) >= _AT_ONCE:
                continue
            attribute, units = self._served.configuration.attributes.state, queue_levels(self._served.resource.name)
            limit = min(_AT_ONCE, one.waiting - most)
            state = Query(EntityKind.COLLECTION, attribute, State.QUEUED.value, units, owner=one.owner)
            found += self._served.storage.find(replace(state, newest_first=True, limit=limit))
        return found
