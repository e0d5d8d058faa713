"""Following a running task's words by looking again and again at the last of them."""

from __future__ import annotations

_PROBE = 1024
"""Bytes by which the place of the earlier end is sought; more make chance matches rarer."""
_MOST_PLACES = 4096
"""So many candidates are looked at in words that repeat themselves."""


def news(seen: bytes, tail: bytes) -> bytes:
    """What of ``tail`` was not in ``seen``; both are the last bytes of one stream, ``tail`` later.

    The tail may have lost its beginning since. It continues after the largest part that ends
    ``seen`` and begins ``tail``: so a stream that repeats itself faster than one looks shows less
    than was written, and one that wrote more than a whole tail since shows that tail, all of it.
    """
    if tail.startswith(seen):
        return tail[len(seen) :]
    return tail[_overlap(seen, tail) :]


def _overlap(seen: bytes, tail: bytes) -> int:
    """The largest number of bytes that end ``seen`` and begin ``tail``."""
    probe = seen[-_PROBE:]
    place = tail.rfind(probe, 0, len(seen))
    for _ in range(_MOST_PLACES):
        if place < 0:
            break
        length = place + len(probe)
        if seen.endswith(tail[:length]):
            return length
        place = tail.rfind(probe, 0, place + len(probe) - 1)
    return next((length for length in range(min(len(probe), len(tail)), 0, -1) if seen.endswith(tail[:length])), 0)
