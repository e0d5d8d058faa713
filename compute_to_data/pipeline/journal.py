"""What a worker must find again of a task after being killed, where the task's owner cannot write.

The record in the catalog is the owner's own: whoever owns a task can write any state and any fact
on it. A worker that resumed on such words could be told to trim another user's replica, or to
register a directory it never made. So what resuming depends on stands in the worker's state
directory, one small file a task; the record only tells people. Without its file, a task begins
from the beginning.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from typing import Any

from compute_to_data.errors import OutOfReach
from compute_to_data.job import JobKey

_FOLDER = "tasks"


def folder_of(state_directory: str, scope: str) -> str:
    """Where the notes of one scope (zone, resource, installation) lie."""
    return os.path.join(state_directory, _FOLDER, hashlib.sha256(scope.encode()).hexdigest()[:20])


class Journal:
    """One task's notes: read when made, written whole with every change."""

    def __init__(self, folder: str, key: JobKey, made: float | None) -> None:
        """``made``: when the task's collection was. Notes of another collection that had the
        same name, left by a worker killed at the wrong instant, count for nothing. None: whichever."""
        self._path = os.path.join(folder, f"{key}.json")
        self._facts: dict[str, Any] = _read(self._path)
        self.resumed = bool(self._facts) and made in (None, self._facts["made"])
        """Whether an earlier attempt of this very task left notes."""
        if not self.resumed:
            # The token names the task's directory in the vault, so that nobody can have put
            # anything there before.
            self._facts = {"made": made, "token": secrets.token_hex(8)}

    @property
    def token(self) -> str:
        """Names the task's own directory in the vault; nobody can guess it before it is there."""
        return str(self._facts["token"])

    def get(self, name: str) -> Any:
        """A fact, or None."""
        return self._facts.get(name)

    def put(self, **facts: Any) -> None:
        """Record facts; None takes one away. OutOfReach when the state directory is full, or gone: what
        the task is about to do waits until it can be noted."""
        self._facts.update(facts)
        self._facts = {name: value for name, value in self._facts.items() if value is not None}
        draft = f"{self._path}.draft"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(draft, "w", encoding="utf-8") as file:
                json.dump(self._facts, file)
            os.replace(draft, self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(draft)
            cause = f"the worker cannot write its notes ({error.strerror})"
            raise OutOfReach(self._path, cause, "Make room there, and see who owns it") from error

    def remove(self) -> None:
        """The task has ended: forget it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def _read(path: str) -> dict[str, Any]:
    """The facts in a file; none when it is missing, or was cut off when the host went down."""
    with contextlib.suppress(FileNotFoundError, ValueError), open(path, encoding="utf-8") as file:
        facts = json.load(file)
        if isinstance(facts, dict) and {"made", "token"} <= facts.keys():
            return facts
    return {}


def sweep(folder: str, keep: set[JobKey]) -> None:
    """Remove the notes of all tasks but those whose keys are to be kept."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(folder):
            if JobKey(name.rpartition(".")[0]) not in keep:
                os.unlink(os.path.join(folder, name))
