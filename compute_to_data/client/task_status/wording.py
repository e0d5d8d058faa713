"""Times and ids as people write them. Scripts read the exact ones: ``--output raw`` and ``json``."""

from __future__ import annotations

import re
from collections.abc import Iterable

_STEPS = (("second", 60), ("minute", 60), ("hour", 24), ("day", 7), ("week", 52))
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHORTEST = 8


def ago(seconds: float) -> str:
    """How long ago something was: ``just now``, ``1 minute ago``, ``3 days ago``."""
    if seconds < 1:
        return "just now"
    number = int(seconds)
    for unit, size in _STEPS:
        if number < size:
            return f"{number} {unit}{'s' * (number > 1)} ago"
        number //= size
    return f"{number} year{'s' * (number > 1)} ago"


def duration(seconds: float) -> str:
    """How long something took: ``0.02 s``, ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for larger, smaller, in_smaller, in_larger in (
        ("min", "s", 1, 60),
        ("h", "min", 60, 3600),
        ("d", "h", 3600, 86400),
    ):
        if whole < in_larger * (24 if larger == "h" else 60) or larger == "d":
            rest = whole % in_larger // in_smaller
            return f"{whole // in_larger} {larger}" + (f" {rest} {smaller}" if rest else "")
    raise AssertionError("the last unit has no end")


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Each id as short as the others allow. An id that a user chose stays whole."""
    known = sorted(set(ids))
    found = {}
    for place, one in enumerate(known):
        if not _UUID.fullmatch(one):
            found[one] = one
            continue
        neighbours = known[max(0, place - 1) : place] + known[place + 1 : place + 2]
        common = max((_common(one, other) for other in neighbours), default=0)
        found[one] = one[: max(_SHORTEST, common + 1)]
    return found


def _common(one: str, other: str) -> int:
    """The length of the beginning that two words share."""
    return next((place for place, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def shortened(text: str, width: int) -> str:
    """The text, or its beginning and ``...`` when it is longer than ``width``."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def amount(size: float) -> str:
    """Bytes for people: ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def file_count(count: int) -> str:
    """A number of files for people."""
    return "1 file" if count == 1 else f"{count} files"
