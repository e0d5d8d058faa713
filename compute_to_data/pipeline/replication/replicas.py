"""Replicas of inputs on the compute resource: which ones a task may read, and which are in use."""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakValueDictionary

from compute_to_data.errors import Code, EngineError, zone_error
from compute_to_data.inputs.references import Staged
from compute_to_data.model import (
    DataObject,
    Replica,
    ReplicaStatus,
    Resource,
)
from compute_to_data.pipeline.replication.staged_bytes import StagedBytes
from compute_to_data.pipeline.vault.arriving import Arriving


def usable_replica(data_object: DataObject, resource: Resource) -> Replica | None:
    """The good replica on the compute resource, or None when the worker must make one.

    -405000 or -406000 when a transfer is writing a replica there.
    """
    good = data_object.good_replica_on(resource.name)
    if good is not None:
        return good
    for replica in data_object.replicas:
        if resource.name not in replica.hierarchy.split(";"):
            continue
        if replica.status in (ReplicaStatus.READ_LOCKED, ReplicaStatus.WRITE_LOCKED):
            raise _busy(Code.LOCKED_DATA_OBJECT_ACCESS, data_object, replica)
        if replica.status is ReplicaStatus.INTERMEDIATE:
            raise _busy(Code.INTERMEDIATE_REPLICA_ACCESS, data_object, replica)
    return None


def _busy(code: Code, data_object: DataObject, replica: Replica) -> Exception:
    return zone_error(
        code,
        data_object.logical_path,
        f"replica {replica.number} on {replica.leaf} is {replica.status.name.lower()}",
        "Submit the task again when the transfer has ended",
    )


def check_physical(staged: Staged) -> Staged:
    """Returns it with the time of its file.

    EngineError unless the replica is a regular file where the catalog says it is. A symbolic link is refused, because
    the mount would follow it.
    """
    try:
        status = os.lstat(staged.replica.physical_path)
    except OSError as error:
        raise EngineError(
            staged.data_object.logical_path,
            f"its replica {staged.replica.number} is not in the vault of {staged.replica.leaf} ({error.strerror})",
            "An administrator checks with ichksum whether the catalog and the vault agree",
            code=Code.UNIX_FILE_STAT_ERR,
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise EngineError(
            staged.data_object.logical_path,
            f"its replica {staged.replica.number} is not a regular file in the vault",
            code=Code.UNIX_FILE_STAT_ERR,
        )
    return replace(staged, modified=status.st_mtime_ns)


class InUse:
    """Counts which inputs the worker's tasks are using, so that no task trims a replica that another one uses.

    One worker serves a compute resource, so counting in memory is enough. ``staged_bytes``: what was staged for each
    user. ``arriving``: what tasks are about to stage.
    """

    def __init__(self) -> None:
        self.staged_bytes = StagedBytes()
        self.arriving = Arriving()
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    def turn(self, logical_path: str) -> threading.Lock:
        """The lock of the one task that may make a replica of a path. The same one as long as a task keeps it."""
        with self._lock:
            return self._locks.setdefault(logical_path, threading.Lock())

    @contextmanager
    def using(self, logical_paths: Sequence[str]) -> Iterator[None]:
        """Count one more user of each path in this context."""
        with self._lock:
            self._users.update(logical_paths)
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract(logical_paths)
                self._users = +self._users  # a worker runs for weeks: forget unused paths

    def if_unused(self, logical_path: str, action: Callable[[], object]) -> None:
        """Call ``action`` unless a task uses the path. No task can begin to use it during the call."""
        with self._lock:
            if self._users[logical_path] <= 0:
                action()
