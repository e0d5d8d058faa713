"""Reads a long JSON object entry by entry, in memory that does not depend on what a stranger wrote.

Python's own reader makes a document of 20 times the size from text such as ``[],[],[]``, before anybody can check it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

LONGEST_ENTRY: Final = 16 * 1024
"""The most bytes of a name, of a value at the top, or of an item of a list."""
_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_CLOSING: Final = {b"{": b"}", b"[": b"]"}


def entries(content: bytes, lists: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """The members of a JSON object in UTF-8: a pair for each, and for those in ``lists`` a pair for each item.

    ValueError for anything else, for a name that occurs twice, and for an entry of more than 16 KiB.
    """
    reader = _Reader(content)
    seen: set[str] = set()
    for _ in reader.parts(b"{"):
        name = reader.value()
        if not isinstance(name, str) or name in seen:
            raise ValueError(f"has a name that is none, or occurs twice, at byte {reader.at}")
        seen.add(name)
        reader.need(b":")
        if name in lists:
            yield from ((name, reader.value()) for _ in reader.parts(b"["))
        else:
            yield name, reader.value()
    if reader.rest():
        raise ValueError(f"goes on after its end, at byte {reader.at}")


class _Reader:
    """Goes through the content once."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def rest(self) -> bool:
        """Whether anything but space follows."""
        found = _SPACE.match(self._content, self.at)
        self.at = found.end() if found else self.at
        return self.at < len(self._content)

    def _next_is(self, sign: bytes) -> bool:
        if not self.rest() or self._content[self.at : self.at + 1] != sign:
            return False
        self.at += 1
        return True

    def need(self, sign: bytes) -> None:
        """ValueError unless this sign follows. Goes past it."""
        if not self._next_is(sign):
            raise ValueError(f"has no {sign.decode()} at byte {self.at}")

    def parts(self, opening: bytes) -> Iterator[None]:
        """Stop before each part between an opening and a closing bracket."""
        self.need(opening)
        closing = _CLOSING[opening]
        if self._next_is(closing):
            return
        while True:
            yield
            if self._next_is(closing):
                return
            self.need(b",")

    def value(self) -> Any:
        """The value that follows."""
        self.rest()
        text = self._content[self.at : self.at + LONGEST_ENTRY].decode("utf-8", "surrogateescape")
        try:
            value, end = _DECODER.raw_decode(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"has no value of at most {LONGEST_ENTRY} bytes at byte {self.at}: {error.msg}") from None
        self.at += len(text[:end].encode("utf-8", "surrogateescape"))
        return value


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("has a name twice in one object")
    return members


def _no_constant(text: str) -> Any:
    raise ValueError(f"holds {text}, which is not a JSON number")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_constant)
