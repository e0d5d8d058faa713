"""Small disks of a test's own: in memory, bounded, gone with the test."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

KIBIBYTES = 1024


class SmallDisk:
    """One that is mounted at ``place``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._filler = place / "filler"

    def fill(self) -> None:
        """No byte more fits. May be called again."""
        with contextlib.suppress(OSError), open(self._filler, "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        """As an administrator does."""
        self._filler.unlink()

    def protect(self) -> None:
        """Read-only, as a kernel makes a file system that it found broken."""
        subprocess.run(["mount", "-o", "remount,ro", self.place], check=True)


@contextlib.contextmanager
def small_disk(place: Path, kibibytes: int, inodes: int = 100_000) -> Iterator[SmallDisk]:
    """Mounted while inside. Skips where nothing may be mounted, with the reason; fails in CI."""
    place.mkdir(parents=True, exist_ok=True)
    options = f"size={kibibytes}k,nr_inodes={inodes},mode=755"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "c2d-test", place], capture_output=True, check=False)
    if done.returncode != 0:
        assert not os.environ.get("CI"), done.stderr
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.decode(errors='replace').strip()}")
    try:
        yield SmallDisk(place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
