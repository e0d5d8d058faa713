"""The file in which an engine keeps what a job writes, as it writes it. Standard library only.

Each stream (``stdout``, ``stderr``) is a sequence of bytes with offsets from 0. The file has a fixed size, which
follows from ``bound``, the number of bytes of a stream to keep::

    header | marks | stdout: first half, ring | stderr: first half, ring

The first half of ``bound`` stays as it was written. All that follows goes around in the ring, which always has the
last half. So the file never grows, and an offset alone says where its byte is. One process writes. Others may read
meanwhile, without a lock: the writer writes bytes before it counts them in the header, and the ring is larger than
the bytes that the header promises, by as much as the writer writes before it counts. A reader reads the header,
then bytes, then the header again, and so knows which of the bytes were overwritten meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

STREAMS = ("stdout", "stderr")
"""The names of the streams, by their number in this file."""
_MAGIC = b"c2dlog1\n"
_HEADER = struct.Struct("<8sQQQQQdI")  # magic, bound, run, written (2), flags, when changed, number of marks
_CHECK = struct.Struct("<I")
HEADER_SIZE = 4096
_CLOSED, _LACKING = 1, 2
MARK = struct.Struct("<dQQ")
MARKS = 4096
UNCOUNTED = 1 << 18
"""The most bytes of a stream that the writer writes before it counts them in the header."""
_LEAST_RING = 1 << 20
"""A short log also has a ring of this size, so that a reader has time to follow."""
_RESERVED = 1 << 16
_BLOCK = 1 << 20
_TRIES = 100


class NotALog(ValueError):
    """The file has no valid header."""


class Layout:
    """Where the bytes of a log with this ``bound`` are."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.first = bound // 2
        self.last = bound - self.first
        self.promised = max(self.last + 1, _LEAST_RING)  # the byte before the last half says whether it begins a line
        """How many of its last bytes a stream always has, besides the first half."""
        self.ring = self.promised + UNCOUNTED

    def reserved(self) -> list[tuple[int, int]]:
        """The positions and sizes of the parts for which a writer reserves space, so that a job that fills the disk
        can still say so."""
        each = min(_RESERVED, self.first + self.ring)
        return [(0, HEADER_SIZE), *((self._start(stream), each) for stream in range(len(STREAMS)))]

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self._start(len(STREAMS))

    def _start(self, stream: int) -> int:
        return HEADER_SIZE + MARKS * MARK.size + stream * (self.first + self.ring)

    def place(self, stream: int, offset: int) -> tuple[int, int]:
        """The position in the file of a byte of a stream, and how many bytes follow from there in one piece."""
        if offset < self.first:
            return self._start(stream) + offset, self.first - offset
        turn = (offset - self.first) % self.ring
        return self._start(stream) + self.first + turn, self.ring - turn

    def oldest(self, offset: int, written: int) -> int:
        """The first offset from ``offset`` on that the file still has when ``written`` bytes are counted."""
        if offset < self.first:
            return offset
        return max(offset, written - self.promised)


@dataclass(frozen=True)
class Header:
    """What the file says about itself. ``run`` distinguishes the jobs that wrote into this file one after the other.
    ``written``: how many bytes each stream has had. ``changed``: Unix seconds. ``is_closed``: the job has ended, and
    the file has all that it wrote; but for the end of it when the disk was full (``is_lacking``)."""

    bound: int
    run: int
    written: tuple[int, int]
    is_closed: bool
    changed: float
    marks: int
    is_lacking: bool = False

    def pack(self) -> bytes:
        """The header's bytes."""
        flags = (_CLOSED if self.is_closed else 0) | (_LACKING if self.is_lacking else 0)
        fields = _HEADER.pack(_MAGIC, self.bound, self.run, *self.written, flags, self.changed, self.marks)
        return fields + _CHECK.pack(zlib.crc32(fields))


def unpack(raw: bytes) -> Header | None:
    """The header in ``raw``; None when it is not valid, as when the writer changed it meanwhile."""
    fields, check = raw[: _HEADER.size], raw[_HEADER.size : _HEADER.size + _CHECK.size]
    if len(check) < _CHECK.size or _CHECK.unpack(check)[0] != zlib.crc32(fields):
        return None
    magic, bound, run, out, err, flags, changed, marks = _HEADER.unpack(fields)
    if magic != _MAGIC or not 0 < bound < 1 << 53 or marks > MARKS:
        return None
    return Header(bound, run, (out, err), bool(flags & _CLOSED), changed, marks, bool(flags & _LACKING))


@dataclass(frozen=True)
class Piece:
    """Bytes of a stream. ``missed``: how many bytes before them the file no longer has."""

    missed: int
    content: bytes


