"""A worker serves many workloads in its life. Of those that have ended, it keeps no locks."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import pytest

from compute_to_data.model import Resource
from compute_to_data.pipeline.vault.dataset_listings import Listing
from compute_to_data.pipeline.vault.workload_directories import WorkloadDirectories

HERE, ENDED = "/tempZone/home/alice/w-here", "/tempZone/home/alice/w-ended"


class Acquired:
    """How a task waits for a lock; knows afterwards whether the lock is still kept."""

    def __init__(self) -> None:
        self._lock: weakref.ref[threading.Lock] | None = None

    def __call__(self, lock: threading.Lock) -> None:
        self._lock = weakref.ref(lock)
        lock.acquire()

    @property
    def is_kept(self) -> bool:
        assert self._lock is not None
        return self._lock() is not None


@pytest.mark.parametrize("kind", ["listings", "directories"])
def test_the_locks_of_ended_workloads_are_forgotten(tmp_path: Path, kind: str) -> None:
    here, ended = Acquired(), Acquired()
    directories = WorkloadDirectories(str(tmp_path / "notes"), Resource("r", "unixfilesystem", "h", str(tmp_path)))
    for workload, acquire in ((HERE, here), (ENDED, ended)):
        if kind == "listings":
            directories.listings.of(workload, 0.0, lambda _: Listing(9.0, {}), acquire)
        else:
            directories.of(workload, "1", f"{workload}/task", lambda directory: None, acquire)
    directories.tidy(frozenset({HERE}), [])
    assert (here.is_kept, ended.is_kept) == (True, False)
