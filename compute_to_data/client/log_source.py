"""Where a client reads a task's output: from the log that the worker writes, or from the files of a task that has
ended. Both give any part of a stream by its offset."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol

from compute_to_data import log_file
from compute_to_data.errors import NotFound
from compute_to_data.model import DataObject
from compute_to_data.ports import ClientCatalog, OpenDataObject
from compute_to_data.records.task import timestamp
from compute_to_data.task import LIVE_LOG_NAME, LOG_NAMES

_BLOCK = 1 << 20
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
        self._open = ExitStack()
        self._catalog = catalog
        self._collection = collection
        self._files: list[tuple[OpenDataObject, int] | None] = [self._opened(name) for name in LOG_NAMES]

    def _opened(self, name: str) -> tuple[OpenDataObject, int] | None:
        path = f"{self._collection}/{name}"
        try:
            found = self._catalog.stat(path)
            if not isinstance(found, DataObject):
                return None
            return self._open.enter_context(self._catalog.open_to_read(path)), found.size
        except NotFound:
            return None

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
        """When the worker received the bytes. Nothing records it after the end."""
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
    end = source.end(stream)
    start, found = end, 0
    while start > 0:
        begin = max(0, start - _TAIL_BLOCK)
        piece = source.read(stream, begin)
        block = piece.content[: start - begin - piece.missed]
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            is_the_last_byte = begin + piece.missed + at + 1 == end
            found += not is_the_last_byte
            if found == count:
                return begin + piece.missed + at + 1
        if piece.missed:
            return begin + piece.missed
        start = begin
    return 0


class Times:
    """When the worker received which bytes."""

    def __init__(self, marks: Sequence[tuple[float, tuple[int, int]]]) -> None:
        self._moments = [when for when, _ in marks]
        self._counts = [[counts[stream] for _, counts in marks] for stream in (0, 1)]

    def of(self, stream: int, offset: int) -> float | None:
        """When the byte at ``offset`` was received, in Unix seconds; None when that is not known."""
        number = bisect.bisect_right(self._counts[stream], offset)
        return self._moments[number] if number < len(self._moments) else None


class Stamper:
    """Puts the time before each line of the streams."""

    def __init__(self) -> None:
        self._begins_line = [True, True]

    def stamped(self, stream: int, content: bytes, offset: int, time_of: Callable[[int], float | None]) -> bytes:
        """The content with a time before each line that begins in it. ``offset``: that of its first byte."""
        pieces = []
        for line in _lines(content):
            if self._begins_line[stream]:
                when = time_of(offset)
                pieces.append(b"%s " % (timestamp(when).encode() if when is not None else b"-" * 24))
            pieces.append(line)
            offset += len(line)
            self._begins_line[stream] = line.endswith(b"\n")
        return b"".join(pieces)


def _lines(content: bytes) -> list[bytes]:
    *ended, last = content.split(b"\n")
    return [*(line + b"\n" for line in ended), *([last] if last else [])]
