"""The program that Slurm starts on a node. It runs one job in its sandbox, and leaves notes for the worker.

::

    python3 -I -m compute_to_data.engines.slurm.node run FOLDER NONCE      what the worker submits
    python3 -I -m compute_to_data.engines.slurm.node probe DIRECTORY ...   looks at a node
    python3 -I -m compute_to_data.engines.slurm.node clean DIRECTORY       for Slurm's Epilog: SLURM_JOB_ID is over

If the folder is gone, or has another nonce, the worker has given the job up, and the program does nothing. A file
``running/<Slurm's job id>`` in the node's state directory, locked while the program lives, has the job's key: what a
killed program left is removed by the Epilog, or by the next job on the node.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compute_to_data.engines import checks
from compute_to_data.engines.docker import DockerEngine
from compute_to_data.engines.slurm import images, notes, written_job
from compute_to_data.engines.slurm.notes import EXIT, REQUEST, STARTED, STOP, Directory, Notes
from compute_to_data.errors import EngineError, ImageMissing, OutOfReach
from compute_to_data.job import Exit, Job, JobKey
from compute_to_data.ports.engine import Engine, RunningJob

_LOOK_SECONDS = 0.5
"""How often the program looks for the worker's note that the job must end, if no signal reaches it."""
_PAUSES = (1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 60.0)
"""Between two attempts to write a note, in seconds."""
_OWN_GRACE = 20.0
"""The most grace that a job gets when Slurm ends it: less than Slurm's KillWait, which is 30 s by default."""
_PATHS, _MOST_IMAGES = "image-paths.json", 100
_STOPPED = 128 + signal.SIGTERM


def run(folder: str, nonce: str) -> int:
    """Run the job of a folder, unless the worker has given it up."""
    directory = Directory(str(Path(folder).parents[1]))
    directory.need_own()
    own = Notes(Path(folder))
    request = own.read(REQUEST)
    if request is None or request["nonce"] != nonce:
        print("the worker has given this job up", flush=True)
        return 0
    job = written_job.job(request["job"], own.secrets())
    node = Node(directory, request["sandbox"])
    with node.registered(job):
        status = _Run(own, directory, job, node.engine).to_its_end()
        node.keep_paths()
        return status


class Node:
    """This node, as an engine sees it. ``sandbox``: the settings of the engine that runs jobs here."""

    def __init__(self, directory: Directory, sandbox: dict[str, Any]) -> None:
        self.name = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self._state = directory.path / "nodes" / checks.key(JobKey(self.name))
        self._running = self._state / "running"
        self._running.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known_paths = notes.read(self._state / _PATHS) or {}
        self._kept_paths = json.dumps(self._known_paths)
        self.engine: Engine = DockerEngine(sandbox, str(self._state), self._known_paths)

    def keep_paths(self) -> None:
        """Keep what the engine has learnt about the paths of images, for the next jobs."""
        if json.dumps(self._known_paths) != self._kept_paths:
            kept = self._known_paths if len(self._known_paths) <= _MOST_IMAGES else {}
            notes.write(self._state / _PATHS, kept)

    @contextlib.contextmanager
    def registered(self, job: Job) -> Iterator[None]:
        """Note which job Slurm's job is, as long as it lives; first remove what others have left."""
        with self._alone():
            self._clean()
            file = self._running / os.environ.get("SLURM_JOB_ID", f"p{os.getpid()}")
            own = open(file, "w", encoding="utf-8")  # noqa: SIM115 - open and locked until this process ends
            fcntl.flock(own, fcntl.LOCK_EX)
            own.write(f"{job.key}\n{job.scope}")
            own.flush()
        with own:
            yield
            file.unlink()

    def clean(self, only: str) -> None:
        """Remove what our program has left, if it was killed, of this job of Slurm."""
        with self._alone():
            self._clean(only)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other job of this node begin meanwhile."""
        with open(self._state / "lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _clean(self, only: str = "") -> None:
        scopes, others = set(), False
        for file in self._running.iterdir():
            if only and file.name != only:
                others = True
                continue
            with contextlib.suppress(FileNotFoundError), open(file, encoding="utf-8") as left:  # else it has just ended
                try:
                    fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    others = True
                    continue
                key, _, scope = left.read().partition("\n")
                if key:
                    print(f"removing {key}, whose program was killed", flush=True)
                    self.engine.remove(JobKey(key))
                    scopes.add(scope)
            file.unlink(missing_ok=True)
        for scope in scopes if not others else ():  # else it could belong to a job that begins
            self.engine.tidy(scope, frozenset(), 0.0)


class _Run:
    """One job, from its start to its end. The main thread waits for signals, another one for the job."""

    def __init__(self, own: Notes, directory: Directory, job: Job, engine: Engine) -> None:
        self._notes = own
        self._directory = directory
        self._job = job
        self._engine = engine
        self._events: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running: RunningJob | None = None
        self._ended_by_slurm = False
        self._has_ended = False
        self._is_clean = False

    def to_its_end(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._note_signal)
        if self._stop_grace() is not None:
            now = time.time()
            self._tell_exit(Exit(_STOPPED, False, now, now))
            return 0
        runner = threading.Thread(target=self._run, daemon=True)
        runner.start()
        is_stopping = False
        while True:
            with contextlib.suppress(queue.Empty):
                event = self._events.get(timeout=_LOOK_SECONDS)
                if event == "over":
                    break
            grace = self._stop_grace()
            if grace is None and self._ended_by_slurm:
                grace = min(self._job.grace_seconds, _OWN_GRACE)
            if grace is not None and not is_stopping and self._running is not None:
                is_stopping = True
                threading.Thread(target=self._stop, args=(self._running, grace), daemon=True).start()
        runner.join()
        if not self._is_clean:
            raise EngineError(self._job.key.task, "its container is left; the next job on this node removes it")
        return 0

    def _note_signal(self, number: int, frame: object) -> None:
        if number != signal.SIGUSR1 and not self._has_ended:
            self._ended_by_slurm = True
        self._events.put("signal")

    def _stop_grace(self) -> float | None:
        """The grace in the worker's note that the job must end; None without one."""
        try:
            note = self._notes.read(STOP)
            if note is None and not self._notes.folder.exists():
                return 0.0
        except (OSError, EngineError):  # the file system's server is away: the job goes on
            return None
        return None if note is None else float(note["grace"])

    def _stop(self, running: RunningJob, grace: float) -> None:
        with contextlib.suppress(EngineError):
            running.stop(grace)

    def _run(self) -> None:
        try:
            self._run_and_tell()
        except FileNotFoundError:  # the worker has removed the notes: it does not wait for the job any more
            print("the worker has removed this job", flush=True)
        finally:
            try:
                self._engine.remove(self._job.key)
                self._is_clean = True
            finally:
                self._events.put("over")

    def _run_and_tell(self) -> None:
        try:
            self._running = running = self._engine.submit(self._job)
        except EngineError as error:
            self._tell(EXIT, _error(error))
            return
        finally:
            self._notes.forget_secrets()
        started = running.status().started
        self._tell(STARTED, {"time": started})
        self._events.put("started")
        try:
            end = running.wait(float("inf"))
            assert end is not None
            self._has_ended = True
            running.finish_log()
        except EngineError as error:
            self._tell(EXIT, _error(error))
        else:
            self._tell_exit(end)

    def _tell_exit(self, end: Exit) -> None:
        self._tell(EXIT, {**vars(end), "ended_by": None, "is_ended_by_slurm": self._ended_by_slurm})

    def _tell(self, name: str, document: dict[str, Any]) -> None:
        place = {"slurm": os.environ.get("SLURM_JOB_ID", ""), "node": os.environ.get("SLURMD_NODENAME", "")}
        for pause in (*_PAUSES, None):
            try:
                self._notes.write(name, {**document, **place})
                break
            except OutOfReach as error:
                print(f"the worker does not learn of it yet: {error}", flush=True)
                if pause is None:
                    raise
                time.sleep(pause)
        with contextlib.suppress(OSError):  # the worker then learns it from Slurm
            self._directory.ring(self._job.scope, self._job.key.text)


def _error(error: EngineError) -> dict[str, Any]:
    """What the node's engine says against the job."""
    kind = "missing" if isinstance(error, ImageMissing) else "lost" if isinstance(error, OutOfReach) else "error"
    return {kind: [error.subject, error.cause, error.remedy]}


def probe(directory: str, answer: str, *places: str) -> int:
    """Look at this node: write the images that it has, and try to write and read in ``places``.

    Each place is a directory with a file ``question``; its content goes into a new file ``answer`` beside it.
    """
    own = Directory(directory)
    own.need_own()
    request = notes.read(own.path / answer)
    if request is None:
        return 0
    node = Node(own, request["sandbox"])
    said: dict[str, Any] = {"node": node.name, "asked": request["asked"], "problem": ""}
    try:
        node.engine.check()
        images.write(own, node.engine, node.name, request["asked"])
        for place in places:
            content = Path(place, "question").read_text(encoding="utf-8")
            Path(place, "answer").write_text(content, encoding="utf-8")
    except (EngineError, OSError) as error:
        said["problem"] = str(error)
    notes.write(own.path / f"{answer}.answer", said)
    return 0


def clean(directory: str) -> int:
    """For Slurm's Epilog: remove what the job that is over has left on this node."""
    own = Directory(directory)
    own.need_own()
    Node(own, {"job_uids": None}).clean(os.environ["SLURM_JOB_ID"])
    return 0


def main(words: list[str]) -> int:
    """Run one of the commands above. Returns the exit status."""
    commands: dict[str, Callable[..., int]] = {"run": run, "probe": probe, "clean": clean}
    return commands[words[0]](*words[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
