"""Replaces references in a request's strings, in one pass.

There are two kinds: ``${input_file}``, ``${output_file}`` and ``${name}`` of a parameter in a command's words, and
``%(NAME)s`` in the values of environment variables. The replacement text is not scanned again, so neither an
input's name, a parameter's value nor another variable can smuggle in a reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from compute_to_data.documents import parameters
from compute_to_data.documents import schema_words as words
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import ProcessDefinition

INPUT_FILE = "${input_file}"
OUTPUT_FILE = "${output_file}"

EXPECTED_REFERENCE = "${input_file}, ${output_file}, or $${ for a ${ that the program is to see"
"""The possible meanings of ``${`` in a command's word, for messages."""

SUPPLIED_VARIABLES = ("INPUT_FILE_BASENAME", "IRODS_UID", "IRODS_GID", "TASK_ID")
"""The variables that an environment may refer to in addition to its own."""

MAXIMUM_ENVIRONMENT_CHARACTERS = 256 * 1024
"""The limit for all names and values together; Linux gives arguments and environment 2 MiB."""

_WORD = re.compile(r"\$\$\{|\$\{[^{}]*\}|\$\{")
_VALUE = re.compile(r"%?%\(([A-Za-z_][A-Za-z0-9_]*)\)s")


def resolve_arguments(
    process: ProcessDefinition, input_path: str, output_path: str, values: Mapping[str, Any] | None = None
) -> tuple[tuple[str, ...], ...]:
    """The commands, with each reference replaced by the file's path in the sandbox or by the parameter's value.

    ``values``: of the process's parameters, by name. ``$${`` becomes ``${``. InvalidRequest for any other reference.
    """
    given = parameters.with_defaults(process.parameters, values or {})
    paths = {f"${{{name}}}": parameters.written(value) for name, value in given.items()}
    paths.update({INPUT_FILE: input_path, OUTPUT_FILE: output_path})

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        if match[0] not in paths:
            raise InvalidRequest("argv", f"found {words.quoted(match[0])}, expected {EXPECTED_REFERENCE}")
        return paths[match[0]]

    return tuple(tuple(_WORD.sub(replacement, word) for word in command) for command in process.commands)


def references(word: str) -> Iterator[str]:
    """The references in a command's word, as written; ``${`` for one without a closing brace."""
    for match in _WORD.finditer(word):
        if match[0] != "$${":
            yield match[0]


def escaped(word: str) -> str:
    """``word``, escaped so that :func:`resolve_arguments` gives back ``word``."""
    return word.replace("${", "$${")


def variables(value: str) -> Iterator[str]:
    """The names of the variables that an environment value refers to."""
    for match in _VALUE.finditer(value):
        if not match[0].startswith("%%"):
            yield match[1]


def interpolate(environment: Mapping[str, str], supplied: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``environment`` with each ``%(NAME)s`` replaced.

    NAME is a key of ``supplied``, or another variable, whose value is used as written.
    ``%%(NAME)s`` becomes ``%(NAME)s``; every other ``%`` stays. InvalidRequest for an unknown NAME
    (the message lists the known ones), and when the result has more than 256 Ki characters.
    """
    own = {name: value for name, value in environment.items() if name not in supplied}
    known = {**supplied, **own}
    room = MAXIMUM_ENVIRONMENT_CHARACTERS
    result = {}
    for name, value in environment.items():
        room -= len(name)
        result[name] = _interpolated(name, value, known, room)
        room -= len(result[name])
    return result


def _interpolated(name: str, value: str, known: Mapping[str, str], room: int) -> str:
    pieces = []
    position = 0
    for match in _VALUE.finditer(value):
        pieces.append(value[position : match.start()])
        pieces.append(match[0][1:] if match[0].startswith("%%") else _known(name, match[1], known))
        position = match.end()
    pieces.append(value[position:])
    if sum(map(len, pieces)) > room:  # before joining them, since the string could be very large
        raise InvalidRequest(
            f"environment variable {name}",
            f"makes the environment longer than {MAXIMUM_ENVIRONMENT_CHARACTERS} characters",
        )
    return "".join(pieces)


def _known(name: str, reference: str, known: Mapping[str, str]) -> str:
    if reference not in known:
        raise InvalidRequest(
            f"environment variable {name}",
            f"refers to {words.quoted(reference)}, expected {words.one_of(known, meant=reference)}",
        )
    return known[reference]
