"""The checkpoint of a task, which its journal holds, and the point at which a worker resumes an interrupted task.

``checkpoint_json`` says how the file holds a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, TypeVar

from compute_to_data.errors import ReasonCode
from compute_to_data.job import Exit
from compute_to_data.records.state import State

_T = TypeVar("_T")


@dataclass(frozen=True)
class Ending:
    """The final state of a task, why, and the iRODS code of the failure (0 for none)."""

    state: State
    reason: ReasonCode
    text: str
    code: int

    @property
    def facts(self) -> dict[str, str]:
        """The facts that the task's record gets."""
        return {"reason": self.text, "reason_code": self.reason.value, "error_code": str(self.code)}


class Moment(NamedTuple):
    """An instant on the host's monotonic clock, which all processes share until the host restarts.

    ``boot`` identifies the boot (the kernel's boot id), ``seconds`` is ``time.monotonic()`` in it.
    """

    boot: str
    seconds: float


class EndedStep(NamedTuple):
    """How a step in a container of its own ended: its exit status, Unix seconds, and how many bytes are kept of what it
    wrote to stdout and stderr."""

    status: int
    started: float
    finished: float
    stdout: int
    stderr: int


@dataclass(frozen=True)
class Checkpoint:
    """What a worker needs to resume a task after it was killed.

    The worker writes a field *before* it does what the field is about. Exceptions: it writes ``exit`` and
    ``moved_to``, and sets ``live`` back to False, afterwards.
    """

    made: float | None
    """When the task's collection was created, in Unix seconds, from the catalog. It distinguishes this task
    from an earlier one whose collection had the same name. None only in a journal that was opened without
    that time; the worker never writes such a journal."""
    token: str
    """16 random hexadecimal digits: the name of the task's own directory in the vault. Another user
    cannot guess it, and so cannot put anything there beforehand."""
    staged: tuple[str, ...] = ()
    """Logical paths of the inputs whose replicas on the compute resource this task made, or was about
    to make; sorted. The task may trim only these."""
    attempt: int = 0
    """How often a worker submitted the job, or was about to. Submissions that a stopping worker took back
    do not count. 0: as far as this checkpoint knows, the engine holds no job."""
    image_digest: str = ""
    """The digest of the image that the job runs; '' before the first submission."""
    began: Moment | None = None
    """When the last submitted job began to run, as far as a worker has seen; None before that."""
    live: bool = False
    """Whether the live logs may be registered in the catalog."""
    exit: Exit | None = None
    """How the job ended, once the worker has accepted its end and its outputs. By then its logs are on the
    disk. The file keeps ``status``, ``started`` and ``finished`` of it."""
    moving_to: str = ""
    """The root resource to which the worker is replicating the results, else ''."""
    moved_to: str = ""
    """The root resource that has a verified replica of every result, else ''."""
    replacing: bool = False
    """Whether the task has succeeded, and the worker removes the earlier results that its own have replaced."""
    ending: Ending | None = None
    """The final state that the worker has decided on, while it undoes what the task did."""
    ended: tuple[EndedStep, ...] = ()
    """The steps of a program whose steps run apart, each in a container of its own, that have ended before the current
    one. Their logs are on the disk."""
    between: bool = False
    """Whether the last of them may still have its job in the engine. Then the current one has not been submitted."""
    exit_status: str = ""
    """The exit status to record with ``ending``; '' when no program ended."""


class ResumePoint(Enum):
    """Where an attempt resumes a task: what is true in the zone and in the engine at that point."""

    FRESH = "fresh"
    """No attempt has begun the task. The record says QUEUED; zone and engine hold nothing of it."""
    UNKNOWN = "unknown"
    """An attempt began the task and left no checkpoint: the worker was killed before it wrote one, or the
    file is lost. The zone may hold outputs and the engine a job that the worker does not know of. The worker
    removes both and begins the task again."""
    STAGED = "staged"
    """The task made replicas of its inputs or fetched some, or was about to. The engine holds no job of it. Nothing
    is registered."""
    STARTED = "started"
    """The worker submitted the job, or was about to. Only the engine knows whether there is a job, and
    whether it has ended. At most the live logs are registered."""
    EXITED = "exited"
    """The job succeeded and the worker accepted its outputs; they and the logs are in the task's directory.
    The engine may still hold the job. Some or all outputs may be registered."""
    MOVING = "moving"
    """As EXITED, with all outputs registered; some may have replicas on the receiving resource, too."""
    MOVED = "moved"
    """The receiving resource has a verified replica of every result. Some or all replicas on the compute
    resource may be gone."""
    REPLACED = "replaced"
    """The task has succeeded, and all its results are where they are to stay. Some or all of the earlier results that
    they replaced may be gone, so the task cannot fail or be cancelled any more."""
    ENDING = "ending"
    """The worker has decided that the task failed or is cancelled. Some or all of what the task did is undone."""

    @property
    def has_checkpoint(self) -> bool:
        """Whether an earlier attempt left a checkpoint: there may be something to undo."""
        return self not in (ResumePoint.FRESH, ResumePoint.UNKNOWN)

    @property
    def has_exited(self) -> bool:
        """Whether an earlier attempt accepted the job's end and outputs: the job must not run again."""
        return self in (ResumePoint.EXITED, ResumePoint.MOVING, ResumePoint.MOVED, ResumePoint.REPLACED)


def resume_point(found: Checkpoint | None, state: State | None) -> ResumePoint:
    """Where a worker resumes a task. ``found``: the checkpoint that an earlier attempt left, or None.
    ``state``: from the task's record, and only used without a checkpoint: the task's owner can write the record.
    """
    if found is None:
        return ResumePoint.FRESH if state is State.QUEUED else ResumePoint.UNKNOWN
    if found.ending is not None:
        return ResumePoint.ENDING
    if found.exit is None:
        return ResumePoint.STARTED if found.attempt else ResumePoint.STAGED
    if found.replacing:
        return ResumePoint.REPLACED
    if found.moved_to:
        return ResumePoint.MOVED
    return ResumePoint.MOVING if found.moving_to else ResumePoint.EXITED


def required(value: _T | None, name: str) -> _T:
    """``value``, which the task's resume point requires. RuntimeError, a bug of ours, when it is None."""
    if value is None:
        raise RuntimeError(f"the checkpoint has no {name}, though the task's resume point needs it")
    return value
