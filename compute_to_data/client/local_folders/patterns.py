"""Patterns of relative paths, as in a ``.gitignore`` file (https://git-scm.com/docs/gitignore#_pattern_format).

Uploads leave out what the patterns of ``.c2dignore`` files match; ``c2d fetch`` and ``c2d ls`` choose
with them. This is code of our own because the client needs no library besides the standard one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_SPECIAL: Final = re.compile(r"[*?\[]")
_CLASS: Final = re.compile(r"\[([!^]?)(\]?(?:\[:\w*:\]|\\.|[^\]\\])*)\]", re.DOTALL)
_MEMBER: Final = re.compile(r"\[:(\w*):\]|(\\.|.)(?:-(\\.|.))?", re.DOTALL)
_KINDS: Final = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9a-fA-F",
}


@dataclass(frozen=True)
class Pattern:
    """One pattern. ``excludes``: it begins with ``!`` and takes back what earlier patterns matched."""

    regex: re.Pattern[str]
    excludes: bool
    only_folders: bool

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether it matches a path relative to the pattern's folder."""
        return (is_folder or not self.only_folders) and self.regex.fullmatch(path) is not None


def parsed(line: str) -> Pattern | None:
    """The pattern of a line; None for an empty line or a comment."""
    text = _without_spaces_at_the_end(line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return None
    excludes = text.startswith("!")
    text = text[1:] if excludes else text
    only_folders = text.endswith("/")
    text = text[:-1] if only_folders else text
    if not text:
        return None
    is_anchored = "/" in text
    regex = _regex(text[1:] if text.startswith("/") else text)
    return Pattern(regex if is_anchored else re.compile(f"(?:.*/)?{regex.pattern}", re.DOTALL), excludes, only_folders)


def parsed_all(lines: Iterable[str]) -> tuple[Pattern, ...]:
    """The patterns of a file's lines."""
    return tuple(found for found in map(parsed, lines) if found is not None)


def verdict(patterns: Iterable[Pattern], path: str, is_folder: bool) -> bool | None:
    """Whether the patterns match a path: the last one that does decides. None when none does."""
    decided = None
    for pattern in patterns:
        if pattern.matches(path, is_folder):
            decided = not pattern.excludes
    return decided


def is_pattern(text: str) -> bool:
    """Whether a word has characters that make it more than a plain path."""
    return _SPECIAL.search(text) is not None


def _without_spaces_at_the_end(text: str) -> str:
    """A space at the end counts only after a backslash."""
    bare = text.rstrip(" ")
    backslashes = len(bare) - len(bare.rstrip("\\"))
    return f"{bare} " if backslashes % 2 and len(bare) < len(text) else bare


def _regex(text: str) -> re.Pattern[str]:
    """The regular expression of a pattern without its marks at both ends."""
    made, place = [], 0
    while place < len(text):
        piece, place = _next_piece(text, place)
        made.append(piece)
    return re.compile("".join(made), re.DOTALL)


def _next_piece(text: str, place: int) -> tuple[str, int]:
    """The regular expression of what begins at ``place``, and where the rest begins."""
    at_start = place == 0 or text[place - 1] == "/"
    if at_start and text.startswith("**/", place):
        return "(?:.*/)?", place + 3
    if at_start and text[place:] == "**":
        return ".+", place + 2
    letter = text[place]
    if letter == "*":
        stars = len(text[place:]) - len(text[place:].lstrip("*"))
        return "[^/]*", place + stars
    if letter == "?":
        return "[^/]", place + 1
    found = _CLASS.match(text, place) if letter == "[" else None
    if found:
        return _class(found.group(1), found.group(2)), found.end()
    if letter == "\\" and place + 1 < len(text):
        return re.escape(text[place + 1]), place + 2
    return re.escape(letter), place + 1


def _class(negated: str, members: str) -> str:
    """A class of characters, which never matches a slash. One with an unknown name in it matches nothing."""
    made = []
    for kind, first, last in _MEMBER.findall(members):
        if not first:
            if kind not in _KINDS:
                return "(?!)"
            made.append(_KINDS[kind])
            continue
        low, high = first[-1], (last or first)[-1]
        made.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else re.escape(low))
    return f"(?!/)[{'^' if negated else ''}{''.join(made)}]"
