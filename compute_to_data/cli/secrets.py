"""``c2d secret``: values that a task's program reads as files, and that only their owner can read."""

from __future__ import annotations

import sys
from argparse import ArgumentParser

from compute_to_data.cli import zone_words
from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.zone_words import completes


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    secret = commands.group("secret", "store values, such as passwords, that your programs read as files")
    secret.add(
        "create",
        _create,
        "store a value that you type (it is not shown) or send to standard input",
        example="create ARCHIVE_TOKEN",
        arguments=_create_arguments,
    )
    secret.add("list", _list, "list the names of your secrets", example="list")
    secret.add(
        "describe",
        _describe,
        "show where a secret is stored, and who may read it",
        example="describe ARCHIVE_TOKEN",
        arguments=_name,
    )
    secret.add("delete", _delete, "delete a secret", example="delete ARCHIVE_TOKEN", arguments=_name)


def _name(parser: ArgumentParser) -> None:
    name = parser.add_argument("name", help="its name: at most 64 letters, digits and _, no digit first")
    completes(name, zone_words.secrets)


def _create_arguments(parser: ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("--force", action="store_true", help="replace the secret with this name")


def _create(call: Call) -> int:
    from dataclasses import asdict

    from compute_to_data.client import secrets

    secrets.path_of(call.session, call.options.name)  # refuse a bad name before the person types a value
    value = _value(call)
    kept = secrets.create(call.session, call.options.name, value, force=call.options.force)
    if value.count(b"\n") == 1 and value.endswith(b"\n"):
        call.out.note("the value ends with a line end, which the program will read, too. Without it: printf")
    call.out.result(asdict(kept), kept.name)
    return 0


def _value(call: Call) -> bytes:
    """The bytes from a pipe, unchanged; at a terminal, what the person types twice, without showing it."""
    from getpass import getpass

    from compute_to_data.errors import InvalidRequest
    from compute_to_data.records.secret import LONGEST

    if not sys.stdin.isatty():
        return sys.stdin.buffer.read(LONGEST + 1)
    value = getpass("Value (not shown): ", sys.stderr)
    if getpass("Repeat the value: ", sys.stderr) != value:
        raise InvalidRequest(f"secret {call.options.name}", "the two values differ", "Try again")
    return value.encode()


def _list(call: Call) -> int:
    from dataclasses import asdict

    from compute_to_data.client import secrets

    rows = [asdict(secret) for secret in secrets.listed(call.session)]
    call.out.table(rows, {"name": "NAME", "created": "CREATED"}, empty="No secrets yet.")
    return 0


def _describe(call: Call) -> int:
    from dataclasses import asdict

    from compute_to_data.client import secrets

    found = asdict(secrets.describe(call.session, call.options.name))
    lines = [(name, ", ".join(value) if isinstance(value, tuple) else str(value)) for name, value in found.items()]
    call.out.facts(found, lines)
    return 0


def _delete(call: Call) -> int:
    from compute_to_data.client import secrets

    secrets.delete(call.session, call.options.name)
    call.out.note(f"secret {call.options.name} is deleted")
    return 0
