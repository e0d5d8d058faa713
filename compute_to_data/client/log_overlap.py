"""Follow a running task's output by reading the last bytes of it again and again."""

from __future__ import annotations

_PROBE = 1024
"""The search for the earlier end compares this many bytes. More bytes make chance matches rarer."""
_MOST_PLACES = 512
"""At most this many matches are tried when the output repeats itself."""


def new_output(seen: bytes, tail: bytes) -> bytes:
    """The part of ``tail`` that was written after ``seen``.

    Both are the last bytes of one stream; ``tail`` was read later. The tail may lack the beginning of
    ``seen``, or reach further back, as the final file does. The new part begins after ``seen`` when
    the tail contains all of it, else after the longest end of ``seen`` that begins the tail. When a
    stream repeats itself, the result may hold less or more than was written. When the stream wrote
    more than a whole tail since, the result is the whole tail.
    """
    if tail.startswith(seen):
        return tail[len(seen) :]
    probe = seen[-_PROBE:]
    return tail[_whole(seen, probe, tail) or _overlap(seen, probe, tail) :]


def _whole(seen: bytes, probe: bytes, tail: bytes) -> int:
    """The position in ``tail`` where the first ``seen`` ends; 0 when ``tail`` does not contain it."""
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
    """The length of the longest end of ``seen`` that begins ``tail``."""
    place = tail.rfind(probe, 0, len(seen))
    for _ in range(_MOST_PLACES):
        if place < 0:
            break
        length = place + len(probe)
        if seen.endswith(tail[:length]):
            return length
        place = tail.rfind(probe, 0, place + len(probe) - 1)
    return next((length for length in range(min(len(probe), len(tail)), 0, -1) if seen.endswith(tail[:length])), 0)
