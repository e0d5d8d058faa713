"""What is done with the files of jobs, which belong to uids that no account has.

Only root can do that, or a process in a user namespace with these uids (``namespace.py``). Each operation gets open
directories instead of paths: the process that does it may see other mounts than the worker, which opened them, and it
can reach nothing else. Names are those of entries in these directories.

All of them follow no link. They may run while programs change the files, but for :func:`take`, :func:`empty` and the
operations of ``lent_outputs.py``, which need a job that has ended.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from compute_to_data import disk_usage
from compute_to_data.disk_usage import DIRECTORY
from compute_to_data.engines import lent_outputs

_FILE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))


def give(place: int, uid: int, gid: int) -> None:
    """Change the owner of an open file or directory. OSError."""
    os.chown(f"/proc/self/fd/{place}", uid, gid)  # a descriptor that is only a place (O_PATH) takes no fchown


def measure(directory: int, most_bytes: int, most_entries: int, stop: Callable[[], bool]) -> list[Any]:
    """The fields of a :class:`Usage`, for the content of a directory."""
    with _reopened(directory) as top:
        found = disk_usage.measure(top, most_bytes=most_bytes, most_entries=most_entries, stop=stop)
    return [found.size, found.entries, found.hidden, found.is_whole, found.processor_seconds]


def take(directory: int, first_uid: int, count: int, uid: int, gid: int) -> None:
    """Change the owner of a directory and all that it holds, where that is one of ``count`` uids. Crosses no mount.

    The owner can read and remove all of these afterwards. OSError; another attempt then finds what is left, because
    the content of each directory comes first.
    """

    def is_wanted(status: os.stat_result) -> bool:
        return first_uid <= status.st_uid < first_uid + count and status.st_dev == device

    def take_entry(above: int, entry: os.DirEntry[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        if not is_wanted(status):
            return
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o7400 != 0o400:
            descriptor = os.open(entry.name, os.O_RDONLY | _FILE, dir_fd=above)
            try:
                os.fchmod(descriptor, status.st_mode & 0o777 | 0o400)
            finally:
                os.close(descriptor)
        os.chown(entry.name, uid, gid, dir_fd=above, follow_symlinks=False)

    def enter(below: int) -> bool:
        status = os.fstat(below)
        if is_wanted(status):
            os.fchmod(below, status.st_mode & 0o777 | 0o700)
        return status.st_dev == device

    def leave(above: int, name: str) -> None:
        if is_wanted(os.stat(name, dir_fd=above, follow_symlinks=False)):
            os.chown(name, uid, gid, dir_fd=above, follow_symlinks=False)

    with _reopened(directory) as top:
        device = os.fstat(top).st_dev
        enter(top)
        _walk(top, take_entry, enter, leave)
        if is_wanted(os.fstat(top)):
            os.chown(top, uid, gid)


def empty(top: int, *directories: str) -> None:
    """Remove the content of directories, given by their paths below ``top``. OSError."""
    for directory in directories:
        with _reopened(top) as descriptor, _below(descriptor, directory) as below:
            _walk(
                below,
                lambda above, entry: os.unlink(entry.name, dir_fd=above),
                lambda _: True,
                lambda above, name: os.rmdir(name, dir_fd=above),
            )


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "give": give,
    "take": take,
    "empty": empty,
    "outputs state": lent_outputs.state,
    "lend outputs": lent_outputs.lend,
    "give outputs back": lent_outputs.give_back,
    "take outputs": lent_outputs.take,
}


def do(operation: str, descriptors: Sequence[int], values: Sequence[Any], stop: Callable[[], bool]) -> Any:
    """Do an operation, and return what it returns. Descriptors and values are its arguments; values and what it returns
    can be written as JSON. ``stop``: whether to end it early, which only ``measure`` does. OSError."""
    if operation == "measure":
        (directory,), (most_bytes, most_entries) = descriptors, values
        return measure(directory, most_bytes, most_entries, stop)
    return _OPERATIONS[operation](*descriptors, *values)


@contextmanager
def _reopened(directory: int) -> Iterator[int]:
    """The directory, open for reading: the worker may be able to name it only (O_PATH)."""
    descriptor = os.open(".", DIRECTORY, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _below(top: int, directory: str) -> Iterator[int]:
    """A directory below another one. Follows no link on the way: from here, one in a container's image would lead into
    the host's file system."""
    descriptor = os.dup(top)
    try:
        for part in filter(None, directory.split("/")):
            below = os.open(part, DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(
    top: int,
    entry: Callable[[int, os.DirEntry[str]], None],
    enter: Callable[[int], bool],
    leave: Callable[[int, str], None],
) -> None:
    """Call ``entry`` for all that is no directory below an open one, ``enter`` for each directory before its content is
    read (False: leave it out) and ``leave`` after that, with the directory above and the name. OSError.

    A tree may be deeper than there are descriptors, so only one directory is open at a time. The way back is ``..``,
    which must lead to where this came from.
    """
    here = os.dup(top)
    trail: list[tuple[tuple[int, int], str, list[str]]] = []
    try:
        names = _content(here, entry)
        while True:
            if names:
                name = names.pop()
                below = os.open(name, DIRECTORY, dir_fd=here)
                try:
                    goes_on = enter(below)
                except BaseException:
                    os.close(below)
                    raise
                if not goes_on:
                    os.close(below)
                    continue
                trail.append((_identity(here), name, names))
                os.close(here)
                here = below
                names = _content(here, entry)
            elif trail:
                identity, name, names = trail.pop()
                above = os.open("..", DIRECTORY, dir_fd=here)
                os.close(here)
                here = above
                if _identity(here) != identity:
                    raise OSError(116, os.strerror(116), name)  # ESTALE
                leave(here, name)
            else:
                return
    finally:
        os.close(here)


def _content(directory: int, entry: Callable[[int, os.DirEntry[str]], None]) -> list[str]:
    """Call ``entry`` for all but directories. Returns the names of these."""
    below: list[str] = []
    with os.scandir(directory) as entries:
        for one in entries:
            if one.is_dir(follow_symlinks=False):
                below.append(one.name)
            else:
                entry(directory, one)
    return below


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino
