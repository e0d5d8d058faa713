"""What an engine is given to run, and what it tells of it."""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from compute_to_data.model import User


@dataclass(frozen=True, order=True)
class JobKey:
    """Names a task's job in an engine, and the worker's notes about the task.

    Users choose task ids, and several zones share an engine. So a key is ``<task id>.<place>``, where
    the place stands for the worker's scope and the task's collection.
    """

    text: str

    @classmethod
    def of(cls, scope: str, collection: str) -> JobKey:
        """The key of the task whose collection this is. ``scope``: the worker's (zone, resource, installation)."""
        place = hashlib.sha256(f"{scope}\0{collection}".encode()).hexdigest()[:20]
        return cls(f"{collection.rpartition('/')[2]}.{place}")

    @property
    def task_id(self) -> str:
        """The id of the task, as people know it."""
        return self.text.rpartition(".")[0] or self.text

    @property
    def task(self) -> str:
        """The subject of an error: ``task <id>``."""
        return f"task {self.task_id}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Image:
    """An image as the engine holds it: its name as asked for and what it really is.

    ``digest`` is the content's identity (``sha256:...``); ``aliases`` are other digests that
    name the same content (a registry's manifest digest beside the local image id).
    """

    name: str
    digest: str
    aliases: frozenset[str] = frozenset()


SECRETS = "/run/secrets"
"""Where a job finds its secrets, each a file of its name."""


@dataclass(frozen=True)
class Mount:
    """One input file made visible, read-only, at ``target`` inside the sandbox."""

    physical_path: str
    target: str


@dataclass(frozen=True)
class OutputMount:
    """A directory ``name`` of the job's outputs that the program finds at ``target``, too: empty at the
    start, and writable. The engine makes it."""

    name: str
    target: str


_KEPT = (
    "/outputs",
    "/output",
    "/input",
    "/tmp",
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/etc",
    "/sbin/docker-init",
)
"""What the sandbox makes itself, or the system below it."""


def misplaced(inputs: Sequence[str], outputs: Sequence[str] = ()) -> tuple[str, str] | None:
    """The first target, of inputs or of output directories, at which no sandbox can show one, and why;
    None when each has a place of its own.

    None may lie inside another: the runtime would make the missing mount point in there, as root.
    """
    writable = set(outputs)
    places = Counter((*inputs, *outputs))
    for target, times in places.items():
        cause = _unusable(target)
        if not cause and times > 1:
            cause = "is the place of two"
        if not cause and target in writable and target.startswith("/inputs/"):
            cause = "lies in /inputs, where nothing is written"
        if not cause:
            cause = next((f"lies inside {one}, the place of another" for one in _above(target) if one in places), "")
        if cause:
            return target, cause
    return None


def _unusable(target: str) -> str:
    """Why nothing can be shown at ``target``; '' when something can."""
    if not target.startswith("/") or target.startswith("//") or posixpath.normpath(target) != target or "\0" in target:
        return "is not an absolute path without '.', '..' and needless slashes"
    if target in ("/", "/inputs"):
        return "is a directory that has to be there for others"
    for kept in _KEPT:
        if f"{target}/".startswith(f"{kept}/") or kept.startswith(f"{target}/"):
            return f"would hide or change {kept}, which the sandbox keeps for itself"
    return ""


def _above(target: str) -> Iterable[str]:
    """Every directory that ``target`` lies in, below the root."""
    return (target[:end] for end, letter in enumerate(target) if letter == "/" and end)


@dataclass(frozen=True)
class Limits:
    """What a job may use: seconds, bytes, processors, processes."""

    walltime_seconds: float
    memory_bytes: int
    cpus: float
    pids: int
    output_bytes: int
    output_files: int
    tmp_bytes: int
    log_bytes: int


@dataclass(frozen=True)
class Sandbox:
    """The warm sandboxes of one workload, in one of which a job may run.

    ``workload`` is their name in the engine, and at most ``instances`` of them are wanted.
    ``directory`` is a physical path of their own on the file system of the jobs' outputs.
    ``inputs`` is the physical path of a directory that each of their jobs sees, read-only, as
    ``/input``; '' for none.
    """

    workload: str
    instances: int
    directory: str
    inputs: str = ""


@dataclass(frozen=True)
class Job:
    """What an engine runs for a task. There is at most one job of a key.

    ``scope`` is the worker's, which tells its jobs from those of others in one engine.
    ``outputs`` is the physical path of the one writable directory, seen as ``/outputs``. The job
    starts in ``working_directory``, by default ``/tmp``, which is its ``HOME`` too. A program that
    is not there ends it with status 127, one that cannot be run with 126.

    With a ``sandbox``, it sees its outputs as ``/output``, too, and may run where an earlier job of
    the same owner and workload ran: an engine that can do so saves the time to make a sandbox, and
    promises that nothing of the earlier job is left there. One that cannot runs it like any other.

    ``output_mounts`` are directories of the outputs that the program finds elsewhere, too.

    ``secrets`` are values by name: the job reads them as files in :data:`SECRETS` (mode 0400, its own
    account's), and once it has ended no engine keeps anything of them.
    """

    key: JobKey
    owner: User
    scope: str
    image: Image
    command: tuple[str, ...]
    limits: Limits
    outputs: str
    inputs: tuple[Mount, ...] = ()
    output_mounts: tuple[OutputMount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    sandbox: Sandbox | None = None


@dataclass(frozen=True)
class Exit:
    """How a job ended. Times are Unix seconds; ``status`` is the first process's, 128+n when
    a signal ended it. Not ``certain``: the engine may have lost sight of the job, as when it or the
    host was killed, and says so with this status."""

    status: int
    out_of_memory: bool
    started: float
    finished: float
    certain: bool = True


class JobState(Enum):
    """How far a job is, as its engine tells."""

    PENDING = "pending"
    """It waits in the engine's own queue."""
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"
    """The engine holds no such job."""


@dataclass(frozen=True)
class JobStatus:
    """A job as its engine sees it now. ``started``: Unix seconds, None before it runs. ``exit``: how it ended;
    None before, and for an end that only the job's ``wait`` can tell of, or of which it knows an error."""

    state: JobState
    started: float | None = None
    exit: Exit | None = None


@dataclass(frozen=True)
class Logs:
    """The last ``log_bytes`` of each stream; less where one stream flooded the other away."""

    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class OutputFile:
    """One file: ``relative`` to the outputs directory, bytes, ``sha2:<base64>``, and which
    inode was read (device, inode), so that a later look can tell whether it is still that one."""

    relative: str
    size: int
    checksum: str
    identity: tuple[int, int]
