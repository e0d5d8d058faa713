"""A worker serves many workloads in its life. It keeps no locks of those that have ended."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import pytest

from compute_to_data.model import Resource
from compute_to_data.pipeline.vault.dataset_listings import Listing
from compute_to_data.pipeline.vault.workload_directories import WorkloadDirectories

WORKLOAD = "/tempZone/home/alice/w-0123"


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
def test_a_lock_is_kept_while_a_task_has_it_and_not_longer(tmp_path: Path, kind: str) -> None:
    directories = WorkloadDirectories(str(tmp_path / "notes"), Resource("r", "unixfilesystem", "h", str(tmp_path)))
    acquired, kept_meanwhile = Acquired(), list[bool]()

    def note(_: object) -> None:
        kept_meanwhile.append(acquired.is_kept)

    def look(_: object) -> Listing:
        note(_)
        return Listing(9.0, {})

    if kind == "listings":
        directories.listings.of(WORKLOAD, 0.0, look, acquired)
    else:
        directories.of(WORKLOAD, "1", f"{WORKLOAD}/task", note, acquired)
    assert (kept_meanwhile, acquired.is_kept) == ([True], False)
