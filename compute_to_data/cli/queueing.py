"""``c2d queue``: the line of each compute resource."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import TYPE_CHECKING

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.zone_words import completes

if TYPE_CHECKING:
    from compute_to_data.client.task_status.queue import ResourceLine, UserInLine

_COLUMNS = {
    "resource": "RESOURCE",
    "user": "USER",
    "waiting": "WAITING",
    "running": "RUNNING",
    "oldest": "OLDEST",
}


def register(commands: Commands) -> None:
    """Add this noun's command."""
    commands.add(
        "queue",
        _queue,
        "show who waits for each compute resource, and your place there",
        example="queue",
        arguments=_arguments,
    )


def _arguments(parser: ArgumentParser) -> None:
    resource = parser.add_argument(
        "resource", metavar="RESOURCE", nargs="?", default="", help="the compute resource (default: all of them)"
    )
    completes(resource, zone_words.resources)


def _queue(call: Call) -> int:
    from compute_to_data.client import site

    session, named = call.session, call.options.resource
    names = [named] if named else [one.resource for one in site.resources(session)]
    found = [session.queue(name) for name in names]
    if call.out.form == "json":
        call.out.result({"queues": [one.document() for one in found]})
        return 0
    rows = [_row(one, user) for one in found for user in one.users]
    call.out.table(rows, _COLUMNS, empty="No task waits or runs.")
    if call.out.form == "pretty":
        for one in found:
            for line in _explained(one):
                call.out.note(line)
    return 0


def _row(line: ResourceLine, user: UserInLine) -> dict[str, object]:
    return {
        "resource": line.resource,
        "user": user.shown,
        "waiting": user.waiting,
        "running": user.running,
        "oldest": user.oldest,
    }


def _explained(line: ResourceLine) -> Iterator[str]:
    """Below the table: what holds the line up, and the person's own next task."""
    if (line.waiting or line.running) and not line.has_worker:
        yield f"{line.resource} has no live worker."
    if line.held_up:
        yield f"{line.resource}: {line.held_up}."
    if line.next:
        turns = line.turns_before
        after = f", after {turns} other user{'s' * (turns != 1)}" if turns else ""
        yield f"Your next task on {line.resource}: {line.next[0]}{after}."
