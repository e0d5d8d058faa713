"""Words for messages about invalid documents: JSON pointers, what was found, what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from compute_to_data.plain_text import is_plain
from compute_to_data.similar_names import nearest

_SHOWN_CHARACTERS = 60
_LISTED_NAMES = 20
_USUAL_NAME = re.compile(r"[A-Za-z0-9_-]{1,30}")
"""A name that stands in a pointer as it is."""

_NOUNS = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "null": "null",
}

_QUALIFIERS = {
    "exclusiveMinimum": "above {}",
    "minimum": "of at least {}",
    "maximum": "of at most {}",
    "minLength": "of {} or more characters",
    "maxLength": "of {} or fewer characters",
    "pattern": "matching {}",
    "minItems": "of {} or more items",
    "maxItems": "of {} or fewer items",
    "uniqueItems": "without repeated items",
    "minProperties": "of {} or more properties",
    "maxProperties": "of {} or fewer properties",
}


def quoted(text: str, limit: int = _SHOWN_CHARACTERS) -> str:
    """``text`` in quotes, without control characters, in at most ``limit`` characters."""
    shown = '"'
    for character in text:
        piece = _printable(character)
        if len(shown) + len(piece) > limit - 2:
            return shown + '…"'
        shown += piece
    return shown + '"'


def _printable(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if is_plain(character) else json.dumps(character)[1:-1]


def shown(value: Any) -> str:
    """A value in at most 60 characters, without the contents of objects and lists."""
    if isinstance(value, str):
        return quoted(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, dict):
        return f"an object of {_counted(len(value), 'property', 'properties')}"
    if isinstance(value, list):
        return f"a list of {_counted(len(value), 'item', 'items')}"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else "an integer of more than 18 digits"
    return str(value) if isinstance(value, float) else quoted(f"a Python {type(value).__name__}")


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def below(pointer: str, name: Any) -> str:
    """The JSON pointer of a member; names are cut to 40 characters."""
    if isinstance(name, int) or _USUAL_NAME.fullmatch(str(name)):  # also of each right value, so it must be quick
        return f"{pointer}/{name}"
    token = quoted(str(name), 40)[1:-1]
    return f"{pointer}/{token.replace('~', '~0').replace('/', '~1')}"


def alternatives(phrases: Iterable[str]) -> str:
    """``a, b or c``, without repetitions."""
    unique = list(dict.fromkeys(phrases))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"


def one_of(known: Iterable[str], meant: str = "") -> str:
    """The known names, with the one most like ``meant`` first."""
    names = list(known)
    if not names:
        return "no property at all"
    close = nearest(meant, names)
    if not close:
        return f"one of {_listed(names)}"
    others = [name for name in names if name != close]
    return close + (f" (or {_listed(others)})" if others else "")


def _listed(names: list[str]) -> str:
    more = [f"{len(names) - _LISTED_NAMES} more"] if len(names) > _LISTED_NAMES else []
    return ", ".join(names[:_LISTED_NAMES] + more)


def with_bound(phrase: str, node: Mapping[str, Any], broken: Iterable[str]) -> str:
    """The phrase, with the bound that a value breaks if the phrase does not name it: a value above 0 must not be told
    that one above 0 is expected."""
    bounds = [name for name in broken if name in _QUALIFIERS and name not in ("pattern", "uniqueItems")]
    unsaid = [_QUALIFIERS[name].format(node[name]) for name in bounds if str(node[name]) not in phrase]
    if not unsaid or "title" not in node or any(name in ("type", "enum", "pattern") for name in broken):
        return phrase
    return f"{phrase} ({' and '.join(unsaid)})"


def noun_phrase(node: Mapping[str, Any]) -> str:
    """What a schema without a title expects: ``a number above 0``."""
    if "const" in node:
        return json.dumps(node["const"])
    if "enum" in node:
        return alternatives(json.dumps(choice) for choice in node["enum"])
    types = node.get("type", [])
    nouns = [_NOUNS[name] for name in ([types] if isinstance(types, str) else types)]
    phrase = alternatives(nouns) if nouns else "a value"
    qualifiers = [text.format(node[keyword]) for keyword, text in _QUALIFIERS.items() if keyword in node]
    return f"{phrase} {' and '.join(qualifiers)}" if qualifiers else phrase
