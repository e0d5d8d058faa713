"""The outputs directory of a warm sandbox. It is a mount, so all of the sandbox's tasks see the same directory.

While a task runs, the directory is at the path of the task's outputs, where the worker checks it. Afterwards
its content moves to a new directory, which takes its place there.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from compute_to_data.disk_usage import DIRECTORY
from compute_to_data.errors import EngineError

_MOST_MOVED = 10_000
"""Entries at the top level. Moving more takes longer than making another sandbox."""

_GET_FLAGS, _GET_ATTRIBUTES = 0x80086601, 0x801C581F  # FS_IOC_GETFLAGS and FS_IOC_FSGETXATTR of linux/fs.h
_ATTRIBUTES = struct.Struct("IIIII8x")  # flags, extent size, number of extents, project, extent size of copies


class LentOutputs:
    """Below ``area``: the sandbox's directory ``outputs`` while no task runs; the task's new directory ``next``
    while one does."""

    def __init__(self, area: str) -> None:
        """``outputs`` exists, with its final owner and mode."""
        self._own = os.path.join(area, "outputs")
        self._fresh = os.path.join(area, "next")
        self._marks, self._size = _marks(self._own), _size(self._own)

    def lend(self, outputs: str) -> None:
        """Put the sandbox's directory in the place of a task's new directory, with the content of that. OSError."""
        for name in os.listdir(outputs):
            os.rename(os.path.join(outputs, name), os.path.join(self._own, name))
        os.rename(outputs, self._fresh)
        os.rename(self._own, outputs)

    def give_back(self, outputs: str) -> None:
        """Undo what :meth:`lend` has done, also after an error in it."""
        with suppress(OSError):
            if os.path.isdir(self._fresh):
                if not os.path.isdir(self._own):
                    os.rename(outputs, self._own)
                os.rename(self._fresh, outputs)

    def take(self, outputs: str) -> bool:
        """Take the sandbox's directory back, and leave what the task wrote in the new one.

        False when the directory cannot be as it was before; then either has the content, and is at the path of the
        outputs. EngineError when the content is divided between the two.
        """
        names = os.listdir(outputs)
        if _marks(outputs) != self._marks or len(names) > _MOST_MOVED:
            return False
        moved: list[str] = []
        try:
            for name in names:
                os.rename(os.path.join(outputs, name), os.path.join(self._fresh, name))
                moved.append(name)
        except OSError:  # for example a directory without permissions
            self._move_back(moved, outputs)
            return False
        os.rename(outputs, self._own)
        os.rename(self._fresh, outputs)
        os.utime(self._own)
        return _size(self._own) == self._size  # on some file systems, a directory that has grown does not shrink

    def _move_back(self, names: Iterable[str], outputs: str) -> None:
        try:
            for name in names:
                os.rename(os.path.join(self._fresh, name), os.path.join(outputs, name))
        except OSError as error:  # some of the outputs are now missing
            raise EngineError(outputs, f"the engine could not keep the outputs together ({error.strerror})") from error


def _marks(directory: str) -> tuple[object, ...]:
    """The properties of the directory itself that a task could change for later tasks: also inode flags, such as
    "synchronous", and the project id, which quotas count."""
    status = os.lstat(directory)
    names = sorted(os.listxattr(directory))
    attributes = tuple((name, os.getxattr(directory, name)) for name in names)
    return status.st_mode, status.st_uid, status.st_gid, attributes, *_inode_attributes(directory)


def _inode_attributes(directory: str) -> tuple[object, ...]:
    """The inode's flags, its extended flags and its project; nothing of what the file system does not have."""
    found: list[object] = []
    descriptor = os.open(directory, DIRECTORY)
    try:
        with suppress(OSError):
            found.append(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))
        with suppress(OSError):
            answer = _ATTRIBUTES.unpack(fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size)))
            found.append(answer[:2] + answer[3:])  # without the extents, whose number changes with the content
    finally:
        os.close(descriptor)
    return tuple(found)


def _size(directory: str) -> tuple[int, int]:
    status = os.lstat(directory)
    return status.st_size, status.st_blocks
