"""Releases the space that outputs take beyond what their sizes show, when their job is gone.

A program can allocate blocks beyond the end of a file (``fallocate``), and put up to 64 KiB into each extended
attribute. A seccomp profile may keep it from that; this step does not depend on one. It works on descriptors and
follows no link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from compute_to_data.disk_usage import allocated

_REMOVED = ("user.", "system.posix_acl_")
"""The attributes that a program can set without any capability. Those of ``security.`` are the host's."""
_OPEN = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))


def hidden_size(status: os.stat_result) -> int:
    """How many bytes a file or directory takes beyond its size, rounded up to whole blocks of the file system.

    For a directory, beyond its first block.
    """
    block = max(status.st_blksize, 1)
    shown = block if stat.S_ISDIR(status.st_mode) else -(-status.st_size // block) * block
    return max(0, allocated(status) - shown)


def of_file(name: str, folder: int, status: os.stat_result) -> os.stat_result:
    """Cut a regular file to its size and remove its extended attributes. Does nothing when it takes no more than its
    size shows. Returns its status afterwards.

    ``folder``: the descriptor of its directory. ``status``: what the caller found there; a file that was exchanged
    since then stays as it is. OSError when it cannot be opened or changed.
    """
    attributes = _removable(f"/proc/self/fd/{folder}/{name}")
    if not attributes and not hidden_size(status):
        return status
    descriptor = os.open(name, os.O_RDONLY | _OPEN, dir_fd=folder)
    try:
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) != (status.st_dev, status.st_ino):
            return status
        with _writable(descriptor):
            _remove(descriptor, attributes)
            if hidden_size(os.fstat(descriptor)):
                _cut(descriptor)
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def of_directory(descriptor: int) -> os.stat_result:
    """Remove the extended attributes of an open directory, and let its owner remove what is in it: iRODS and the
    worker must be able to. Returns its status afterwards. OSError."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(descriptor, mode | stat.S_IRWXU)
    _remove(descriptor, _removable(descriptor))
    return os.fstat(descriptor)


def failed(error: OSError) -> str:
    """Why an entry whose space cannot be released is no output."""
    return f"takes space that cannot be released ({error.strerror})"


def _removable(place: str | int) -> list[str]:
    """The attributes of an entry, by its descriptor or a path whose last part may be a link."""
    try:
        found = os.listxattr(place, follow_symlinks=isinstance(place, int))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOENT):  # a file system without attributes; gone
            return []
        raise
    return [one for one in found if one.startswith(_REMOVED)]


@contextmanager
def _writable(descriptor: int) -> Iterator[None]:
    """Let the owner write while inside: removing an attribute and cutting need that permission."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    if not mode & stat.S_IWUSR:
        os.fchmod(descriptor, mode | stat.S_IWUSR)
    try:
        yield
    finally:
        if not mode & stat.S_IWUSR:
            os.fchmod(descriptor, mode)


def _remove(descriptor: int, attributes: list[str]) -> None:
    for one in attributes:
        try:
            os.removexattr(descriptor, one)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise


def _cut(descriptor: int) -> None:
    """Truncate a file to its own size, which releases the blocks beyond its end. Its times stay."""
    status = os.fstat(descriptor)
    again = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.ftruncate(again, status.st_size)
        os.utime(again, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(again)
