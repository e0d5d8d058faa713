"""Reads JSON from untrusted sources.

Python's own reader uses the last of two equal keys, turns ``1e999`` into ``Infinity``, and returns
strings that no file system and no catalog can store. Here each of these is an error, and so are
documents that are larger or deeper than a request ever is.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NoReturn

from compute_to_data.documents.schema_words import quoted
from compute_to_data.errors import ComputeToDataError, InvalidRequest

MAXIMUM_BYTES = 1024 * 1024
MAXIMUM_DEPTH = 32
MAXIMUM_VALUES = 65_536
"""A document of the largest size can hold 500,000 empty lists, which take 50 times as many bytes of memory."""

_INTEGER_DIGITS = 18

# A string, or a comma before a closing bracket. The string's closing quote is optional, so the search
# never reads a part of the text twice.
_TRAILING_COMMA = re.compile(r'"(?:[^"\\\n]|\\.)*"?|(,)\s*[\]}]')
_COMMA_BEFORE_END = re.compile(r",\s*[\]}]")
_SHOWN_COMMAS = 10
_SEPARATORS = b",[{"
_MOST_QUOTES = 4 * MAXIMUM_VALUES
"""Each value has at most a name and a string, of two quotes each."""
_DEEP = re.compile(rb"(?:[\[{][^\[\]{}]*)" + f"{{{MAXIMUM_DEPTH + 1}}}".encode())
_BEGINNING = 4096
"""Bytes in which a document that is nested without end shows it."""
_SEARCHED = 64 * 1024
"""In a longer text, only the first mistake is looked for: a search keeps all other threads waiting."""


class _Unreadable(ValueError):
    """Carries the cause of an error out of the hooks of Python's reader."""


def read_json(content: bytes, subject: str, error: type[ComputeToDataError] = InvalidRequest) -> Any:
    """Parse ``content``, JSON in UTF-8.

    ``subject`` names its origin in messages, which never show the content. Raises ``error`` unless
    the content is one JSON value with unique keys, finite numbers, integers of at most 18 digits,
    valid characters, at most 1 MiB, 65,536 values and 32 levels.
    """
    try:
        document = _decode(_text(content))
    except _Unreadable as problem:
        raise error(subject, str(problem)) from None
    check_values(document, subject, error)
    return document


def check_values(document: Any, subject: str, error: type[ComputeToDataError] = InvalidRequest) -> None:
    """Raise ``error`` for a document that is nested too deep, or holds half of a surrogate pair.

    Also raises it for a key that is not a string, which a document from another source than
    :func:`read_json` may have.
    """
    try:
        _check_values(document)
    except _Unreadable as problem:
        raise error(subject, str(problem)) from None


def _text(content: bytes) -> str:
    if len(content) > MAXIMUM_BYTES:
        raise _Unreadable(f"holds more than {MAXIMUM_BYTES} bytes, the most that it may hold")
    _check_number(content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise _Unreadable(f"is not UTF-8: byte {problem.start} is not; save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise _Unreadable("begins with a byte order mark; save it as UTF-8 without one")
    if not text.strip():
        raise _Unreadable("is empty; expected a JSON document")
    return text


def _check_number(content: bytes) -> None:
    """Count what separates values, before Python's reader makes an object of each.

    Other threads of a worker cannot go on meanwhile, so this takes a few milliseconds for any content.
    """
    if _separators(content) <= MAXIMUM_VALUES:
        return
    unescaped = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > _MOST_QUOTES:
        raise _Unreadable(f"holds more than {MAXIMUM_VALUES} values")
    outside = b"".join(unescaped.split(b'"')[::2])
    if _separators(outside) > MAXIMUM_VALUES:
        if _DEEP.search(outside, 0, _BEGINNING):
            _too_deep()
        raise _Unreadable(f"holds more than {MAXIMUM_VALUES} values")


def _separators(content: bytes) -> int:
    return len(content) - len(content.translate(None, _SEPARATORS))


def _decode(text: str) -> Any:
    try:
        return json.loads(
            text, object_pairs_hook=_members, parse_int=_integer, parse_float=_number, parse_constant=_constant
        )
    except json.JSONDecodeError as problem:
        raise _Unreadable(f"is not JSON: {_explained(text, problem)}") from None
    except RecursionError:
        _too_deep()


def _explained(text: str, problem: json.JSONDecodeError) -> str:
    """What is wrong with the text and where, with a remedy for mistakes that people often make."""
    comma = _trailing_comma(text, problem.pos)
    if comma is not None:
        every = (
            [found.start(1) for found in _TRAILING_COMMA.finditer(text) if found[1]] if len(text) <= _SEARCHED else []
        )
        places = " and ".join(_place(text, one) for one in every[:_SHOWN_COMMAS] or [comma])
        return f"trailing comma at {places}; JSON allows none before a closing bracket: remove it"
    message = f"{problem.msg.removesuffix(' at')} at {_place(text, problem.pos)}"
    hints = [hint for beginning, hint in _HINTS if text.startswith(beginning, problem.pos)]
    return f"{message}: {hints[0]}" if hints else message


def _trailing_comma(text: str, position: int) -> int | None:
    """Where the comma before a closing bracket is that Python's reader met at this position; None when it met
    something else. Python 3.13 points at the comma, earlier versions at the bracket."""
    before = text[: position + (not text.startswith(("]", "}"), position))].rstrip()
    return len(before) - 1 if _COMMA_BEFORE_END.match(text, max(0, len(before) - 1)) else None


def _place(text: str, position: int) -> str:
    return f"line {text.count(chr(10), 0, position) + 1}, column {position - text.rfind(chr(10), 0, position)}"


_HINTS = (
    ("'", "strings and names stand in double quotes"),
    ("//", "JSON has no comments"),
    ("/*", "JSON has no comments"),
    ("#", "JSON has no comments"),
    ("True", "write true"),
    ("False", "write false"),
    ("None", "write null"),
)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        (key, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise _Unreadable(f"has {quoted(key)} twice in one object; keep one of them")
    return members


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS and len(text.lstrip("-")) > _INTEGER_DIGITS:
        raise _Unreadable(f"holds an integer of more than {_INTEGER_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Unreadable("holds a number larger than 1.7e308")
    return value


def _constant(text: str) -> NoReturn:
    raise _Unreadable(f"holds {text}, which is not a JSON number")


def _check_values(document: Any) -> None:
    """Check depth and characters level by level, without recursion, since the document may be deep."""
    level, depth = [document], 1
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_characters(value)
            elif isinstance(value, (dict, list)):
                below += _parts(value)
                if depth > MAXIMUM_DEPTH:
                    _too_deep()
        level, depth = below, depth + 1


def _parts(value: dict[Any, Any] | list[Any]) -> list[Any]:
    """What an object or a list consists of: names and values, or items."""
    if isinstance(value, list):
        return value
    if not all(isinstance(key, str) for key in value):
        raise _Unreadable("holds an object with a key that is not a string")
    return [*value, *value.values()]


def _check_characters(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _Unreadable(
            f"holds {quoted(text)}, where an escape names half a character, or a byte is not UTF-8"
        ) from None


def _too_deep() -> NoReturn:
    raise _Unreadable(f"nests objects and lists more than {MAXIMUM_DEPTH} levels deep")
