"""Gives files to the account of a job, and takes back what the job left.

While a job runs, its outputs directory belongs to the job's own uid. When it has ended, everything in there becomes the
worker's account's, so that the iRODS server, which has the same account, can read it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from compute_to_data.disk_usage import DIRECTORY, MAXIMUM_DEPTH
from compute_to_data.engines import namespace
from compute_to_data.errors import EngineError

_FILE = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"))


def make_outputs(outputs: str, owner: tuple[int, int] | None = None) -> None:
    """Make the directory ``outputs`` and its parents, with mode 0700, for ``owner`` (uid, gid; None: this account).

    EngineError when it exists, or when this process cannot make it or give it to the owner.
    """
    if owner is not None:
        check_owner(outputs, owner)
    try:
        os.makedirs(os.path.dirname(outputs), exist_ok=True)
        os.mkdir(outputs, 0o700)
    except FileExistsError as error:
        raise EngineError(outputs, "it exists already, but outputs need a new directory") from error
    except OSError as error:
        raise EngineError(outputs, f"the engine cannot make the outputs directory ({error.strerror})") from error
    if owner is not None:
        give(outputs, owner)


def check_owner(subject: str, owner: tuple[int, int]) -> None:
    """Raise EngineError unless this process can make a file for ``owner`` (uid, gid): as root, with the same uid, or in
    a namespace with it.

    ``subject``: the path of the file, for the error.
    """
    if os.geteuid() not in (0, owner[0]) and not namespace.has(owner[0]):
        raise EngineError(
            subject,
            f"it must belong to uid {owner[0]}, but the worker has uid {os.geteuid()} and cannot change owners",
            f"Run the worker as uid {owner[0]}, as root or by its own program (compute_to_data.worker), or set "
            '"job_uids": null in the engine\'s settings',
        )


def give(place: str | int, owner: tuple[int, int], subject: str = "") -> None:
    """Make ``owner`` (uid, gid) the owner of ``place``, a path or an open descriptor that this process has made.

    If this process has the owner's uid, it owns the place already and makes no system call. ``subject`` names the place
    in errors instead of its path.
    EngineError when this process cannot change the owner.
    """
    subject = subject or str(place)
    check_owner(subject, owner)
    if os.geteuid() == owner[0]:
        return
    try:
        os.chown(place, *owner)
    except OSError as error:
        raise EngineError(
            subject,
            f"the worker cannot change its owner to uid {owner[0]}, gid {owner[1]} ({error.strerror})",
            "Put it on a file system where root may change owners",
        ) from error


def take_back(directory: str, is_jobs: Callable[[int], bool], owner: tuple[int, int]) -> None:
    """Make ``owner`` (uid, gid) the owner of all that a job left in a directory, and of the directory itself.

    Call it when the job has ended. It does nothing when the directory is not there. It opens each level by descriptor,
    follows no link and crosses no mount. Entries stay as they are if their uid is not a job's (``is_jobs``), or if they
    lie deeper than outputs may. The owner can read and remove all of the others afterwards. EngineError when this
    process cannot change an owner.
    """
    try:
        top = os.open(directory, DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _refused(directory, error) from error
    try:
        _Taking(os.fstat(top).st_dev, is_jobs, owner).take(top, 0)
    except OSError as error:
        raise _refused(directory, error) from error
    finally:
        os.close(top)


def hand_on(directory: str, owner: tuple[int, int], account: tuple[int, int]) -> None:
    """Make ``account`` (uid, gid) the owner of what ``owner`` has in the outputs of a job that has not begun, as after
    an earlier job on the same outputs. Errors as for :func:`take_back`."""
    if owner[0] != account[0]:
        take_back(directory, lambda uid: uid == owner[0], account)


def _refused(directory: str, error: OSError) -> EngineError:
    cause = f"the worker cannot make what the job left there its own ({error.strerror})"
    return EngineError(directory, cause, "See docs/security.md, 'Accounts of jobs'")


class _Taking:
    def __init__(self, device: int, is_jobs: Callable[[int], bool], owner: tuple[int, int]) -> None:
        self._device = device
        self._is_jobs = is_jobs
        self._owner = owner

    def take(self, directory: int, depth: int) -> None:
        """Take an open directory with its content. The content comes first: another attempt then finds what is left."""
        status = os.fstat(directory)
        if status.st_dev != self._device:
            return
        if self._is_jobs(status.st_uid):
            os.fchmod(directory, status.st_mode & 0o777 | 0o700)
        below = []
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                else:
                    self._take_entry(directory, entry)
        for name in below if depth <= MAXIMUM_DEPTH else ():
            descriptor = os.open(name, DIRECTORY, dir_fd=directory)
            try:
                self.take(descriptor, depth + 1)
            finally:
                os.close(descriptor)
        if self._is_jobs(status.st_uid):
            os.chown(directory, *self._owner)

    def _take_entry(self, directory: int, entry: os.DirEntry[str]) -> None:
        status = entry.stat(follow_symlinks=False)
        if not self._is_jobs(status.st_uid) or status.st_dev != self._device:
            return
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o7400 != 0o400:
            descriptor = os.open(entry.name, os.O_RDONLY | _FILE, dir_fd=directory)
            try:
                os.fchmod(descriptor, status.st_mode & 0o777 | 0o400)
            finally:
                os.close(descriptor)
        os.chown(entry.name, *self._owner, dir_fd=directory, follow_symlinks=False)
