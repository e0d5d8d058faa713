"""The one directory a job may write: made fresh in the vault, and taken away without trusting it."""

from __future__ import annotations

import os
import shutil
import subprocess

from compute_to_data.errors import Code, EngineError
from compute_to_data.model import Resource


def task_directory(resource: Resource, collection: str) -> str:
    """The physical path of a task's collection in the vault: the vault and the logical path
    without its zone, as iRODS lays out a vault."""
    _, _, below_zone = collection.lstrip("/").partition("/")
    return os.path.join(resource.vault, below_zone)


def private_directory(resource: Resource, collection: str, token: str) -> str:
    """The task's own directory below that, under a name nobody could know before it was made:
    so whatever lies in it is this task's, and never a file that somebody put there beforehand."""
    return os.path.join(task_directory(resource, collection), token)


def discard(directory: str) -> None:
    """Remove a directory with whatever a job put there; nothing happens when it is not there.

    A job may leave trees that Python's own removal cannot finish: directories without any
    permission, or nested past the recursion limit and the longest path. ``chmod`` and ``rm``
    descend by descriptor and never through a symbolic link.
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
            f"could not be removed ({removed.stderr.decode(errors='replace').strip()[-200:]})",
            code=Code.UNIX_FILE_OPEN_ERR,
        )


def discard_empty(directory: str) -> None:
    """Remove a directory if nothing is in it."""
    try:
        os.rmdir(directory)
    except OSError:
        return
