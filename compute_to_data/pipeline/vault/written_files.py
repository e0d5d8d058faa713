"""Which files below a directory were written to since a moment, looked up once for tasks that end at the same time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class _Directory:
    """``begun``: when the files were all there, in nanoseconds of the file system's clock. ``ahead``: those whose times
    were later than that even then, as a registered file's may be. ``written``: those written to since, as a look found
    that began at ``looked``, on the monotonic clock."""

    begun: int
    ahead: dict[str, int]
    lock: threading.Lock = field(default_factory=threading.Lock)
    looked: float = -1.0
    written: dict[str, int] = field(default_factory=dict)


class WrittenFiles:
    """Files of directories that hold up to some 100,000 files each, of which hardly any are written to. Threads may
    share it."""

    def __init__(self) -> None:
        self._directories: dict[str, _Directory] = {}

    def begin(self, directory: str, clock: str) -> None:
        """From now on, note what is written to. ``clock``: a directory of our own on the same file system."""
        begun = now(clock)
        ahead = {relative: modified for relative, modified in _modified(directory) if modified > begun}
        self._directories[directory] = _Directory(begun, ahead)

    def forget(self, above: str) -> None:
        """Forget the directories below another one."""
        for directory in [one for one in self._directories if one.startswith(f"{above}/")]:
            del self._directories[directory]

    def since(self, directory: str, moment: int) -> list[str]:
        """The relative paths of the files that were written to after a moment, in nanoseconds. Files that were replaced
        or removed are not among them."""
        known = self._directories[directory]
        if moment < known.begun:  # for the task of an earlier process
            return [one for one, modified in _modified(directory) if modified > moment and one not in known.ahead]
        asked = time.monotonic()
        with known.lock:
            if known.looked < asked:
                known.looked = time.monotonic()
                known.written = {
                    relative: modified
                    for relative, modified in _modified(directory)
                    if modified > known.begun and known.ahead.get(relative) != modified
                }
            written = known.written
        return [one for one, modified in written.items() if modified > moment]


def now(directory: str) -> int:
    """The present time of a directory's file system, which may be another host's, in nanoseconds."""
    os.utime(directory)
    return os.stat(directory).st_mtime_ns


def _modified(directory: str) -> Iterator[tuple[str, int]]:
    """Each file below a directory by its relative path, with when it was written to last."""
    below = [""]
    while below:
        place = below.pop()
        with os.scandir(os.path.join(directory, place)) as entries:
            for entry in entries:
                relative = f"{place}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    below.append(f"{relative}/")
                else:
                    yield relative, entry.stat(follow_symlinks=False).st_mtime_ns
