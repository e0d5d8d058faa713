"""The outputs directory of a warm sandbox. It is a mount, so all of the sandbox's tasks see the same directory.

While a task runs, the directory is at the path of the task's outputs, where the worker checks it. Afterwards its
content moves to a new directory, which takes its place there.

These are operations on jobs' files: see ``job_files.py``. ``area`` is the sandbox's own directory. There is the
sandbox's ``outputs`` while no task runs, and the task's new directory, as ``next``, while one does. ``above`` is the
directory of the task, and ``name`` that of its outputs in there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from compute_to_data.disk_usage import DIRECTORY

OWN, _FRESH = "outputs", "next"
_MOST_MOVED = 10_000
"""Entries at the top level. Moving more takes longer than making another sandbox."""

_GET_FLAGS, _GET_ATTRIBUTES = 0x80086601, 0x801C581F  # FS_IOC_GETFLAGS and FS_IOC_FSGETXATTR of linux/fs.h
_ATTRIBUTES = struct.Struct("IIIII8x")  # flags, extent size, number of extents, project, extent size of copies


def state(area: int) -> list[Any]:
    """What the sandbox's directory is like before its first task: its owner and mode are final. For :func:`take`."""
    with _open(area, OWN) as own:
        return [_marks(own), *_size(own)]


def lend(area: int, above: int, name: str) -> None:
    """Put the sandbox's directory in the place of a task's new directory, with the content of that. OSError."""
    with _open(above, name) as outputs, _open(area, OWN) as own:
        _move(os.listdir(outputs), outputs, own)
    os.rename(name, _FRESH, src_dir_fd=above, dst_dir_fd=area)
    os.rename(OWN, name, src_dir_fd=area, dst_dir_fd=above)


def give_back(area: int, above: int, name: str) -> None:
    """Undo what :func:`lend` has done, also after an error in it. OSError."""
    if _is_there(area, _FRESH):
        if not _is_there(area, OWN):
            os.rename(name, OWN, src_dir_fd=above, dst_dir_fd=area)
        os.rename(_FRESH, name, src_dir_fd=area, dst_dir_fd=above)


def take(area: int, above: int, name: str, *before: Any) -> bool:
    """Take the sandbox's directory back, and leave what the task wrote in the new one.

    ``before``: what :func:`state` found. False when the directory cannot be as it was; then either has the whole
    content, and is at the path of the outputs. OSError when the content is divided between the two.
    """
    with ExitStack() as opened:
        try:
            outputs, fresh = opened.enter_context(_open(above, name)), opened.enter_context(_open(area, _FRESH))
        except OSError:
            return False
        if not _moved(outputs, fresh, before[0]):
            return False
    os.rename(name, OWN, src_dir_fd=above, dst_dir_fd=area)
    os.rename(_FRESH, name, src_dir_fd=area, dst_dir_fd=above)
    with _open(area, OWN) as own:
        os.utime(own)
        return _size(own) == [*before[1:]]  # on some file systems, a directory that has grown does not shrink


def _moved(outputs: int, fresh: int, marks: str) -> bool:
    """Move the content. False when it stays, all of it. OSError when it is divided."""
    moved: list[str] = []
    try:
        names = os.listdir(outputs)
        if _marks(outputs) != marks or len(names) > _MOST_MOVED:
            return False
        for one in names:
            os.rename(one, one, src_dir_fd=outputs, dst_dir_fd=fresh)
            moved.append(one)
    except OSError:  # for example a directory without permissions
        _move(moved, fresh, outputs)
        return False
    return True


def _move(names: Iterable[str], source: int, target: int) -> None:
    for one in names:
        os.rename(one, one, src_dir_fd=source, dst_dir_fd=target)


@contextmanager
def _open(above: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, DIRECTORY, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_there(above: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=above, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return False


def _marks(directory: int) -> str:
    """A digest of the properties of the directory itself that a task could change for later tasks: also inode flags,
    such as "synchronous", and the project id, which quotas count."""
    status = os.fstat(directory)
    attributes = tuple((name, os.getxattr(directory, name)) for name in sorted(os.listxattr(directory)))
    found = status.st_mode, status.st_uid, status.st_gid, attributes, *_inode_attributes(directory)
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _inode_attributes(directory: int) -> tuple[object, ...]:
    """The inode's flags, its extended flags and its project; nothing of what the file system does not have."""
    found: list[object] = []
    with suppress(OSError):
        found.append(fcntl.ioctl(directory, _GET_FLAGS, bytes(8)))
    with suppress(OSError):
        answer = _ATTRIBUTES.unpack(fcntl.ioctl(directory, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size)))
        found.append(answer[:2] + answer[3:])  # without the extents, whose number changes with the content
    return tuple(found)


def _size(directory: int) -> list[int]:
    status = os.fstat(directory)
    return [status.st_size, status.st_blocks]
