"""The directories of a task in the vault, and how to remove what an untrusted job left in them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable

from compute_to_data.errors import Code, EngineError
from compute_to_data.job import LOG_NAME
from compute_to_data.model import Resource


def task_directory(resource: Resource, collection: str) -> str:
    """The physical path of a task's collection in the vault. As in iRODS, this is the vault's path followed by
    the logical path without the zone."""
    _, _, below_zone = collection.lstrip("/").partition("/")
    return os.path.join(resource.vault, below_zone)


def private_directory(resource: Resource, collection: str, token: str) -> str:
    """The task's own directory below that. Its name is unguessable, so no other user can have put a file there."""
    return os.path.join(task_directory(resource, collection), token)


def log_file(private: str) -> str:
    """The physical path of the job's log in the task's own directory."""
    return os.path.join(private, LOG_NAME)


def discard(directory: str) -> None:
    """Remove a directory and all that a job put there; do nothing when it is not there.

    Python cannot remove every tree that a job may leave: directories without permissions, or nested
    deeper than the recursion limit or the longest path. ``chmod`` and ``rm`` descend by descriptor and never
    follow a symbolic link.
    """
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        _discard_stubborn(directory)


def _discard_stubborn(directory: str) -> None:
    subprocess.run(["chmod", "-R", "u+rwx", "--", directory], capture_output=True, check=False)
    removed = subprocess.run(["rm", "-rf", "--", directory], capture_output=True, check=False)
    if os.path.lexists(directory):
        raise EngineError(
            directory,
            f"the worker could not remove it ({removed.stderr.decode(errors='replace').strip()[-200:]})",
            code=Code.UNIX_FILE_OPEN_ERR,
        )


def discard_all_but(directory: str, files: Iterable[str]) -> None:
    """Remove what a job put into a directory, except regular files named by their paths relative to it and the
    directories above these. Call it when the job is gone.

    EngineError when something cannot be removed; the rest is removed all the same.
    """
    kept = set(files)
    if not kept:
        discard(directory)
        return
    above = {one[:end] for one in kept for end, letter in enumerate(one) if letter == "/"}
    problems: list[EngineError] = []
    for folder in ["", *sorted(above)]:
        place = os.path.join(directory, folder)
        os.chmod(place, 0o755)
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            relative = f"{folder}/{name}" if folder else name
            if relative not in kept and relative not in above:
                try:
                    _remove(os.path.join(place, name))
                except EngineError as error:
                    problems.append(error)
    if problems:
        raise problems[0]


def _remove(path: str) -> None:
    """Remove a directory with its content, or any other entry."""
    if os.path.isdir(path) and not os.path.islink(path):
        discard(path)
        return
    try:
        os.unlink(path)
    except OSError as error:
        cause = f"the worker could not remove it ({error.strerror})"
        raise EngineError(path, cause, code=Code.UNIX_FILE_OPEN_ERR) from error


def discard_file(path: str) -> None:
    """Remove a file; do nothing when it is not there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


_FULL = 64 << 10
"""With fewer bytes left, a vault is full: even a log may not fit."""


def is_full(directory: str) -> bool:
    """Whether the file system of a directory has no room left."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _FULL


def discard_empty_below(directory: str) -> None:
    """Remove all empty directories below a directory, and itself if nothing is left in it."""
    for folder, _, _ in os.walk(directory, topdown=False):
        discard_empty(folder)


def discard_empty(directory: str) -> None:
    """Remove a directory if it is empty."""
    try:
        os.rmdir(directory)
    except OSError:
        return