class LogReader:
    """Reads a log while it is written, or afterwards. ``read(offset, size)`` returns bytes of the file; it may
    return fewer at the end of the file."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read

    def header(self) -> Header:
        """The current header. NotALog when there is no valid one."""
        for _ in range(_TRIES):
            found = unpack(self._read(0, _HEADER.size + _CHECK.size))
            if found is not None:
                return found
            time.sleep(0.001)  # the writer changed it while it was read
        raise NotALog("the log has no valid header")

    def read(self, header: Header, stream: int, offset: int, most: int = _BLOCK) -> Piece:
        """The bytes of a stream from ``offset`` on, up to ``most``, that ``header`` counts."""
        layout, written = Layout(header.bound), header.written[stream]
        start = min(layout.oldest(offset, written), written)
        if start < layout.first:
            most = min(most, layout.first - start)  # what follows is in the ring, and may be overwritten
        content = bytearray()
        while start + len(content) < written and len(content) < most:
            place, room = layout.place(stream, start + len(content))
            wanted = min(room, most - len(content), written - start - len(content))
            got = self._read(place, wanted)
            if not got:
                raise NotALog("the log is shorter than its header says")
            content += got
        after = header if header.is_closed else self.header()
        if after.run != header.run:
            return Piece(0, b"")  # another job's log: the caller sees it in the next header
        begun = min(layout.oldest(start, after.written[stream]), start + len(content))
        return Piece(begun - offset if content else start - offset, bytes(content[begun - start :]))

    def marks(self, header: Header) -> list[tuple[float, tuple[int, int]]]:
        """When the counts of the streams were reached, the earliest first: Unix seconds and both counts."""
        raw = self._read(HEADER_SIZE, header.marks * MARK.size)
        return [(when, (out, err)) for when, out, err in MARK.iter_unpack(raw[: len(raw) // MARK.size * MARK.size])]


@contextlib.contextmanager
def opened(file: str) -> Iterator[LogReader]:
    """Read the log in a local file. OSError when there is none."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield LogReader(lambda offset, size: os.pread(descriptor, size, offset))
    finally:
        os.close(descriptor)


def is_lacking(file: str) -> bool:
    """Whether the disk did not take all that the job wrote."""
    try:
        with opened(file) as reader:
            return reader.header().is_lacking
    except (FileNotFoundError, NotALog):
        return False


def is_closed(file: str) -> bool:
    """Whether the file has all that its job wrote."""
    try:
        with opened(file) as reader:
            return reader.header().is_closed
    except (FileNotFoundError, NotALog):
        return False


# What remains of a log


@dataclass(frozen=True)
class Kept:
    """What remains of a stream when its job has ended: the bytes up to ``first``, and those from ``last`` to ``end``.
    With ``first`` equal to ``last``, these are all."""

    stream: int
    first: int
    last: int
    end: int

    @property
    def missing(self) -> int:
        """How many bytes do not remain."""
        return self.last - self.first


def gap_line(missing: int) -> bytes:
    """The line that stands for bytes that do not remain."""
    return b"[c2d: %d bytes are missing here: limits.log_bytes]\n" % missing


def kept(reader: LogReader, header: Header, stream: int) -> Kept:
    """What remains of a stream of a closed log: all of it, or its first and its last half, cut between two lines
    where there is a line end nearby."""
    layout, written = Layout(header.bound), header.written[stream]
    if written <= header.bound:
        return Kept(stream, written, written, written)
    before = reader.read(header, stream, layout.first - layout.first // 2, layout.first // 2).content
    start = written - layout.last
    after = reader.read(header, stream, start, layout.last // 2).content
    first = layout.first - (len(before) - 1 - before.rfind(b"\n") if b"\n" in before else 0)
    begins_a_line = reader.read(header, stream, start - 1, 1).content == b"\n"
    last = start if begins_a_line else start + after.find(b"\n") + 1
    return Kept(stream, first, last, written)


def remains(reader: LogReader, header: Header, part: Kept) -> Iterator[bytes]:
    """The bytes of what remains of a stream, in blocks, with the line for what is missing."""
    yield from _blocks(reader, header, part.stream, 0, part.first)
    if part.missing:
        end = reader.read(header, part.stream, part.first - 1, 1).content if part.first else b"\n"
        yield b"" if end == b"\n" else b"\n"
        yield gap_line(part.missing)
    yield from _blocks(reader, header, part.stream, part.last, part.end)


def _blocks(reader: LogReader, header: Header, stream: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        content = reader.read(header, stream, start, min(_BLOCK, end - start)).content
        if not content:
            return
        yield content
        start += len(content)


def tail(reader: LogReader, header: Header, stream: int, most: int) -> bytes:
    """The last bytes of a stream, up to ``most``."""
    written = header.written[stream]
    return b"".join(_blocks(reader, header, stream, max(0, written - most), written))


def last(file: str, most: int) -> tuple[bytes, ...]:
    """The last bytes of each stream of a local log, up to ``most``. OSError; NotALog."""
    with opened(file) as reader:
        header = reader.header()
        return tuple(tail(reader, header, number, most) for number in range(len(STREAMS)))


def main(file: str) -> None:
    """Print what a local copy of a log has, each stream on its own."""
    with opened(file) as reader:
        header = reader.header()
        for stream, target in enumerate((sys.stdout, sys.stderr)):
            for block in remains(reader, header, kept(reader, header, stream)):
                target.buffer.write(block)
            target.flush()


if __name__ == "__main__":
    main(sys.argv[1])
