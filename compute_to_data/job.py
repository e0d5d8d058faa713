"""The values that workers and engines exchange: jobs, and how they go."""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from compute_to_data.errors import ReasonCode
from compute_to_data.model import User


def scope_mark(scope: str) -> str:
    """Identifies a worker's scope in the names of files; contains no dot."""
    return hashlib.sha256(scope.encode()).hexdigest()[:20]


@dataclass(frozen=True, order=True)
class JobKey:
    """Identifies a task's job in an engine, and the task's journal.

    Users choose task ids, and several zones may share an engine. So a key is ``<task id>.<place>``, where
    the place is a hash of the worker's scope and the task's collection.
    """

    text: str

    @classmethod
    def of(cls, scope: str, collection: str) -> JobKey:
        """The key of the task with this collection. ``scope``: the worker's (zone, resource, installation)."""
        place = hashlib.sha256(f"{scope}\0{collection}".encode()).hexdigest()[:20]
        return cls(f"{collection.rpartition('/')[2]}.{place}")

    @property
    def task_id(self) -> str:
        """The task's id, as its owner knows it."""
        return self.text.rpartition(".")[0] or self.text

    @property
    def task(self) -> str:
        """The subject of an error: ``task <id>``."""
        return f"task {self.task_id}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Image:
    """An image that the engine has, under the name in the request.

    ``digest`` identifies its content (``sha256:...``). ``aliases`` are other digests of the same content: a
    registry's manifest digest differs from the local image id. ``unused``: what the image says about its start and
    jobs do not use, such as ``ENTRYPOINT /start.sh``; '' for nothing.
    """

    name: str
    digest: str
    aliases: frozenset[str] = frozenset()
    unused: str = field(default="", compare=False)


SECRETS = "/run/secrets"
"""The directory in which a job finds its secrets, each as a file with the secret's name."""


@dataclass(frozen=True)
class Mount:
    """One input file that the job sees, read-only, at ``target`` in its sandbox."""

    physical_path: str
    target: str


@dataclass(frozen=True)
class OutputMount:
    """A directory ``name`` in the job's outputs that the job also sees at ``target``. The engine makes it; it is
    empty at the start, and writable."""

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
    "/.compute-to-data",
    "/.compute-to-data-init",
    "/.compute-to-data-helper",
)
"""Paths that the sandbox or the system below it needs."""


def misplaced(inputs: Sequence[str], outputs: Sequence[str] = ()) -> tuple[str, str] | None:
    """The first target of an input or of an output directory that no sandbox can mount, and why; None when
    all are possible.

    No target may lie inside another: the runtime would make the missing mount point there as root.
    """
    writable = set(outputs)
    places = Counter((*inputs, *outputs))
    for target, times in places.items():
        cause = _unusable(target)
        if not cause and times > 1:
            cause = "is the target of two mounts"
        if not cause and target in writable and target.startswith("/inputs/"):
            cause = "lies in /inputs, which is read-only"
        around = next((one for one in directories_above(target) if one in places), "")
        if not cause and around:
            cause = f"lies inside {around}, the target of another mount"
        if cause:
            return target, cause
    return None


def _unusable(target: str) -> str:
    """Why no sandbox can mount anything at ``target``; '' when it can."""
    if not target.startswith("/") or target.startswith("//") or posixpath.normpath(target) != target or "\0" in target:
        return "is not an absolute path without '.', '..' and needless slashes"
    if target in ("/", "/inputs"):
        return "is a directory that contains other mounts"
    for kept in _KEPT:
        if f"{target}/".startswith(f"{kept}/") or kept.startswith(f"{target}/"):
            return f"would hide or change {kept}, which the sandbox keeps for itself"
    return ""


def directories_above(target: str) -> Iterator[str]:
    """The directories above a path in the sandbox, without the root."""
    return (target[:end] for end, letter in enumerate(target) if letter == "/" and end)


@dataclass(frozen=True)
class Limits:
    """What a job may use, in seconds, bytes, processors and processes. ``output_avus``: how many AVUs its outputs may
    have together. ``input_bytes``: bytes of the inputs that must be replicated to the compute resource for it."""

    walltime_seconds: float
    memory_bytes: int
    cpus: float
    pids: int
    output_bytes: int
    output_files: int
    tmp_bytes: int
    log_bytes: int
    output_avus: int = 200_000
    input_bytes: int = 100 << 30


@dataclass(frozen=True)
class Sandbox:
    """The warm sandboxes of one workload. A job may run in one of them.

    ``workload`` is their name in the engine, which keeps at most ``instances`` of them; with 0 it makes none.
    ``directory`` is their own physical path, on the file system of the jobs' outputs.
    ``inputs`` is the physical path of a directory that their jobs see, read-only, as ``/input``; '' for none.
    """

    workload: str
    instances: int
    directory: str
    inputs: str = ""


