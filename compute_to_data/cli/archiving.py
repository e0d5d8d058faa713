"""``c2d archive``: move the records of old tasks out of the way, and back."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import TYPE_CHECKING

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode, of_error
from compute_to_data.cli.task_arguments import administering, found, moment, state_argument
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compute_to_data.client.archiving import Done

_STATES = ("COMPLETED", "FAILED", "CANCELLED")
_NAMED = 20
"""How many of the tasks that were not archived are named."""


def register(commands: Commands) -> None:
    """Add this command."""
    commands.add(
        "archive",
        _archive,
        "move the records of ended tasks out of the way, and keep their results",
        example="archive --older-than 90d",
        arguments=_arguments,
    )


def _arguments(parser: ArgumentParser) -> None:
    given = parser.add_argument(
        "tasks", metavar="ID", nargs="*", help="task ids, their beginnings, or logical paths; archived ones by their id"
    )
    completes(given, zone_words.tasks)
    parser.add_argument(
        "--older-than", type=moment, metavar="WHEN", help="all your tasks submitted before: 90d ago, or 2026-11-30"
    )
    state_argument(parser, _STATES, "with --older-than, only tasks that ended so")
    parser.add_argument("--restore", action="store_true", help="bring the records of these tasks back")
    administering(parser)


def _archive(call: Call) -> int:
    options = call.options
    if bool(options.tasks) == (options.older_than is not None):
        options.parser.error("give ids, or choose tasks with --older-than")
    if options.restore and not options.tasks:
        options.parser.error("--restore needs ids")
    if options.state and options.tasks:
        options.parser.error("--state needs --older-than")
    return _those_given(call) if options.tasks else _all_older(call)


def _those_given(call: Call) -> int:
    from compute_to_data.client import archiving
    from compute_to_data.errors import ComputeToDataError, OutOfReach

    do = archiving.restore_one if call.options.restore else archiving.archive_one
    worst, refused, ids = int(ExitCode.DONE), 0, []
    for given in call.options.tasks:
        try:
            task = found(call, given)
            if do(task.catalog, call.session, task.collection):
                ids.append(task.id)
            else:
                call.out.note(f"task {task.id} is {'not archived' if call.options.restore else 'archived already'}.")
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            call.out.note(f"c2d: {error}")
            worst = of_error(error)
            refused += 1
    call.out.result({"restored" if call.options.restore else "archived": len(ids), "refused": refused}, "\n".join(ids))
    return worst


def _all_older(call: Call) -> int:
    done, refused, worst = 0, 0, int(ExitCode.DONE)
    for one in _older(call):
        if one.error is None:
            done += 1
            continue
        refused += 1
        worst = of_error(one.error)
        if refused <= _NAMED:
            call.out.note(f"not archived: {one.error}")
    if refused > _NAMED:
        call.out.note(f"not archived: {refused - _NAMED} more")
    call.out.result({"archived": done, "refused": refused}, f"{done} archived, {refused} not")
    return ExitCode.DONE if call.options.admin else worst  # anybody can make a record that cannot be archived


def _older(call: Call) -> Iterator[Done]:
    from compute_to_data.client import archiving, session
    from compute_to_data.records.state import State

    options = call.options
    states = tuple(State(name) for name in options.state or _STATES)
    storage = session.administration(call.session) if options.admin else None
    return archiving.archive_older(call.session, options.older_than, states, storage)
