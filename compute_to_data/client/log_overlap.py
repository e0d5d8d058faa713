"""Following a running task's words by looking again and again at the last of them."""

from __future__ import annotations

_PROBE = 1024
"""Bytes by which the place of the earlier end is sought; more make chance matches rarer."""
_MOST_PLACES = 512
"""So many candidates are looked at in words that repeat themselves."""


def news(seen: bytes, tail: bytes) -> bytes:
    """What of ``tail`` came after ``seen``; both are last bytes of one stream, ``tail`` is the later.

    The tail may have lost the beginning of what was seen, or reach further back, as the final file
    does. It continues after ``seen``, where it holds all of that, else after the largest part that
    ends ``seen`` and begins ``tail``. So a stream that repeats itself may show less or more than
    was written, and one that wrote more than a whole tail since shows that tail, all of it.
    """
    if tail.startswith(seen):
        return tail[len(seen) :]
    probe = seen[-_PROBE:]
    return tail[_whole(seen, probe, tail) or _overlap(seen, probe, tail) :]


def _whole(seen: bytes, probe: bytes, tail: bytes) -> int:
    """Where the first ``seen`` in ``tail`` ends; 0 for none."""
    place = tail.find(probe, len(seen) - len(probe))
    for _ in range(_MOST_PLACES):
        if place < 0:
            break
        end = place + len(probe)
        if tail.startswith(seen, end - len(seen)):
            return end
        place = tail.find(probe, place + 1)
    return 0


def _overlap(seen: bytes, probe: bytes, tail: bytes) -> int:
    """The largest number of bytes that end ``seen`` and begin ``tail``."""
    place = tail.rfind(probe, 0, len(seen))
    for _ in range(_MOST_PLACES):
        if place < 0:
            break
        length = place + len(probe)
        if seen.endswith(tail[:length]):
            return length
        place = tail.rfind(probe, 0, place + len(probe) - 1)
    return next((length for length in range(min(len(probe), len(tail)), 0, -1) if seen.endswith(tail[:length])), 0)
