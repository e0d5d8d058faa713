"""How far a task has come, as its journal keeps it, and where an interrupted task is taken up again.

The file's names and lists (``document``, ``checkpoint_of``) are those of earlier releases: a worker
is upgraded while tasks run.
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
from compute_to_data.records.task import State

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
        """As they are recorded."""
        return {"reason": self.text, "reason_code": self.reason.value, "error_code": str(self.code)}


class Moment(NamedTuple):
    """An instant on the host's monotonic clock, which processes of one boot share.

    ``boot`` names the boot (the kernel's boot id), ``seconds`` is ``time.monotonic()`` in it.
    """

    boot: str
    seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """What a worker must know to take a task up again after it was killed. A field is written
    *before* the worker does what the field is about, except ``exit``, ``moved_to`` and ``live``'s
    return to False, which are written after it.
    """

    made: float | None
    """When the task's collection was created, in Unix seconds, as the catalog says. It sets this task
    apart from an earlier one whose collection had the same name. None only in a journal that was
    opened without that time; such a one is never written."""
    token: str
    """16 random hexadecimal digits: the name of the task's own directory in the vault. Another user
    cannot guess it, and so cannot put anything there beforehand."""
    staged: tuple[str, ...] = ()
    """Logical paths of the inputs whose replicas on the compute resource this task made, or was about
    to make; sorted. Only these may be trimmed."""
    attempt: int = 0
    """How often a worker started the job, or was about to, without a start that a stopping worker
    took back. 0: the engine holds no job that this checkpoint knows of."""
    image_digest: str = ""
    """The digest of the image that the job runs; '' before the first start."""
    began: Moment | None = None
    """When the job of the last start began to run, as far as a worker has seen; None before that."""
    live: bool = False
    """Whether the live logs may be registered in the catalog."""
    exit: Exit | None = None
    """How the job ended, once its end and its outputs were accepted; its logs are on the disk by
    then. Of the Exit, ``status``, ``started`` and ``finished`` are kept."""
    moving_to: str = ""
    """The root resource to which results are being replicated; '' when none are."""
    moved_to: str = ""
    """The root resource that has a verified replica of every result; '' while none has."""
    ending: Ending | None = None
    """The end that was decided on, while what the task did is being taken back."""
    exit_status: str = ""
    """The exit status that is recorded with ``ending``; '' when no program ended."""

    def document(self) -> dict[str, Any]:
        """The checkpoint as JSON; fields at their defaults are left out."""
        exit, ending = self.exit, self.ending
        fields = {
            "staged": list(self.staged),
            "attempt": self.attempt,
            "image_digest": self.image_digest,
            "began": self.began and list(self.began),
            "live": self.live,
            "exit": exit and [exit.status, exit.started, exit.finished],
            "moving_to": self.moving_to,
            "moved_to": self.moved_to,
            "ending": ending and [ending.state.value, ending.reason.value, ending.text, ending.code, self.exit_status],
        }
        return {"made": self.made, "token": self.token, **{name: value for name, value in fields.items() if value}}


class ResumePoint(Enum):
    """Where an attempt takes a task up: what is true in the zone and in the engine at that point."""

    FRESH = "fresh"
    """No attempt began the task. The record says QUEUED; zone and engine hold nothing of it."""
    UNKNOWN = "unknown"
    """An attempt began the task and left no checkpoint: it was killed before it wrote one, or the file
    is lost. The zone may hold outputs, and the engine a job, of which the worker knows nothing: both
    are removed, and the task begins from the beginning."""
    STAGED = "staged"
    """The task made replicas of its inputs, or was about to. The engine holds no job of it. Nothing
    is registered."""
    STARTED = "started"
    """The worker started the job, or was about to. Only the engine knows whether there is a job, and
    whether it has ended. Of the results at most live logs are registered."""
    EXITED = "exited"
    """The job ended well and its outputs were accepted; they and the logs are in the task's directory.
    The engine may still hold the job. Outputs may be registered, all or some."""
    MOVING = "moving"
    """As EXITED, with all outputs registered; some may have replicas on the receiving resource, too."""
    MOVED = "moved"
    """The receiving resource has a verified replica of every result. The compute resource may have
    lost its own, all or some."""
    ENDING = "ending"
    """The end is decided (failed or cancelled). What the task did is taken back, all or some of it."""

    @property
    def has_checkpoint(self) -> bool:
        """Whether an earlier attempt left a checkpoint: there may be something to take back."""
        return self not in (ResumePoint.FRESH, ResumePoint.UNKNOWN)

    @property
    def has_exited(self) -> bool:
        """Whether an earlier attempt accepted the job's end and outputs: the job must not run again."""
        return self in (ResumePoint.EXITED, ResumePoint.MOVING, ResumePoint.MOVED)


def resume_point(found: Checkpoint | None, state: State | None) -> ResumePoint:
    """Where a task is taken up. ``found``: the checkpoint that an earlier attempt left, or None;
    ``state``: what the task's record says.

    The record counts only where there is no checkpoint: the task's owner can write it.
    """
    if found is None:
        return ResumePoint.FRESH if state is State.QUEUED else ResumePoint.UNKNOWN
    if found.ending is not None:
        return ResumePoint.ENDING
    if found.exit is None:
        return ResumePoint.STARTED if found.attempt else ResumePoint.STAGED
    if found.moved_to:
        return ResumePoint.MOVED
    return ResumePoint.MOVING if found.moving_to else ResumePoint.EXITED


def required(value: _T | None, name: str) -> _T:
    """A field that the task's resume point says is there; RuntimeError when it is not, which is our mistake."""
    if value is None:
        raise RuntimeError(f"the checkpoint has no {name}, though the task's resume point needs it")
    return value


# Reading

_NAMES = frozenset(
    {"made", "token", "staged", "attempt", "image_digest", "began", "live", "exit", "moving_to", "moved_to", "ending"}
)
_FINAL = frozenset(state.value for state in State if state.is_final)
_REASONS = frozenset(reason.value for reason in ReasonCode)
_TOKEN = re.compile(r"[0-9a-f]{16}")


def checkpoint_of(document: object) -> Checkpoint:
    """The checkpoint in a journal's JSON; ValueError, with the name, when a field does not fit.

    A name that this release does not know does not fit either: it may say that the task has come
    further than anything else in the file tells.
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
        moving_to=_text("moving_to", document.get("moving_to", "")),
        moved_to=_text("moved_to", document.get("moved_to", "")),
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


def _ending(document: Mapping[str, object]) -> tuple[Ending | None, str]:
    if "ending" not in document:
        return None, ""
    state, reason, text, code, exit_status = _list("ending", document["ending"], 5)
    ending = Ending(
        State(_one_of("ending", _FINAL, state)),
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
