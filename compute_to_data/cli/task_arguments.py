"""The arguments with which several commands choose tasks, and the tasks that they mean."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.tasks import TaskHandle

WAIT = "wait until the task has ended; the exit code says how"
_MOST = 10**12
"""More than any zone has, and every catalog can compare it."""


def task_argument(parser: ArgumentParser) -> None:
    task = parser.add_argument(
        "task", metavar="ID", help="a task's id, the beginning of one, or the logical path of its collection"
    )
    completes(task, zone_words.tasks)


def one_task(parser: ArgumentParser) -> None:
    task_argument(parser)
    administering(parser)


def several_tasks(parser: ArgumentParser) -> None:
    tasks = parser.add_argument("tasks", metavar="ID", nargs="+", help="task ids, their beginnings, or logical paths")
    completes(tasks, zone_words.tasks)
    administering(parser)


def administering(parser: ArgumentParser) -> None:
    parser.add_argument("--admin", action="store_true", help="act as an administrator, on behalf of the task's owner")


def after_argument(parser: ArgumentParser) -> None:
    """``--after ID``: a task that this one waits for."""
    after = parser.add_argument(
        "--after",
        action="append",
        default=[],
        metavar="ID",
        help="begin when this task has completed, and not if it fails; repeat for more",
    )
    completes(after, zone_words.tasks)


def state_argument(parser: ArgumentParser, states: Sequence[str], help: str) -> None:
    """``--state STATE``, which can be repeated."""
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        type=str.upper,
        choices=states,
        metavar="STATE",
        help=f"{help}; repeat for more: {', '.join(states)}",
    )


def count(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text) if len(text) < len(str(_MOST)) else _MOST


def moment(text: str) -> float:
    """The Unix seconds of a time: ``30m``, ``12h`` or ``7d`` ago, or a local date with or without a time."""
    import time
    from datetime import datetime

    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    try:
        if text[-1:] in units and text[:-1].isdecimal():
            return time.time() - int(text[:-1]) * units[text[-1]]
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30m, 12h, 7d or 2026-11-30") from None


def found(call: Call, given: str) -> TaskHandle:
    """The task that the person means, found with their own rights or, with ``--admin``, as administrator."""
    if getattr(call.options, "admin", False):
        from compute_to_data.client.session import find_as_administrator

        return find_as_administrator(call.session, given)
    return call.session.task(given)
