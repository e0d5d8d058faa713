"""Replicas of inputs on the compute resource: which may be read, and which are in use."""

from __future__ import annotations

import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from weakref import WeakValueDictionary

from compute_to_data.errors import Code, EngineError, zone_error
from compute_to_data.inputs.references import Staged
from compute_to_data.model import (
    DataObject,
    Replica,
    ReplicaStatus,
    Resource,
)


def usable_replica(data_object: DataObject, resource: Resource) -> Replica | None:
    """The good replica on the compute resource, or None when one must be made.

    -405000 or -406000 when a replica is there but in the middle of being written.
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


def check_physical(staged: Staged) -> None:
    """EngineError unless the replica is a regular file where the catalog says it is.

    A symbolic link would be followed by the mount, so it is not one.
    """
    try:
        status = os.lstat(staged.replica.physical_path)
    except OSError as error:
        raise EngineError(
            staged.data_object.logical_path,
            f"its replica {staged.replica.number} cannot be found in the vault of "
            f"{staged.replica.leaf} ({error.strerror})",
            "Check the resource: ichksum and the vault's files should agree",
            code=Code.UNIX_FILE_STAT_ERR,
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise EngineError(
            staged.data_object.logical_path,
            f"its replica {staged.replica.number} is not a regular file in the vault",
            code=Code.UNIX_FILE_STAT_ERR,
        )


class InUse:
    """Which inputs tasks of this worker are using, so that none trims what another reads or stages.

    One worker serves a compute resource, so counting in memory is enough.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    @contextmanager
    def alone(self, logical_path: str) -> Iterator[None]:
        """One task at a time inside, for each path: what one has replicated, the next finds there, and
        none meets a replica that another is having made."""
        with self._lock:
            lock = self._locks.setdefault(logical_path, threading.Lock())
        with lock:
            yield

    @contextmanager
    def using(self, logical_paths: Sequence[str]) -> Iterator[None]:
        """Count one user more of each path while inside."""
        with self._lock:
            self._users.update(logical_paths)
        try:
            yield
        finally:
            with self._lock:
                self._users.subtract(logical_paths)
                self._users = +self._users  # a worker runs for weeks: forget what nobody uses

    def if_unused(self, logical_path: str, action: Callable[[], object]) -> None:
        """Do ``action`` unless a task uses the path; none can begin to while it is being done."""
        with self._lock:
            if self._users[logical_path] <= 0:
                action()
