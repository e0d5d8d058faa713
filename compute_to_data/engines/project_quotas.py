"""Lets the kernel hold the limits of a directory's content, by project quotas of XFS or ext4.

Each inode has a project id, and new ones inherit that of their directory. The kernel refuses what would take more than
the project's limit, also from files without a name (xfs_quota(8), mount(8): ``prjquota``). Only CAP_SYS_ADMIN may set
limits. Outside of user namespaces, the owner of a file may change its project id.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import suppress

from compute_to_data.disk_usage import DIRECTORY, MAXIMUM_DEPTH, allocated

NONE = 0
"""The project id of files that belong to no project."""
_QUOTACTL_FD = 443  # on all architectures; from Linux 5.14 on
_PROJECT = 2
_SET_LIMITS, _GET_STATE = 0x800008, 0x5805  # Q_SETQUOTA and Q_XGETQSTAT of linux/quota.h and linux/dqblk_xfs.h
_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD
_STATE = struct.Struct("=bxH76x")  # fs_quota_stat: version and flags
_LIMITS = struct.Struct("=8QI4x")  # if_dqblk
_BOTH_LIMITS = 1 | 4  # QIF_BLIMITS and QIF_ILIMITS
_UNIT = 1024  # bytes in a unit of if_dqblk's limits
_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820  # FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR of linux/fs.h
_ATTRIBUTES = struct.Struct("IIIII8x")  # flags, extent size, number of extents, project, extent size of copies
_INHERITED = 0x200  # FS_XFLAG_PROJINHERIT
_FILE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))


def are_held(directory: int) -> bool:
    """Whether the file system of an open directory holds projects to their limits."""
    answer = ctypes.create_string_buffer(_STATE.size)
    with suppress(OSError):
        _quotactl(directory, _GET_STATE, NONE, answer)
    return bool(_STATE.unpack(answer.raw)[1] & _ENFORCED)


def project_of(descriptor: int) -> int:
    """The project id of an open file or directory. OSError when the file system has none."""
    return _attributes(descriptor)[3]


def limit(directory: int, project: int, most_bytes: int, most_entries: int) -> None:
    """Hold the project's inodes on the file system of an open directory to limits; 0 and 0 for none. OSError."""
    hard = -(-most_bytes // _UNIT)
    _quotactl(directory, _SET_LIMITS, project, _LIMITS.pack(hard, 0, 0, most_entries, 0, 0, 0, 0, _BOTH_LIMITS))


def room(directory: int, most_bytes: int, most_entries: int) -> tuple[int, int]:
    """The limits of a project that consists of an open directory, so that a job sees their end only when it breaks its
    own: one block and one entry more, and what the directory itself takes."""
    status = os.fstat(directory)
    block = os.fstatvfs(directory).f_frsize
    return -(-most_bytes // block) * block + block + allocated(status), most_entries + 2


def give(directory: int, project: int, owner: int) -> None:
    """Give an open directory and the directories in it to a project, with all that will be made there. OSError."""
    _each(directory, owner, lambda descriptor: _set(descriptor, project, _INHERITED), files=False)


def take(directory: int, owner: int, is_taken: Callable[[int], bool]) -> set[int]:
    """Take everything in an open directory, and itself, out of the projects that ``is_taken`` says; returns these.

    It follows no link, crosses no mount, and leaves what does not belong to the uid ``owner``. OSError.
    """
    found: set[int] = set()

    def out(descriptor: int) -> None:
        project = project_of(descriptor)
        if is_taken(project):
            found.add(project)
            _set(descriptor, NONE, 0)

    _each(directory, owner, out, files=True)
    return found


def _each(directory: int, owner: int, do: Callable[[int], None], *, files: bool, depth: int = 0) -> None:
    """Call ``do`` with an open directory, and with each directory and, if ``files``, each regular file below it."""
    device = os.fstat(directory).st_dev
    do(directory)
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if status.st_uid != owner or status.st_dev != device:
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            elif files and entry.is_file(follow_symlinks=False):
                _with(directory, entry.name, os.O_RDONLY | _FILE, do)
    for name in below if depth <= MAXIMUM_DEPTH else ():
        _with(directory, name, DIRECTORY, lambda one: _each(one, owner, do, files=files, depth=depth + 1))


def _with(directory: int, name: str, flags: int, do: Callable[[int], None]) -> None:
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        do(descriptor)
    finally:
        os.close(descriptor)


def _attributes(descriptor: int) -> tuple[int, ...]:
    return _ATTRIBUTES.unpack(fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size)))


def _set(descriptor: int, project: int, inherited: int) -> None:
    flags, extents, count, old, copies = _attributes(descriptor)
    new = flags & ~_INHERITED | inherited
    if (new, project) != (flags, old):
        fcntl.ioctl(descriptor, _SET_ATTRIBUTES, _ATTRIBUTES.pack(new, extents, count, project, copies))


def _quotactl(directory: int, command: int, project: int, data: ctypes.Array[ctypes.c_char] | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_uint32(command << 8 | _PROJECT)
    if libc.syscall(ctypes.c_long(_QUOTACTL_FD), ctypes.c_int(directory), number, ctypes.c_int(project), data):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
