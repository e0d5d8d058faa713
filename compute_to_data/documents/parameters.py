"""Parameters of a process definition: what can be said of them with the standard library alone.

Whether the values fit the definition's JSON Schema, :mod:`compute_to_data.documents.parameter_check` says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.schema import Problem

MOST_WORD_BYTES = 131_071
"""Linux passes no longer argument to a program."""


def names(schema: Mapping[str, Any]) -> list[str]:
    """The parameters that a schema describes. ``schema`` may be {}."""
    return list(schema.get("properties", ()))


def references(schema: Mapping[str, Any]) -> list[str]:
    """What stands for the parameters in argv: ``${name}``."""
    return [f"${{{name}}}" for name in names(schema)]


def with_defaults(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, and the defaults of the parameters that have no value."""
    described = schema.get("properties", {})
    defaults = {name: one["default"] for name, one in described.items() if "default" in one}
    return {**defaults, **values}


def written(value: Any) -> str:
    """A value as it stands in argv: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def disagreements(
    schema: Mapping[str, Any], values: Mapping[str, Any], pointer: str, needed: Sequence[str] | None = None
) -> Iterator[Problem]:
    """Values for unknown parameters, and parameters that have neither a value nor a default.

    ``pointer``: of the values. ``needed``: the only parameters that need one, all if None.
    """
    known = names(schema)
    for name in values:
        if name not in known:
            found = f"an unknown parameter {words.quoted(name, 40)}"
            yield Problem(words.below(pointer, name), found, words.one_of(known, meant=name))
    given = with_defaults(schema, values)
    for name in known:
        place = words.below(pointer, name)
        if name in given:
            yield from _unwritable(written(given[name]), place)
        elif needed is None or name in needed:
            yield Problem(place, "nothing", "a value, since the parameter has no default")


def _unwritable(text: str, place: str) -> Iterator[Problem]:
    if "\0" in text:
        yield Problem(place, "a text with NUL", "a text without it, since no program can receive it")
    if len(text.encode("utf-8", "replace")) > MOST_WORD_BYTES:
        yield Problem(place, "a long value", f"at most {MOST_WORD_BYTES} bytes, as an argument of a program may have")
