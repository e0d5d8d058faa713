"""Makes text harmless to print: names, values and messages that strangers wrote.

A terminal obeys escape sequences; a mark of the writing direction reverses what follows; a line end in a name adds a
line to a log. Each place that prints applies one of these functions to all that it prints, so that no caller need
remember: ``cli/output.py``, ``worker/log_format.py``, ``agent/boundary.py`` and the doctor.
"""

from __future__ import annotations

import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""A control character, which no request can hold."""
_BLANK_LETTERS = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0]")
"""Characters that show nothing although Unicode counts them as letters or signs."""


def is_plain(character: str) -> bool:
    """Whether a character shows itself and nothing else: no control character, no line end, no mark of the writing
    direction, nothing invisible, no half of a character."""
    return character.isprintable() and not _BLANK_LETTERS.match(character)


def one_line(text: str, also: str = "") -> str:
    """The text with all but plain characters escaped as in Python: ``\\n``, ``\\x1b``, ``\\u202e``.

    ``also``: characters that stay as they are.
    """
    if text.isprintable() and not _BLANK_LETTERS.search(text):
        return text
    return "".join(one if is_plain(one) or one in also else one.encode("unicode_escape").decode() for one in text)


def lines(text: str) -> str:
    """Like :func:`one_line`, but line ends stay: for text that this program has laid out itself."""
    return one_line(text, "\n")


def indented(text: str) -> str:
    """The text on its own lines: each after the first is indented, so that it cannot pass for another message."""
    return "\n  ".join(one_line(line) for line in text.split("\n"))


def spaced(text: str) -> str:
    """The text on one line, with a space for each character that is not plain: for a value that people search."""
    return "".join(one if is_plain(one) else " " for one in text)
