"""The bounds on what a task fetches from URLs: as for staging (``staging_room``), but a file's size may be known only
when it has arrived."""

from __future__ import annotations

from contextlib import ExitStack

from compute_to_data.errors import ReasonCode, Refused, TaskFailed
from compute_to_data.model import lineage
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.vault.vault_room import VaultRoom

_STEP = 16 << 20
"""After how many bytes of a file of unknown size the worker counts them for its user."""


class FetchRoom:
    """What one task may fetch: its limit, the quota and the bound of its owner, and the room in the vault.

    A context in which the room for the file that is fetched at the moment is promised to it.
    """

    def __init__(self, execution: Execution) -> None:
        context = execution.context
        self._execution = execution
        self._vault = VaultRoom(context.resource, context.configuration.worker.vault_reserve_bytes)
        self._most = context.configuration.effective_limits(execution.task.limits, None).input_bytes
        self._root = lineage(context.resource, context.catalog.resources())
        self._left = context.storage.quota_left(context.catalog.user, [one.name for one in self._root])
        self._promise = ExitStack()
        self._path = ""
        self._before = self._size = self._counted = 0

    def __enter__(self) -> FetchRoom:
        return self

    def __exit__(self, *_: object) -> None:
        self._promise.close()

    def begin(self, logical_path: str) -> None:
        """Note that another file is fetched."""
        self._promise.close()
        self._before += self._size
        self._path, self._size, self._counted = logical_path, 0, 0

    def need(self, size: int, *, whole: bool = False) -> None:
        """Note that the file has, or will have, ``size`` bytes; ``whole``: and no more.

        Refused, TaskFailed (``vault_full``) or OutOfReach when it may not.
        """
        self._need_limits(size)
        if whole or not self._counted or size - self._counted >= _STEP:
            self._count(size)
        if size and not self._size:
            context = self._execution.context
            promised = context.in_use.arriving.promised(self._execution.record.collection, size, self._vault)
            self._promise.enter_context(promised)
        self._size = size

    def _need_limits(self, size: int) -> None:
        total, subject = self._before + size, f"input {self._path}"
        having = f"has at least {size} bytes" + (f", {total} with what was fetched before it" if self._before else "")
        if total > self._most:
            cause = f"{having}, but the task may bring at most {self._most}"
            raise Refused(subject, cause, "Ask for more in limits.input_bytes")
        if self._left is not None and total > self._left:
            cause = f"{having}, but your quota on {self._root[-1].name} has room for {max(0, self._left)}"
            raise Refused(subject, cause, "Remove what is not needed, or ask an administrator for more")

    def _count(self, size: int) -> None:
        context = self._execution.context
        most = context.configuration.worker.per_user.staged_bytes
        key = f"{self._path} from {self._counted}"
        added = size - self._counted
        context.in_use.staged_bytes.add(self._execution.record.collection, context.catalog.user, key, added, most)
        self._counted = size

    def need_reserve(self) -> None:
        """TaskFailed when the vault has less free space than its reserve."""
        lack = self._vault.lack()
        if lack:
            raise TaskFailed(
                ReasonCode.VAULT_FULL,
                self._vault.subject,
                f"{lack}, while the worker fetches {self._path}",
                "Submit it again when there is room; an administrator can make room",
            )

    @property
    def fetched(self) -> int:
        """The bytes of all files so far."""
        return self._before + self._size
