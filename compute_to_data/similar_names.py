"""Finds the name that a user probably meant, for the remedy of an error."""

from __future__ import annotations

from collections.abc import Iterable

_COMPARED_CHARACTERS = 200
"""Comparing takes the product of two lengths, and an untrusted document may contain very long names."""
_COMPARED_NAMES = 10_000


def nearest(word: str, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """The name most like ``word``; '' when none is like it.

    ``likeness``: how alike they must be, from 0 (anything) to 1 (the same): difflib's ratio.
    """
    import difflib  # here, since it is needed only for a mistake
    import itertools

    known = {name[:_COMPARED_CHARACTERS]: name for name in itertools.islice(names, _COMPARED_NAMES)}
    found = difflib.get_close_matches(word[:_COMPARED_CHARACTERS], known, 1, likeness)
    return known[found[0]] if found else ""
