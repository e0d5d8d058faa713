"""Gives files to the account of a job, and takes back what the job left.

While a job runs, its outputs directory belongs to the job's own uid. When it has ended, everything in there becomes the
worker's account's, so that the iRODS server, which has the same account, can read it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from compute_to_data.disk_usage import DIRECTORY, Usage
from compute_to_data.engines import guard_client
from compute_to_data.engines.job_ids import JobIds
from compute_to_data.errors import EngineError

_PLACE = sum(getattr(os, name, 0) for name in ("O_PATH", "O_NOFOLLOW", "O_CLOEXEC"))


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
    """Raise EngineError unless this process can make a file for ``owner`` (uid, gid): as root, with the same uid, or
    with the help of a guard.

    ``subject``: the path of the file, for the error.
    """
    if os.geteuid() not in (0, owner[0]) and not guard_client.has(owner[0]):
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
        with place_of(place) as descriptor:
            guard_client.do("give", *owner, descriptors=[descriptor])
    except OSError as error:
        raise EngineError(
            subject,
            f"the worker cannot change its owner to uid {owner[0]}, gid {owner[1]} ({error.strerror})",
            "Put it on a file system where root may change owners",
        ) from error


def take_back(directory: str, ids: JobIds, owner: tuple[int, int]) -> None:
    """Make ``owner`` (uid, gid) the owner of all that jobs with these ids left in a directory, and of the directory.

    Call it when the job has ended. It does nothing when the directory is not there. It follows no link and crosses no
    mount, and leaves alone what another account made. The owner can read and remove all of the rest afterwards.
    EngineError when an owner cannot be changed.
    """
    _take(directory, ids.first_uid, ids.count, owner)


def hand_on(directory: str, owner: tuple[int, int], account: tuple[int, int]) -> None:
    """Make ``account`` (uid, gid) the owner of what ``owner`` has in the outputs of a job that has not begun, as after
    an earlier job on the same outputs. Errors as for :func:`take_back`."""
    if owner[0] != account[0]:
        _take(directory, owner[0], 1, account)


def _take(directory: str, first_uid: int, count: int, owner: tuple[int, int]) -> None:
    if not os.path.lexists(directory):
        return
    try:
        with place_of(directory, DIRECTORY) as place:
            guard_client.do("take", first_uid, count, *owner, descriptors=[place])
    except OSError as error:
        cause = f"the worker cannot make what the job left there its own ({error.strerror})"
        raise EngineError(directory, cause, "See docs/security.md, 'Accounts of jobs'") from error


def measure(directory: str, *, most_bytes: int, most_entries: int, stop: Callable[[], bool] = lambda: False) -> Usage:
    """As :func:`disk_usage.measure`, for outputs that belong to a job. EngineOutOfReach when the guard does not
    answer."""
    try:
        with place_of(directory, DIRECTORY) as place:
            return Usage(*guard_client.do("measure", most_bytes, most_entries, descriptors=[place], stop=stop))
    except FileNotFoundError:
        return Usage(0, 0)
    except OSError:
        return Usage(0, 0, hidden=True)


def empty(directory: str) -> None:
    """Remove all that jobs left in a directory. Does nothing when it is not there. OSError."""
    if os.path.lexists(directory):
        with place_of(directory, DIRECTORY) as place:
            guard_client.do("empty", "", descriptors=[place])


@contextmanager
def place_of(place: str | int, flags: int = 0) -> Iterator[int]:
    """A descriptor that names a file or directory, and does not let this process read it. Follows no link. OSError."""
    if isinstance(place, int):
        yield place
        return
    descriptor = os.open(place, _PLACE | flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
