"""Measures what a directory takes from its file system, while untrusted programs may change it.

It opens every directory through a descriptor with ``O_NOFOLLOW``. So a program that renames directories meanwhile
can neither lead it elsewhere nor keep it from the end: it looks at each inode once.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Union

DIRECTORY = sum(getattr(os, name, 0) for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC"))
"""The flags to open a directory with; clients on Windows, which lacks them, import this module and open none."""
MAXIMUM_DEPTH = 64
_BLOCK = 512
"""Bytes in a unit of ``st_blocks`` (POSIX leaves the unit open; Linux always uses this one)."""
_LARGEST_ATTRIBUTE = 1 << 16
"""Bytes that one extended attribute can have (``XATTR_SIZE_MAX`` of Linux)."""
_STOP_EVERY = 256
"""Entries between two questions whether to stop."""


@dataclass(frozen=True)
class Usage:
    """What the content of a directory takes. ``size``: bytes, of each inode the larger of its size and what is
    allocated for it, with extended attributes. ``entries``: of all kinds, directories included.

    ``hidden``: a directory cannot be read (no permission, or deeper than outputs may be), so it could hold anything.
    ``is_whole``: False when measuring stopped before the end, so there is more than these figures say.
    ``processor_seconds``: what measuring cost.
    """

    size: int
    entries: int
    hidden: bool = False
    is_whole: bool = True
    processor_seconds: float = field(default=0.0, compare=False)


def is_directory(place: str) -> bool:
    """Whether there is a directory, and no link to one."""
    try:
        return stat.S_ISDIR(os.lstat(place).st_mode)
    except OSError:
        return False


def allocated(status: os.stat_result) -> int:
    """The bytes that the file system has allocated for an inode."""
    return status.st_blocks * _BLOCK


def measure(
    directory: Union[str, int], *, most_bytes: int, most_entries: int, stop: Callable[[], bool] = lambda: False
) -> Usage:
    """Measure the content of a directory, given by path or descriptor. Skips names that vanish meanwhile.

    Stops as soon as there are more than ``most_bytes`` or ``most_entries``, or when ``stop`` says so.
    """
    try:
        top = os.dup(directory) if isinstance(directory, int) else os.open(directory, DIRECTORY)
    except FileNotFoundError:
        return Usage(0, 0)
    except OSError:
        return Usage(0, 0, hidden=True)
    measuring, began = _Measuring(most_bytes, most_entries, stop), time.thread_time()
    try:
        measuring.add_attributes(".", top)
        measuring.enter(top, 0)
    finally:
        os.close(top)
    seconds = time.thread_time() - began
    return Usage(measuring.size, measuring.entries, measuring.hidden, not measuring.is_over, seconds)


class _Measuring:
    """One measurement. ``is_over``: whether it has stopped before the end."""

    def __init__(self, most_bytes: int, most_entries: int, stop: Callable[[], bool]) -> None:
        self.size = self.entries = 0
        self.hidden = self.is_over = False
        self._most_bytes, self._most_entries, self._stop = most_bytes, most_entries, stop
        self._seen: set[tuple[int, int]] = set()
        """A program may move what was measured to where the measurement has not been yet."""

    def enter(self, descriptor: int, depth: int) -> None:
        """Measure the content of an open directory, ``depth`` directories below the top."""
        if depth > MAXIMUM_DEPTH:
            self.hidden = True
            return
        below: list[str] = []
        try:
            with os.scandir(descriptor) as found:
                for entry in found:
                    if self._add(entry, descriptor):
                        below.append(entry.name)
                    if self.is_over:
                        return
        except OSError:
            self.hidden = True
        for name in below:  # after the loop, so that a deep tree does not keep many directories half read
            self._enter_below(name, descriptor, depth)
            if self.is_over:
                return

    def _enter_below(self, name: str, descriptor: int, depth: int) -> None:
        try:
            below = os.open(name, DIRECTORY, dir_fd=descriptor)
        except OSError as error:  # gone, or exchanged for another kind of file
            self.hidden = self.hidden or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
            return
        try:
            self.enter(below, depth + 1)
        finally:
            os.close(below)

    def _add(self, entry: os.DirEntry[str], descriptor: int) -> bool:
        """Count an entry. Returns whether it is a directory to measure."""
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return False
        identity = (status.st_dev, status.st_ino)
        if identity in self._seen:
            return False
        self._seen.add(identity)
        self.entries += 1
        self.size += max(status.st_size, allocated(status))
        self.add_attributes(entry.name, descriptor)
        self.is_over = self.size > self._most_bytes or self.entries > self._most_entries
        if self.entries % _STOP_EVERY == 0 and self._stop():
            self.is_over = True
        return stat.S_ISDIR(status.st_mode)

    def add_attributes(self, name: str, descriptor: int) -> None:
        """Count the extended attributes of an entry. Some file systems do not count them as the inode's blocks."""
        path = f"/proc/self/fd/{descriptor}/{name}"  # the system calls for attributes take no descriptor and name
        try:
            names = os.listxattr(path, follow_symlinks=False)
        except OSError:
            return  # the entry has vanished, or the file system has no attributes
        for one in names:
            try:
                self.size += len(one) + len(os.getxattr(path, one, follow_symlinks=False))
            except OSError:
                self.size += len(one) + _LARGEST_ATTRIBUTE  # it cannot be read