ENGINE_MARGIN_SECONDS = 1.0
"""How long after the worker would have ended a job the engine begins to end it by itself."""


UID, GID = "\0uid\0", "\0gid\0"
"""In the values of a job's environment, these stand for the numbers of its account, which its engine chooses."""


@dataclass(frozen=True)
class Job:
    """What an engine runs for a task. An engine has at most one job per key.

    ``scope`` identifies the worker's jobs in an engine that several workers share.
    ``outputs`` is the physical path of the only writable directory, which the job sees as ``/outputs``. The job
    starts in ``working_directory``, by default ``/tmp``, which is also its ``HOME``. If its program is
    missing, the job ends with status 127; if the program cannot be executed, with 126.

    A job with a ``sandbox`` also sees its outputs as ``/output``, and may run in a sandbox in which an earlier
    job of the same owner and workload ran. This saves the time to make a sandbox; the engine ensures that
    nothing of the earlier job is left. An engine without warm sandboxes runs it like any other job.

    ``input_folders`` are paths in the sandbox, besides those of ``inputs``, at which the job sees an empty,
    read-only directory: empty directories among the inputs, or ``/inputs`` itself when nothing is below it.

    ``output_mounts`` are directories of the outputs that the job also sees elsewhere.

    ``log_file`` is the physical path at which the engine keeps what the job writes (see ``log_file``), where the job
    cannot write. The engine makes it, in an existing directory.

    At ``limits.walltime_seconds`` the worker ends the job, with ``grace_seconds`` between SIGTERM and SIGKILL. The
    worker may be dead, so the engine itself does the same ``own_margin`` after the walltime, where it can.

    ``helper``: if there are any, the words before ``--`` for ``engines/channels.py``, which the engine starts in front
    of the command, to bring the input or collect the output.

    ``secrets`` are values by name. The job reads them as files in :data:`SECRETS` (mode 0400, owned by the
    job's account). When the job has ended, the engine keeps none of them.

    Values in ``environment`` may contain :data:`UID` and :data:`GID`.
    """

    key: JobKey
    owner: User
    scope: str
    image: Image
    command: tuple[str, ...]
    limits: Limits
    outputs: str
    log_file: str
    inputs: tuple[Mount, ...] = ()
    input_folders: tuple[str, ...] = ()
    output_mounts: tuple[OutputMount, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    grace_seconds: float = 10.0
    sandbox: Sandbox | None = None
    helper: tuple[str, ...] = ()

    @property
    def own_margin(self) -> float:
        """How many seconds after the walltime the engine itself ends the job. Until then the worker has done so, and
        given it its whole grace: GNU ``timeout``, which Docker's and Podman's sandboxes begin with, kills at the time
        that it was told first, even when a SIGTERM has come just before."""
        return self.grace_seconds + ENGINE_MARGIN_SECONDS

    def run_by(self, uid: int, gid: int) -> Job:
        """This job, with the numbers of its account in its environment."""
        environment = {
            name: value.replace(UID, str(uid)).replace(GID, str(gid)) for name, value in self.environment.items()
        }
        return replace(self, environment=environment)


@dataclass(frozen=True)
class EndedBy:
    """What ended a job from outside, if its engine knows: the reason of the task's end, a cause and a remedy."""

    reason: ReasonCode
    cause: str
    remedy: str = ""


@dataclass(frozen=True)
class Exit:
    """How a job ended. Times are Unix seconds. ``status`` is that of the first process, 128+n when signal n
    ended it. Not ``certain``: the engine reports this status when it has lost track of a job, as after a crash
    of the engine or the host. ``ended_by``: None for a job that ended by itself, or that the worker stopped."""

    status: int
    out_of_memory: bool
    started: float
    finished: float
    certain: bool = True
    ended_by: EndedBy | None = None


class JobState(Enum):
    """The state of a job in its engine."""

    PENDING = "pending"
    """The job waits in the engine's own queue."""
    RUNNING = "running"
    ENDED = "ended"
    PREEMPTED = "preempted"
    """The engine ended the job to run another one. It does not run it again by itself."""
    UNKNOWN = "unknown"
    """The engine has no such job."""


@dataclass(frozen=True)
class JobStatus:
    """The status of a job in its engine. ``started``: Unix seconds, None before the job runs. ``exit``: None before
    the job has ended, and when only the job's ``wait`` can return the exit or raise the error."""

    state: JobState
    started: float | None = None
    exit: Exit | None = None


LOG_NAME = "LOG"
"""The name of a task's ``log_file``, beside its outputs."""


@dataclass(frozen=True)
class Logs:
    """The last bytes of each stream (at most 64 KiB), from which roles explain a failure."""

    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class OutputFile:
    """One output: its path ``relative`` to the outputs directory, its size in bytes, its checksum (``sha2:<base64>``,
    '' when the worker did not read it), and its device and inode, so that a later check can compare them."""

    relative: str
    size: int
    checksum: str
    identity: tuple[int, int]
