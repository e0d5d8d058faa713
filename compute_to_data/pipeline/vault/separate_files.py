"""Gives a name of a file with several names (hard links) a file of its own.

In a vault, each replica must be a file of its own: what is written into one would change the others. Until a copy is
whole, it has a name that the job could not know, and by which the next look finds it if the worker is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from compute_to_data.disk_usage import DIRECTORY
from compute_to_data.large_files import TURNS

_AT_ONCE = 8 << 20


class Stopped(Exception):
    """The caller wanted no more."""


def discard_unfinished(directory: str, top: int) -> None:
    """Remove what a worker left that was killed meanwhile. ``top``: the descriptor of the outputs ``directory``."""
    with contextlib.suppress(OSError):
        os.unlink(_unfinished(directory), dir_fd=top)


def _unfinished(directory: str) -> str:
    # Of the outputs, a job sees no folder above.
    return f".separate-{os.path.basename(os.path.dirname(os.path.abspath(directory)))}"


def separate(directory: str, folder: int, name: str, file: int, between: Callable[[], object]) -> int:
    """Replace a name of an open file by a copy of the file. Returns a descriptor of the copy, to read.

    ``directory``: the outputs. ``folder``: the descriptor of the name's folder in there. ``file``: that of the file.
    ``between`` is called before each piece: it may raise; when it returns something true, Stopped. Holes stay holes.
    OSError. After an error, the name is as it was.
    """
    unfinished = _unfinished(directory)
    top = os.open(directory, DIRECTORY)
    try:
        copy = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=top)
        try:
            _copy(file, copy, between)
            os.rename(unfinished, name, src_dir_fd=top, dst_dir_fd=folder)
        except BaseException:
            os.close(copy)
            discard_unfinished(directory, top)
            raise
        os.lseek(copy, 0, os.SEEK_SET)
        return copy
    finally:
        os.close(top)


def _copy(file: int, copy: int, between: Callable[[], object]) -> None:
    """Content, owner, permissions and times."""
    status = os.fstat(file)
    os.ftruncate(copy, status.st_size)
    place = 0
    while place < status.st_size:
        try:
            place = os.lseek(file, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # the rest is a hole
                raise
            break
        end = os.lseek(file, place, os.SEEK_HOLE)
        os.lseek(copy, place, os.SEEK_SET)
        while place < end:
            if between():
                raise Stopped
            # Large files take turns with those that are read for their checksums.
            with TURNS.turn(between) if status.st_size > _AT_ONCE else contextlib.nullcontext():
                count = os.sendfile(copy, file, place, min(end - place, _AT_ONCE))
            if not count:  # cut meanwhile: the caller compares the size
                return
            place += count
    os.fchmod(copy, stat.S_IMODE(status.st_mode))
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(copy, status.st_uid, status.st_gid)
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
