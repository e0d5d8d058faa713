"""How many bytes tasks are about to bring to the vault: together they must not promise the same free space twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from compute_to_data.errors import OutOfReach, ReasonCode, TaskFailed
from compute_to_data.pipeline.vault.vault_room import VaultRoom


class Arriving:
    """Counts for one worker. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes: Counter[str] = Counter()

    @contextmanager
    def promised(self, task: str, size: int, room: VaultRoom) -> Iterator[None]:
        """Keep room in the vault for the inputs of a task, ``size`` bytes, in this context.

        TaskFailed (``vault_full``) when the vault has none. OutOfReach when other tasks' inputs will take it: the task
        waits.
        """
        with self._lock:
            if size:
                _need(size, sum(self._bytes.values()), room)
            self._bytes[task] += size
        try:
            yield
        finally:
            with self._lock:
                del self._bytes[task]

    def arrived(self, task: str, size: int) -> None:
        """Note that an input is in the vault, where it takes free space."""
        with self._lock:
            self._bytes[task] = max(0, self._bytes[task] - size)


def _need(size: int, others: int, room: VaultRoom) -> None:
    free = room.free()
    if free is None:
        return
    if size > free:
        cause = f"has {free} bytes free besides its reserve, and the inputs to replicate there have {size} bytes"
        remedy = "Use a resource that holds the inputs, or submit it again when an administrator has made room"
        raise TaskFailed(ReasonCode.VAULT_FULL, room.subject, cause, remedy)
    if size > free - others:
        cause = f"has {free} bytes free besides its reserve, and the inputs of other tasks will take {others} of them"
        raise OutOfReach(room.subject, cause, "The task continues when they are there")
