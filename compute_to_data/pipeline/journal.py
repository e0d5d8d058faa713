"""The file that holds a task's checkpoint, where the task's owner cannot write.

A task's owner can write any state and any fact on the task's record in the catalog. If a worker
resumed from the record, the owner could make it trim another user's replica, or register a directory that
it never made. So the worker keeps what it resumes from in its state directory, in one small file per
task. The record is for people. If the file is missing, the worker begins the task again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets

from compute_to_data.errors import OutOfReach
from compute_to_data.job import JobKey, scope_mark
from compute_to_data.pipeline.checkpoint import Checkpoint
from compute_to_data.pipeline.checkpoint_json import checkpoint_of, document_of

log = logging.getLogger(__name__)

_FOLDER = "tasks"


def folder_of(state_directory: str, scope: str) -> str:
    """The folder that holds the journals of one scope (zone, resource, installation)."""
    return os.path.join(state_directory, _FOLDER, scope_mark(scope))


class Journal:
    """One task's checkpoint. It is read from its file once; each change writes the whole file.

    ``found`` is the valid checkpoint that an earlier attempt left, or None. ``checkpoint`` is the current one.
    """

    def __init__(self, folder: str, key: JobKey, made: float | None) -> None:
        """``made``: when the task's collection was created, in Unix seconds. A checkpoint of an earlier
        collection of the same name is ignored. With None, it is accepted."""
        self._path = os.path.join(folder, f"{key}.json")
        found = _read(self._path)
        self.found = found if found and made in (None, found.made) else None
        self.checkpoint = self.found or Checkpoint(made, secrets.token_hex(8))

    def save(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint, in the file first: ``save(replace(journal.checkpoint, live=True))``.

        OutOfReach when the state directory is full or gone: the task waits until the worker can write the
        file. The checkpoint then stays as it was.
        """
        replace_file(self._path, document_of(checkpoint), "the task's checkpoint")
        self.checkpoint = checkpoint

    def remove(self) -> None:
        """Delete the file: the task has ended."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def file_about(folder: str, logical_path: str) -> str:
    """Where a folder of the worker's keeps its note about a data object."""
    return os.path.join(folder, f"{hashlib.sha256(logical_path.encode()).hexdigest()[:32]}.json")


def replace_file(path: str, document: object, what: str) -> None:
    """Write a JSON document in place of a file of the state directory: all of it, or nothing.

    ``what``: the document, in words. OutOfReach when the directory is full or gone.
    """
    draft = f"{path}.draft"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(document, file)
        os.replace(draft, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        cause = f"the worker cannot write {what} ({error.strerror})"
        raise OutOfReach(path, cause, "Make room there, and see who owns it") from error


def _read(path: str) -> Checkpoint | None:
    """The checkpoint in a file; None when the file is missing or incomplete, as after a crash of the host."""
    try:
        with open(path, encoding="utf-8") as file:
            return checkpoint_of(json.load(file))
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s is not a valid checkpoint, so its task begins again: %s", path, error)
        return None


def sweep(folder: str, keep: set[JobKey]) -> None:
    """Remove the journals of all tasks except those whose keys are in ``keep``."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if JobKey(name.rpartition(".")[0]) not in keep:
                os.unlink(os.path.join(folder, name))
