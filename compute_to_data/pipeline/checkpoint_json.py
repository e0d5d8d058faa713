"""A checkpoint as JSON, as the journal's file holds it.

The names and lists in the file must stay as they are: a site may upgrade the worker while tasks run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from compute_to_data.errors import ReasonCode
from compute_to_data.job import Exit
from compute_to_data.pipeline.checkpoint import Checkpoint, EndedStep, Ending, Moment
from compute_to_data.records.state import FINAL, State

_NAMES = frozenset(
    {"made", "token", "staged", "attempt", "image_digest", "began", "live", "exit", "ended", "between", "moving_to"}
    | {"moved_to", "replacing", "ending"}
)
_REASONS = frozenset(reason.value for reason in ReasonCode)
_TOKEN = re.compile(r"[0-9a-f]{16}")


def document_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint as JSON, without fields that have their default."""
    exit, ending, began = checkpoint.exit, checkpoint.ending, checkpoint.began
    fields = {
        "staged": list(checkpoint.staged),
        "attempt": checkpoint.attempt,
        "image_digest": checkpoint.image_digest,
        "began": began and list(began),
        "live": checkpoint.live,
        "exit": exit and [exit.status, exit.started, exit.finished],
        "ended": [list(one) for one in checkpoint.ended],
        "between": checkpoint.between,
        "moving_to": checkpoint.moving_to,
        "moved_to": checkpoint.moved_to,
        "replacing": checkpoint.replacing,
        "ending": ending and _list_of(ending, checkpoint.exit_status),
    }
    always = {"made": checkpoint.made, "token": checkpoint.token}
    return {**always, **{name: value for name, value in fields.items() if value}}


def _list_of(ending: Ending, exit_status: str) -> list[str | int]:
    return [ending.state.value, ending.reason.value, ending.text, ending.code, exit_status]


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
