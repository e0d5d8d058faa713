"""Translates the 2019 training module's ``task_config.json`` into our own task format.

The module started commands as root, to make two directories accessible to the image's user. The
sandbox has no root, but inputs are readable and ``/outputs`` is writable from the start. So commands
that need root are refused, with the change that makes the task run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import interpolation
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.given_beside import GivenBeside
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.own_format import with_image
from compute_to_data.documents.process_definition import disagreements
from compute_to_data.documents.schema import Problem, first, problems, summary
from compute_to_data.errors import InvalidRequest

_INDICES = "allowable_command_indices_for_nonzero_exit_code"

_NEEDS_ROOT = frozenset({"chmod", "chown", "chgrp", "groupadd", "gpasswd", "usermod", "useradd", "su", "sudo"})
_COMMAND_ENDS = re.compile(r"[;&|(){}`\n]+")
_LEADING = re.compile(r"(?:\s*(?:[A-Za-z_][A-Za-z0-9_]*=\S*|exec|if|then|else|do|!)\s)*\s*([^\s'\"]+)")

_REMEDY = (
    "The sandbox runs every command as the service account, never as root, "
    "with inputs readable and /outputs writable already"
)


def translate(document: Any, beside: GivenBeside, roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same task in our own format, for :func:`compute_to_data.documents.request.parse`.

    The resource and the output collection in ``beside`` are the rule's arguments; the output
    collection overrides ``external.dst_collection``. Users other than root are ignored, since the
    sandbox's own user has no more rights than they have. InvalidRequest lists everything that has
    to change.
    """
    check_values(document, "document")
    found = problems(document, "training_format") or first(_refusals(document, beside.output_collection))
    if found:
        asks_for_root = any(problem.expected.startswith(_DELETE) for problem in found)
        raise InvalidRequest(*summary(found), remedy=_REMEDY if asks_for_root else "")
    external = document["external"]
    translated = {
        **({"resource": beside.resource} if beside.resource else {}),
        "inputs": [{"next_of": external["src_collection"]}],
        "output_collection": beside.output_collection or external["dst_collection"],
        "process": _process(document["container"]),
    }
    return with_image(translated, beside.image)


def _process(container: Mapping[str, Any]) -> dict[str, Any]:
    process = {
        "image": container["image"],
        "cwd": "/tmp",
        "commands": [
            [interpolation.escaped(word) for word in described["command"]] for described in container["commands"]
        ],
    }
    return {**process, **{name: container[name] for name in (_INDICES, "environment") if container.get(name)}}


_DELETE = "this command deleted"


def _refusals(document: Mapping[str, Any], output_collection: str) -> Iterator[Problem]:
    for index, described in enumerate(document["container"]["commands"]):
        yield from _refused_command(f"/container/commands/{index}", described)
    if not output_collection and "dst_collection" not in document["external"]:
        yield Problem("/external/dst_collection", "nothing", "a logical path, or one as the rule's output locator")
    yield from disagreements(_process(document["container"]), "/container")


def _refused_command(pointer: str, described: Mapping[str, Any]) -> Iterator[Problem]:
    command = described["command"]
    root = _is_root(described.get("user"))
    helpers = [name for name in dict.fromkeys(_programs(command, root)) if name in _NEEDS_ROOT]
    if root:
        found = words.quoted(str(described["user"]), 20)
        if helpers:
            yield Problem(f"{pointer}/user", f"{found} for {', '.join(helpers)}"[:60], _DELETE)
        else:
            yield Problem(f"{pointer}/user", found, f'{_DELETE} if it prepares permissions, else its "user" deleted')
    elif helpers:
        yield Problem(f"{pointer}/command/0", words.quoted(helpers[0]), f"{_DELETE}, which needs root")


def _is_root(user: str | int | None) -> bool:
    """Whether the user is root, by name or number, with or without a group."""
    name = str(user if user is not None else "").partition(":")[0].strip()
    return name == "root" or re.fullmatch(r"[+-]?0+", name) is not None


def _programs(command: Sequence[str], in_shell: bool) -> Iterator[str]:
    """The names of the programs that a command starts, as far as its words show them."""
    yield _base(command[0])
    if in_shell and _base(command[0]) in ("sh", "bash", "dash"):
        for part in _COMMAND_ENDS.split("\n".join(command[1:])):
            match = _LEADING.match(part)
            if match:
                yield _base(match[1])


def _base(word: str) -> str:
    return word.rpartition("/")[2]
