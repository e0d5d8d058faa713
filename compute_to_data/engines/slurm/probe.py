"""Short jobs that look at a node: which images it has, and whether it sees a directory as this host does."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from compute_to_data.engines.slurm import commands, notes
from compute_to_data.engines.slurm.notes import Directory
from compute_to_data.engines.slurm.settings import SlurmSettings
from compute_to_data.engines.slurm.states import Phase, meaning
from compute_to_data.errors import EngineError, EngineOutOfReach
from compute_to_data.plain_text import lines

_WAIT_SECONDS = 30.0
"""How long the engine waits for a probe. It may stand in Slurm's queue for longer."""
_OLD_SECONDS = 3600.0
"""The engine removes what is left of a probe after this time: no worker waits for it any more."""
_LOOK_SECONDS = 0.1
_QUEUE_SECONDS = 30.0
"""How often the engine asks, at most, whether a probe without an answer is still in Slurm's queue."""
_MOST_OF_LOG = 4096
_REMEDY = "See squeue; a probe needs one free processor in the partition"


class _Probe(NamedTuple):
    """A probe under way: its file, and its job's id in Slurm."""

    name: str
    identity: str


class Prober:
    """Submits probes. Threads may share it."""

    def __init__(self, settings: SlurmSettings, directory: Directory) -> None:
        self._settings = settings
        self._directory = directory
        self._lock = threading.Lock()
        self._pending: _Probe | None = None
        self._next_question = 0.0

    def refresh(self) -> None:
        """Let a node list its images, without waiting for it. A probe that has ended makes room for another one."""
        with self._lock:
            last = self._pending
            if last is not None and (self._seen(last, 0.0) is not None or self._is_over(last)):
                self._discard(last.name)
            self._begin_listing()

    def list_images(self) -> None:
        """Let a node list its images. EngineOutOfReach when that takes too long, EngineError when it cannot."""
        with self._lock:
            is_new = self._begin_listing()
            assert self._pending is not None
            said = self._answer(self._pending, _WAIT_SECONDS if is_new else 0.0)
        if said["problem"]:  # of this node: the next probe may see another one
            raise EngineOutOfReach(f"node {said['node']}", str(said["problem"]).rstrip("."))

    def _begin_listing(self) -> bool:
        """Submit a probe, unless one is under way."""
        if self._is_pending():
            return False
        self._pending = self._submit()
        return True

    def _is_pending(self) -> bool:
        """Whether there may still be an answer to the probe, or is one."""
        pending = self._pending and self._directory.path / self._pending.name
        return bool(pending and pending.exists() and time.time() - pending.stat().st_mtime < _OLD_SECONDS)

    def try_directory(self, directory: str) -> None:
        """Let a node read and write below a directory, and read here what it wrote.

        EngineError when either fails; EngineOutOfReach when no node does it in time.
        """
        place = Path(directory, f".compute_to_data_probe_{secrets.token_hex(8)}")
        content, probe = secrets.token_hex(16), None
        try:
            place.mkdir(mode=0o700)
            (place / "question").write_text(content, encoding="utf-8")
            probe = self._submit(str(place))
            said = self._answer(probe, _WAIT_SECONDS)
            _need_no_problem(said)
            answer = (place / "answer").read_text(encoding="utf-8")
        except OSError as error:
            raise EngineError(directory, f"this host cannot use it ({error.strerror})") from error
        finally:
            shutil.rmtree(place, ignore_errors=True)
            if probe is not None:
                self._discard(probe.name)
        if answer != content:
            raise EngineError(directory, f"node {said['node']} sees other files there than this host")

    def _submit(self, *places: str) -> _Probe:
        for file in self._directory.path.glob("probe-*.json*"):
            if time.time() - file.stat().st_mtime > _OLD_SECONDS:
                file.unlink()
        name = f"probe-{secrets.token_hex(8)}.json"
        document: dict[str, Any] = {"asked": time.time(), "sandbox": dict(self._settings.sandbox)}
        notes.write(self._directory.path / name, document)
        words = commands.probe(
            self._settings, "probe", str(self._directory.path), name, *places, log=f"{self._directory.path / name}.log"
        )
        try:
            said = commands.run(words, self._settings.timeout_seconds)
        except EngineError:
            self._discard(name)
            raise
        return _Probe(name, said.strip().partition(";")[0])

    def _answer(self, probe: _Probe, seconds: float) -> dict[str, Any]:
        said = self._seen(probe, seconds)
        if said is None and self._is_over(probe):
            said = self._seen(probe, self._settings.notes_seconds)
            if said is None:
                raise self._failed(probe)
        if said is None:
            raise EngineOutOfReach("Slurm", "no node has answered a probe yet", _REMEDY)
        self._discard(probe.name)
        return said

    def _seen(self, probe: _Probe, seconds: float) -> dict[str, Any] | None:
        """The answer, if it comes within so many seconds."""
        until = time.monotonic() + seconds
        while True:
            said = notes.read(self._directory.path / f"{probe.name}.answer")
            if said is not None or time.monotonic() >= until:
                return said
            time.sleep(_LOOK_SECONDS)

    def _is_over(self, probe: _Probe) -> bool:
        """Whether a probe's job has ended, as far as Slurm knows."""
        if time.monotonic() < self._next_question:
            return False
        self._next_question = time.monotonic() + _QUEUE_SECONDS
        try:
            answer = commands.run(commands.question_about(probe.identity), self._settings.timeout_seconds)
        except EngineOutOfReach:
            return False
        except EngineError:  # slurmctld has forgotten it
            return True
        state, _ = commands.states(answer).get(probe.identity, ("", ""))
        return not state or meaning(state).phase not in (Phase.WAITS, Phase.RUNS)

    def _failed(self, probe: _Probe) -> EngineOutOfReach:
        """The error for a probe whose job has ended without an answer. The next look begins another one."""
        said = _last_line(self._directory.path / f"{probe.name}.log")
        self._discard(probe.name)
        remedy = f"On each node, {self._settings.python} must have this package ('python' in the engine's settings)"
        return EngineOutOfReach("Slurm", f"a probe ended on its node without an answer ({said})", remedy)

    def _discard(self, name: str) -> None:
        for file in (name, f"{name}.answer", f"{name}.log"):
            if os.path.lexists(self._directory.path / file):
                os.unlink(self._directory.path / file)


def _need_no_problem(said: dict[str, Any]) -> None:
    if said["problem"]:
        raise EngineError(f"node {said['node']}", str(said["problem"]).rstrip("."))


def _last_line(log: Path) -> str:
    """The end of what a probe's program, or Slurm, wrote."""
    try:
        content = log.read_bytes()
    except OSError:
        content = b""
    said = lines(content[-_MOST_OF_LOG:].decode(errors="replace")).split("\n")
    return next((line.strip()[-300:] for line in reversed(said) if line.strip()), "it wrote nothing")
