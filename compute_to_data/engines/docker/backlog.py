"""Where to continue a job's log, from the log that the Docker daemon keeps of the container.

The daemon's log is the copy for the time in which no worker runs. It begins with the job's first bytes until it
reaches its size; then the daemon drops the oldest half. Nothing in it says whether that has happened.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compute_to_data import log_file
from compute_to_data.engines.docker import stream
from compute_to_data.engines.docker.client import LogStreams

MISSING = b"[c2d: bytes may be missing here: no worker ran, and Docker's log was full]\n"
LACKING = b"[c2d: bytes may be missing here: Docker closed its log before it had all]\n"
ENTRY = 48
"""More bytes than the daemon's log needs for a line in addition to the line."""
ANCHOR = 1 << 13
"""How many of the last bytes of our log are looked for in another copy of the stream."""
_CATCH_UP_SECONDS = 0.5
_PAUSE = 0.05


@dataclass(frozen=True)
class Start:
    """How many bytes of a stream in the daemon's log to skip. ``anchor``: the bytes that must stand before that
    place. Without ``is_sure``, bytes may be missing there."""

    skip: int
    anchor: bytes = b""
    is_sure: bool = True


def starts(logs: LogStreams, name: str, file: str, full: int) -> tuple[Start, Start]:
    """Where each stream of the log ``file`` continues in the log that the host keeps of the container ``name``.

    ``full``: the size of each part of that log. OSError or ValueError when the daemon does not answer as it should.

    The daemon sends bytes to us before it keeps them. So if it has fewer than our log, they may be on their way, and
    this asks again for a moment. Those that a daemon lost when it was killed do not come any more.
    """
    with log_file.opened(file) as reader:
        header = reader.header()
        ends = [log_file.tail(reader, header, number, ANCHOR) for number in (0, 1)]
    until = time.monotonic() + _CATCH_UP_SECONDS
    while True:
        searches, is_whole = _searched(logs, name, ends, full)
        is_behind = is_whole and any(one.count < written for one, written in zip(searches, header.written))
        if not is_behind or time.monotonic() > until:
            out, err = (one.start(written, is_whole) for one, written in zip(searches, header.written))
            return out, err
        time.sleep(_PAUSE)


def after(written: bytes, tail: bytes) -> bytes:
    """What of ``tail``, the last bytes of a stream, follows those that were ``written``, of which these are the last
    :data:`ANCHOR` ones. It begins with :data:`LACKING` if others may be missing before it."""
    search = _Search(written.rpartition(MISSING)[2])
    search.feed(tail)
    start = search.start(0, is_whole=False)
    rest = tail[start.skip :]
    line_end = b"" if not written or written.endswith(b"\n") else b"\n"
    return rest if start.is_sure or not rest else line_end + LACKING + rest


def _searched(logs: LogStreams, name: str, ends: Sequence[bytes], full: int) -> tuple[list[_Search], bool]:
    """What was found in each stream of the host's log, and whether that log has them from their beginning."""
    searches = [_Search(end) for end in ends]
    frames = stream.Frames()
    for data in _stored(logs, name):
        pieces: tuple[list[memoryview], ...] = ([], [])
        for number, piece in frames.feed(data):
            pieces[number].append(piece)
        for search, found in zip(searches, pieces):
            # Together, since a search costs as much as thousands of bytes, and a line may be one byte.
            search.feed(b"".join(found))
    size = sum(one.count for one in searches) + ENTRY * frames.begun
    return searches, logs.is_whole(name, size, full)


def _stored(logs: LogStreams, name: str) -> Iterator[bytes]:
    connection, received = logs.stored(name)
    with connection:
        yield received
        while received := connection.recv(stream.BLOCK):
            yield received


def _matches(text: bytes, anchor: bytes) -> int:
    """How often ``text`` has ``anchor``: 2 for more than once."""
    first = text.find(anchor)
    return 0 if first < 0 else 1 if text.find(anchor, first + 1) < 0 else 2


class _Search:
    """Looks for the last bytes of our log in a stream of the daemon's."""

    def __init__(self, anchor: bytes) -> None:
        self._anchor = anchor
        self.count = 0
        """How many bytes the stream has."""
        self._found = self._place = 0
        self._first = self._carried = b""

    def feed(self, piece: bytes) -> None:
        """The stream's next bytes."""
        if len(self._first) < ANCHOR:
            self._first += piece[: ANCHOR - len(self._first)]
        if self._anchor:
            text = self._carried + piece
            begin = self.count - len(self._carried)
            self._found += _matches(text, self._anchor)
            last = text[::-1].find(self._anchor[::-1])  # not rfind, which a hostile text can make take minutes
            if last >= 0:
                self._place = begin + len(text) - last
            self._carried = text[len(text) - len(self._anchor) + 1 :] if len(text) >= len(self._anchor) else text
        self.count += len(piece)

    def start(self, written: int, is_whole: bool) -> Start:
        """The place at which to continue. ``is_whole``: the daemon's log has the stream from its beginning."""
        if is_whole:
            return Start(min(written, self.count), self._anchor if written <= self.count else b"")
        if self._found:
            return Start(self._place, self._anchor, self._found == 1)
        overlap = next((n for n in range(len(self._anchor), 0, -1) if self._first.startswith(self._anchor[-n:])), 0)
        return Start(overlap, is_sure=not self.count)
