"""Removes what a cancelled task left in the vault, after the task's end.

A user waits for that end, and removing a hundred thousand files takes up to a minute. A note in the worker's state
directory says what to remove, so that the next worker does it when this one is killed before.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Collection, Sequence

from compute_to_data.disk_usage import measure
from compute_to_data.errors import ComputeToDataError
from compute_to_data.job import JobKey
from compute_to_data.pipeline import journal
from compute_to_data.pipeline.vault import workspace

log = logging.getLogger(__name__)

_FEW = 1000
"""How many entries are removed before the end: that takes a moment."""


def takes_long(directory: str) -> bool:
    """Whether a directory holds so many entries that a user should not wait for their removal."""
    return not measure(directory, most_bytes=sys.maxsize, most_entries=_FEW).is_whole


def put_off(journal_folder: str, key: JobKey, directory: str, kept: Sequence[str]) -> None:
    """Note that all of a directory is to be removed when the task of this job has ended, but files with these relative
    paths. OutOfReach when the state directory is full or gone."""
    document = {"job": key.text, "directory": directory, "kept": list(kept)}
    journal.replace_file(_note(journal_folder, directory), document, "what to remove")


def forget(journal_folder: str, directory: str) -> None:
    """Forget what an earlier attempt noted about a directory: another one decides anew what to keep."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_note(journal_folder, directory))


def remove(journal_folder: str, directory: str) -> None:
    """Do what a note says about a directory, if there is one. After an error, the note stays for a later worker."""
    _do(_note(journal_folder, directory), ())


def remove_what_is_left(journal_folder: str, unfinished: Collection[JobKey]) -> None:
    """Do, in a thread, what an earlier worker noted, except for tasks that have not ended: they decide anew."""
    folder = _folder(journal_folder)
    notes = [one for one in (os.listdir(folder) if os.path.isdir(folder) else ()) if one.endswith(".json")]

    def work() -> None:
        for name in notes:
            _do(os.path.join(folder, name), unfinished)

    if notes:
        threading.Thread(target=work, name="removals", daemon=True).start()


def _folder(journal_folder: str) -> str:
    return f"{journal_folder}.removals"


def _note(journal_folder: str, directory: str) -> str:
    return journal.file_about(_folder(journal_folder), directory)


def _do(note: str, unfinished: Collection[JobKey]) -> None:
    try:
        with open(note, encoding="utf-8") as file:
            found = json.load(file)
        if JobKey(found["job"]) in unfinished:
            return
        directory = found["directory"]
        if os.path.isdir(directory):
            workspace.discard_all_but(directory, found["kept"])
        for above in (os.path.dirname(directory), os.path.dirname(os.path.dirname(directory))):
            workspace.discard_empty(above)
        os.unlink(note)
    except FileNotFoundError:
        return
    except (ComputeToDataError, OSError, ValueError, LookupError) as error:
        log.warning("%s: the worker could not remove all of it: %s", note, error)
