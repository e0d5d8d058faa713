"""How many bytes the worker has brought to the resource for tasks that have not ended, for each user."""

from __future__ import annotations

import threading

from compute_to_data.errors import OutOfReach, Refused
from compute_to_data.model import User


class StagedBytes:
    """Counts in memory, which is enough: one worker serves a resource, and after a restart the tasks that go on are
    counted again. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._staged: dict[str, tuple[User, dict[str, int]]] = {}

    def of(self, owner: User) -> int:
        """The bytes that are staged for all tasks of a user."""
        with self._lock:
            return self._of(owner)

    def _of(self, owner: User) -> int:
        return sum(sum(sizes.values()) for user, sizes in self._staged.values() if user == owner)

    def add(self, task: str, owner: User, data_object: str, size: int, most: int | None) -> None:
        """Count an input that is about to be staged.

        OutOfReach when its user would have more than ``most`` bytes with it: the task waits until others have ended.
        Refused when the task alone would have more.
        """
        with self._lock:
            own = self._staged.get(task, (owner, {}))[1]
            after = {**own, data_object: size}
            if most is not None and data_object not in own:
                _need_room(owner, sum(after.values()), self._of(owner) - sum(own.values()), most)
            self._staged[task] = (owner, after)

    def release(self, task: str) -> None:
        """Forget what was staged for a task, because it has ended."""
        with self._lock:
            self._staged.pop(task, None)


def _need_room(owner: User, size: int, others: int, most: int) -> None:
    subject = f"user {owner}"
    if size > most:
        cause = f"the inputs that the task has to stage have at least {size} bytes; a user may stage {most} at a time"
        raise Refused(subject, cause, "Use smaller inputs, or a resource that holds them already")
    if size + others > most:
        cause = f"their other tasks have staged {others} bytes, and a user may stage {most} at a time"
        raise OutOfReach(subject, cause, "The task continues when one of them has ended")
