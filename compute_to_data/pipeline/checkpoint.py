"""The checkpoint of a task, which its journal holds, and the point at which a worker resumes an interrupted task.

The names and lists in the file (``document``, ``checkpoint_of``) must stay as they are: a site may upgrade
the worker while tasks run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeVar

from compute_to_data.errors import ReasonCode
from compute_to_data.job import Exit
from compute_to_data.records.state import FINAL, State

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

    def document(self) -> dict[str, Any]:
        """The checkpoint as JSON, without fields that have their default."""
        exit, ending = self.exit, self.ending
        fields = {
            "staged": list(self.staged),
            "attempt": self.attempt,
            "image_digest": self.image_digest,
            "began": self.began and list(self.began),
            "live": self.live,
            "exit": exit and [exit.status, exit.started, exit.finished],
            "ended": [list(one) for one in self.ended],
            "between": self.between,
            "moving_to": self.moving_to,
            "moved_to": self.moved_to,
            "replacing": self.replacing,
            "ending": ending and [ending.state.value, ending.reason.value, ending.text, ending.code, self.exit_status],
        }
        return {"made": self.made, "token": self.token, **{name: value for name, value in fields.items() if value}}


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


# Reading

_NAMES = frozenset(
    {"made", "token", "staged", "attempt", "image_digest", "began", "live", "exit", "ended", "between", "moving_to"}
    | {"moved_to", "replacing", "ending"}
)
_REASONS = frozenset(reason.value for reason in ReasonCode)
_TOKEN = re.compile(r"[0-9a-f]{16}")


def checkpoint_of(document: object) -> Checkpoint:
    """The checkpoint in a journal's JSON. ValueError, which names the field, for an invalid or unknown field.

    Unknown fields are errors because a later release may have written them to say that the task is further.
    """
    if not isinstance(document, dict):
        raise ValueError("found no JSON object")
    unknown = document.keys() - _NAMES
    if unknown:
        raise ValueError(f"{min(unknown)}: this release does not know it")
    ending, exit_status = _ending(document)
    return Checkpoint(
        made=_number("made", document.get("made")),
        token=_token(document.get("token")),
        staged=tuple(_text("staged", one) for one in _list("staged", document.get("staged", []))),
        attempt=_attempt(document.get("attempt", 0)),
        image_digest=_text("image_digest", document.get("image_digest", "")),
        began=_began(document),
        live=_flag("live", document.get("live", False)),
        exit=_exit(document),
        ended=tuple(_ended_step(one) for one in _list("ended", document.get("ended", []))),
        between=_flag("between", document.get("between", False)),
        moving_to=_text("moving_to", document.get("moving_to", "")),
        moved_to=_text("moved_to", document.get("moved_to", "")),
        replacing=_flag("replacing", document.get("replacing", False)),
        ending=ending,
        exit_status=exit_status,
    )


def _began(document: Mapping[str, object]) -> Moment | None:
    if "began" not in document:
        return None
    boot, seconds = _list("began", document["began"], 2)
    return Moment(_text("began", boot), _number("began", seconds))


def _exit(document: Mapping[str, object]) -> Exit | None:
    if "exit" not in document:
        return None
    status, started, finished = _list("exit", document["exit"], 3)
    return Exit(_integer("exit", status), False, _number("exit", started), _number("exit", finished))


def _ended_step(found: object) -> EndedStep:
    status, started, finished, out, err = _list("ended", found, 5)
    times = _number("ended", started), _number("ended", finished)
    return EndedStep(_integer("ended", status), *times, _integer("ended", out), _integer("ended", err))


def _ending(document: Mapping[str, object]) -> tuple[Ending | None, str]:
    if "ending" not in document:
        return None, ""
    state, reason, text, code, exit_status = _list("ending", document["ending"], 5)
    ending = Ending(
        State(_one_of("ending", FINAL, state)),
        ReasonCode(_one_of("ending", _REASONS, reason)),
        _text("ending", text),
        _integer("ending", code),
    )
    return ending, _text("ending", exit_status)


def _token(value: object) -> str:
    token = _text("token", value)
    if not _TOKEN.fullmatch(token):
        raise ValueError("token: found something else than 16 hexadecimal digits")
    return token


def _attempt(value: object) -> int:
    attempt = _integer("attempt", value)
    if attempt < 0:
        raise ValueError(f"attempt: found {attempt}")
    return attempt


def _list(name: str, value: object, length: int | None = None) -> list[Any]:
    if isinstance(value, list) and length in (None, len(value)):
        return value
    raise ValueError(f"{name}: found no list" + (f" of {length}" if length else ""))


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{name}: found no string")


def _one_of(name: str, known: frozenset[str], value: object) -> str:
    text = _text(name, value)
    if text in known:
        return text
    raise ValueError(f"{name}: found {text[:80]!r}, expected one of {', '.join(sorted(known))}")


def _flag(name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"{name}: found neither true nor false")


def _integer(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{name}: found no integer")


def _number(name: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return value
    raise ValueError(f"{name}: found no finite number")
