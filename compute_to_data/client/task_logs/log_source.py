"""Where a client reads a task's output: from the log that the worker writes, or from the files of a task that has
ended. Both give any part of a stream by its offset."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol

from compute_to_data import log_file
from compute_to_data.errors import AccessDenied, NotFound, TooLarge
from compute_to_data.model import DataObject
from compute_to_data.ports.zone import ClientCatalog, OpenDataObject
from compute_to_data.task import LIVE_LOG_NAME, LOG_NAMES, TIMES_NAME

_BLOCK = 1 << 20
_LARGEST_TIMES = 1 << 26
"""The most bytes of a file of times that are read: those of about 2 million marks."""
_TAIL_BLOCK = 1 << 16


class LiveLog:
    """The log of a running task, open to read. Asks the catalog only when it is opened."""

    def __init__(self, catalog: ClientCatalog, collection: str) -> None:
        """NotFound when the worker does not show it; NotALog when another data object has its name."""
        self._open = ExitStack()
        found = self._open.enter_context(catalog.open_to_read(f"{collection}/{LIVE_LOG_NAME}"))
        self._reader = log_file.LogReader(found.read)
        try:
            self.header = self._reader.header()
        except BaseException:
            self._open.close()
            raise

    def refresh(self) -> None:
        """Read how much there is now."""
        self.header = self._reader.header()

    def read(self, stream: int, offset: int) -> log_file.Piece:
        """The next bytes of a stream."""
        return self._reader.read(self.header, stream, offset)

    def end(self, stream: int) -> int:
        """The offset after a stream's last byte."""
        return self.header.written[stream]

    def blocks(self, stream: int, offset: int) -> Iterator[bytes]:
        """What there is of a stream from ``offset`` on."""
        while offset < self.end(stream):
            piece = self.read(stream, offset)
            if piece.missed:
                yield log_file.gap_line(piece.missed)
            if not piece.content and not piece.missed:
                return
            offset += piece.missed + len(piece.content)
            yield piece.content

    def times(self) -> Times:
        """When the worker received the bytes so far."""
        return Times(self._reader.marks(self.header))

    def close(self) -> None:
        """Close the data object."""
        self._open.close()


class EndedLog:
    """The files of a task's streams. A stream without output has none."""

    def __init__(self, catalog: ClientCatalog, collection: str) -> None:
        """AccessDenied when the user sees a file and may not read it, as in a zone without strict access lists."""
        self._open = ExitStack()
        self._catalog = catalog
        self._collection = collection
        self._files: list[tuple[OpenDataObject, int] | None] = [self._opened(name) for name in LOG_NAMES]

    def _opened(self, name: str) -> tuple[OpenDataObject, int] | None:
        path = f"{self._collection}/{name}"
        try:
            found = self._catalog.stat(path)
        except NotFound:
            return None
        if not isinstance(found, DataObject):
            return None
        try:
            return self._open.enter_context(self._catalog.open_to_read(path)), found.size
        except NotFound as error:
            self._open.close()
            remedy = "Ask the task's owner for read access"
            raise AccessDenied(path, "you may not read it", remedy, code=error.code) from error

    def read(self, stream: int, offset: int) -> log_file.Piece:
        """The next bytes of a file."""
        found = self._files[stream]
        return log_file.Piece(0, found[0].read(offset, _BLOCK) if found else b"")

    def end(self, stream: int) -> int:
        """The size of a file."""
        found = self._files[stream]
        return found[1] if found else 0

    def blocks(self, stream: int, offset: int) -> Iterator[bytes]:
        """A file's content from ``offset`` on."""
        while content := self.read(stream, offset).content:
            offset += len(content)
            yield content

    def times(self) -> Times:
        """When the worker received the bytes. Empty when all came within a second."""
        try:
            lines = self._catalog.read(f"{self._collection}/{TIMES_NAME}", _LARGEST_TIMES).decode().splitlines()
            marks = [line.split() for line in lines]
            return Times([(float(when), (int(out), int(err))) for when, out, err in marks])
        except (NotFound, TooLarge, ValueError):
            return Times(())

    def place_of_gap(self, stream: int, missing: int) -> int | None:
        """Where the line stands that says how many bytes are missing; None when there is no such line."""
        line, carried, start = log_file.gap_line(missing), b"", 0
        for block in self.blocks(stream, 0):
            text = carried + block
            place = text.find(line)
            if place >= 0:
                return start - len(carried) + place
            start += len(block)
            carried = text[-len(line) :]
        return None

    def close(self) -> None:
        """Close the files."""
        self._open.close()


class Source(Protocol):
    """What both have in common."""

    def read(self, stream: int, offset: int) -> log_file.Piece:
        """The next bytes of a stream."""

    def end(self, stream: int) -> int:
        """The offset after a stream's last byte."""


def start_of_last_lines(source: Source, stream: int, count: int) -> int:
    """The offset at which the last ``count`` lines of a stream begin, as far as the source still has them."""
    end = start = source.end(stream)
    found = 0
    while start > 0 and count > 0:
        begin, block = _between(source, stream, max(0, start - _TAIL_BLOCK), start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            found += begin + at + 1 < end  # the last byte ends a line, and begins none
            if found == count:
                return begin + at + 1
        if begin + len(block) < start or begin > max(0, start - _TAIL_BLOCK):
            return begin
        start = begin
    return start


def _between(source: Source, stream: int, begin: int, end: int) -> tuple[int, bytes]:
    """The bytes between two offsets. Begins later when the source no longer has the first ones."""
    block = b""
    while begin + len(block) < end:
        piece = source.read(stream, begin + len(block))
        if piece.missed:
            begin, block = begin + len(block) + piece.missed, b""
        if not piece.content:
            break
        block += piece.content
    return begin, block[: max(0, end - begin)]


class Times:
    """When the worker received which bytes."""

    def __init__(self, marks: Sequence[tuple[float, tuple[int, int]]]) -> None:
        self._moments = [when for when, _ in marks]
        self._counts = [[counts[stream] for _, counts in marks] for stream in (0, 1)]

    def of(self, stream: int, offset: int) -> float | None:
        """When the byte at ``offset`` was received, in Unix seconds; None when that is not known."""
        number = bisect.bisect_right(self._counts[stream], offset)
        return self._moments[number] if number < len(self._moments) else None
