"""Short jobs that look at a node: which images it has, and whether it sees a directory as this host does."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from compute_to_data.engines.slurm import commands, notes
from compute_to_data.engines.slurm.notes import Directory
from compute_to_data.engines.slurm.settings import SlurmSettings
from compute_to_data.errors import EngineError, EngineOutOfReach

_WAIT_SECONDS = 30.0
"""How long the engine waits for a probe. It may stand in Slurm's queue for longer."""
_OLD_SECONDS = 3600.0
"""The engine removes what is left of a probe after this time: no worker waits for it any more."""
_LOOK_SECONDS = 0.1
_REMEDY = "See squeue; a probe needs one free processor in the partition"


class Prober:
    """Submits probes. Threads may share it."""

    def __init__(self, settings: SlurmSettings, directory: Directory) -> None:
        self._settings = settings
        self._directory = directory
        self._lock = threading.Lock()
        self._pending = ""

    def refresh(self) -> None:
        """Let a node list its images, without waiting for it."""
        with self._lock:
            self._begin_listing()

    def list_images(self) -> None:
        """Let a node list its images. EngineOutOfReach when that takes too long, EngineError when it cannot."""
        with self._lock:
            is_new = self._begin_listing()
            said = self._answer(self._pending, _WAIT_SECONDS if is_new else 0.0)
            self._pending = ""
        if said["problem"]:  # of this node: the next probe may see another one
            raise EngineOutOfReach(f"node {said['node']}", str(said["problem"]).rstrip("."))

    def _begin_listing(self) -> bool:
        """Submit a probe, unless one is under way."""
        pending = self._pending and self._directory.path / self._pending
        if pending and pending.exists() and time.time() - pending.stat().st_mtime < _OLD_SECONDS:
            return False
        self._pending = self._submit()
        return True

    def try_directory(self, directory: str) -> None:
        """Let a node read and write below a directory, and read here what it wrote.

        EngineError when either fails; EngineOutOfReach when no node does it in time.
        """
        place = Path(directory, f".compute_to_data_probe_{secrets.token_hex(8)}")
        content, name = secrets.token_hex(16), ""
        try:
            place.mkdir(mode=0o700)
            (place / "question").write_text(content, encoding="utf-8")
            name = self._submit(str(place))
            said = self._answer(name, _WAIT_SECONDS)
            _need_no_problem(said)
            answer = (place / "answer").read_text(encoding="utf-8")
        except OSError as error:
            raise EngineError(directory, f"this host cannot use it ({error.strerror})") from error
        finally:
            shutil.rmtree(place, ignore_errors=True)
            self._discard(name)
        if answer != content:
            raise EngineError(directory, f"node {said['node']} sees other files there than this host")

    def _submit(self, *places: str) -> str:
        for file in self._directory.path.glob("probe-*.json*"):
            if time.time() - file.stat().st_mtime > _OLD_SECONDS:
                file.unlink()
        name = f"probe-{secrets.token_hex(8)}.json"
        document: dict[str, Any] = {"asked": time.time(), "sandbox": dict(self._settings.sandbox)}
        notes.write(self._directory.path / name, document)
        log = str(self._directory.path / "probe.log")
        words = commands.probe(self._settings, "probe", str(self._directory.path), name, *places, log=log)
        try:
            commands.run(words, self._settings.timeout_seconds)
        except EngineError:
            self._discard(name)
            raise
        return name

    def _answer(self, name: str, seconds: float) -> dict[str, Any]:
        until = time.monotonic() + seconds
        while True:
            said = notes.read(self._directory.path / f"{name}.answer")
            if said is not None:
                self._discard(name)
                return said
            if time.monotonic() >= until:
                raise EngineOutOfReach("Slurm", "no node has answered a probe yet", _REMEDY)
            time.sleep(_LOOK_SECONDS)

    def _discard(self, name: str) -> None:
        for file in (name, f"{name}.answer") if name else ():
            if os.path.lexists(self._directory.path / file):
                os.unlink(self._directory.path / file)


def _need_no_problem(said: dict[str, Any]) -> None:
    if said["problem"]:
        raise EngineError(f"node {said['node']}", str(said["problem"]).rstrip("."))
