"""The table of tasks that ``c2d list`` prints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from compute_to_data.cli.command import Call
from compute_to_data.client.task_status.status import unix_time
from compute_to_data.client.task_status.wording import ago, duration, short_ids

if TYPE_CHECKING:
    from compute_to_data.client.finding import Listed

_EXACT = {
    "task_id": "TASK ID",
    "name": "NAME",
    "state": "STATE",
    "role": "ROLE",
    "resource": "RESOURCE",
    "created": "CREATED",
}
"""The columns for scripts, which stay as they are."""
_PRETTY = {
    "task_id": "TASK ID",
    "name": "NAME",
    "state": "STATE",
    "why": "WHY",
    "runs": "RUNS",
    "image": "IMAGE",
    "took": "TOOK",
    "when": "SUBMITTED",
    "resource": "RESOURCE",
}
_IF_ANY = ("name", "why", "runs", "image", "took")
"""Columns that a table without values for them leaves out."""


def show(call: Call, tasks: Sequence[Listed], *, with_owners: bool) -> None:
    """Print the tasks: for people, for scripts or as JSON."""
    owners = {"owner": "OWNER"} if with_owners else {}
    empty = "No such tasks."
    if call.out.form != "pretty":
        call.out.table([one.document() for one in tasks], {**_EXACT, **owners}, empty=empty)
        return
    ids = short_ids(one.task_id for one in tasks)
    rows = [{**one.document(), **_in_words(one), "task_id": ids[one.task_id]} for one in tasks]
    columns = {name: heading for name, heading in _PRETTY.items() if name not in _IF_ANY or _has_values(rows, name)}
    call.out.table(rows, {**columns, **owners}, empty=empty, free=["runs", "name"])


def _has_values(rows: Iterable[dict[str, Any]], name: str) -> bool:
    return any(row[name] for row in rows)


def _in_words(task: Listed) -> dict[str, str]:
    return {
        "runs": task.runs,
        "name": task.name,
        "why": why(task.reason_code, task.exit_status),
        "took": "" if task.seconds is None else duration(task.seconds),
        "when": ago(time.time() - (unix_time(task.created) or 0.0)),
    }


def why(reason_code: str, exit_status: int | None) -> str:
    """Why a task ended without completing, in two or three words."""
    if reason_code == "nonzero_exit" and exit_status is not None:
        return f"exit status {exit_status}"
    return "" if reason_code in ("completed", "cancelled") else reason_code.replace("_", " ")
