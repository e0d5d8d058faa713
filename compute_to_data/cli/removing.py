"""``c2d rm``: remove tasks and workloads that have ended, with their results."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import TYPE_CHECKING

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode, of_error
from compute_to_data.cli.interrupts import confirmed
from compute_to_data.cli.task_arguments import moment, state_argument
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.removing import Removal, Removing

_STATES = ("COMPLETED", "FAILED", "CANCELLED")
_LISTED = 20


def register(commands: Commands) -> None:
    """Add this command."""
    commands.add(
        "rm",
        _rm,
        "remove tasks and workloads that have ended, with all their results",
        example="rm --state FAILED --older-than 30d",
        arguments=_arguments,
    )


def _arguments(parser: ArgumentParser) -> None:
    given = parser.add_argument(
        "given",
        metavar="ID",
        nargs="*",
        help="the id of a task or workload, the beginning of one, or the logical path of its collection",
    )
    completes(given, zone_words.tasks_and_workloads)
    state_argument(parser, _STATES, "all your tasks that ended so")
    parser.add_argument(
        "--older-than", type=moment, metavar="WHEN", help="all your tasks submitted before: 30d ago, or 2026-11-30"
    )
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask for confirmation")


def _rm(call: Call) -> int:
    from compute_to_data.client.removing import Removing
    from compute_to_data.errors import InvalidRequest

    options = call.options
    is_chosen = bool(options.state) or options.older_than is not None
    if bool(options.given) == is_chosen:
        options.parser.error("give ids, or choose tasks with --state and --older-than")
    if not options.yes and not sys.stdin.isatty():
        cause = "removing needs a confirmation, and standard input is not a terminal"
        raise InvalidRequest(" ".join(options.given) or "tasks", cause, "Confirm it with --yes")
    removing = Removing(call.session)
    planned, worst = _planned(call, removing, options.given or _choice(call))
    if planned and not (options.yes or _confirmed(call, planned)):
        call.out.note("Nothing was removed.")
        return ExitCode.REFUSED
    return _removed(call, removing, planned, worst)


def _choice(call: Call) -> list[str]:
    """The collections of the person's own tasks that the options choose, the oldest first."""
    from compute_to_data.records.state import State

    options = call.options
    states = tuple(State(name) for name in options.state or _STATES)
    found = call.session.tasks(states=states, until=options.older_than, with_course=False)
    if not found:
        call.out.note("No such tasks.")
    return [one.collection for one in reversed(found)]


def _planned(call: Call, removing: Removing, given: list[str]) -> tuple[list[Removal], int]:
    """What can be removed, each once, and the exit code of the last refusal. One that cannot be removed does
    not keep the others."""
    from compute_to_data.client.naming import named
    from compute_to_data.errors import ComputeToDataError, OutOfReach

    planned: dict[str, Removal] = {}
    worst = int(ExitCode.DONE)
    for one in given:
        try:
            found = removing.plan(named(call.session, one))
            planned[found.collection] = found
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            call.out.note(f"c2d: {error}")
            worst = of_error(error)
    outer = [one for path, one in planned.items() if not any(path.startswith(f"{other}/") for other in planned)]
    return outer, worst  # what is inside another one goes with it


def _confirmed(call: Call, planned: list[Removal]) -> bool:
    from compute_to_data.client.task_status.wording import amount, file_count

    for one in planned[:_LISTED]:
        call.out.note(f"{one.kind} {one.id}  {one.state}  {file_count(one.files)}, {amount(one.size)}")
    if len(planned) > _LISTED:
        call.out.note(f"and {len(planned) - _LISTED} more")
    files, size = sum(one.files for one in planned), sum(one.size for one in planned)
    what = f"{planned[0].kind} {planned[0].id}" if len(planned) == 1 else f"these {len(planned)}"
    return confirmed(f"Remove {what} with all results: {file_count(files)}, {amount(size)}?")


def _removed(call: Call, removing: Removing, planned: list[Removal], worst: int) -> int:
    from compute_to_data.client.task_status.wording import amount, file_count
    from compute_to_data.errors import ComputeToDataError, OutOfReach

    gone: list[Removal] = []
    for one in planned:
        try:
            removing.remove(one)
        except OutOfReach:
            raise
        except ComputeToDataError as error:
            call.out.note(f"c2d: {one.kind} {one.id} is not removed: {error}")
            worst = of_error(error)
        else:
            gone.append(one)
    call.out.result({"removed": [vars(one) for one in gone]}, "\n".join(one.id for one in gone))
    if gone:
        files, size = sum(one.files for one in gone), sum(one.size for one in gone)
        call.out.note(f"{len(gone)} removed: {file_count(files)}, {amount(size)}")
    return worst
