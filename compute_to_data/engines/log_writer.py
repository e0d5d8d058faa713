"""Writes a log (see ``log_file``). Standard library only: the process engine's runner uses it, too."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterator

from compute_to_data.errors import EngineError
from compute_to_data.log_file import HEADER_SIZE, MARK, MARKS, UNCOUNTED, Header, Layout, is_closed, is_lacking, unpack

_FULL = os.strerror(errno.ENOSPC)
_FIRST_INTERVAL = 0.01
"""Seconds between two marks, at first."""


class LogWriter:
    """Writes one job's log. Holds a lock on the file, so that no other process writes. Threads may share it.

    When the disk does not accept bytes, ``problem`` has the first error, and later bytes are dropped: the job must
    not wait for us for ever.
    """

    def __init__(self, file: str, descriptor: int, header: Header) -> None:
        """For :meth:`create` and :meth:`reopen`."""
        self.file = file
        self.problem: OSError | None = None
        self.layout = Layout(header.bound)
        self._descriptor = descriptor
        self._run = header.run
        self._written = list(header.written)
        self._uncounted = [0, 0]
        self._marks = _Marks(descriptor, header.marks)
        self._lock = threading.Lock()
        self._is_open = True

    @classmethod
    def create(cls, file: str, bound: int) -> LogWriter:
        """A new, empty log. Replaces an earlier one in place, so that its readers notice.

        BlockingIOError when another writer has it open; other OSErrors when it cannot be made.
        """
        descriptor = _open_locked(file, os.O_CREAT)
        try:
            os.ftruncate(descriptor, 0)
            _reserve(descriptor, bound)
            header = Header(bound, secrets.randbits(63), (0, 0), False, time.time(), 0)
            os.pwrite(descriptor, header.pack(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(file, descriptor, header)

    @classmethod
    def reopen(cls, file: str, bound: int) -> LogWriter:
        """The log that an earlier writer left, to continue it. Makes a new one if there is none, or no valid one.

        Errors as for :meth:`create`.
        """
        descriptor = _open_locked(file, os.O_CREAT)
        try:
            header = unpack(os.pread(descriptor, HEADER_SIZE, 0))
            if header is None or header.bound != bound:
                os.ftruncate(descriptor, 0)
                header = Header(bound, secrets.randbits(63), (0, 0), False, time.time(), 0)
            _reserve(descriptor, bound)
            os.pwrite(descriptor, header.pack(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(file, descriptor, header)

    @property
    def written(self) -> tuple[int, int]:
        """How many bytes of each stream were appended."""
        return self._written[0], self._written[1]

    def append(self, stream: int, data: bytes | memoryview) -> None:
        """Append to a stream. Readers see the bytes after :meth:`publish`, or earlier."""
        with self._lock, self._noting_problems():
            rest = memoryview(data)
            while rest and self._is_open and self.problem is None:
                if self._uncounted[stream] >= UNCOUNTED:
                    self._publish(is_closed=False)
                place, room = self.layout.place(stream, self._written[stream])
                piece = rest[: min(room, UNCOUNTED - self._uncounted[stream])]
                count = os.pwrite(self._descriptor, piece, place)
                self._written[stream] += count
                self._uncounted[stream] += count
                rest = rest[count:]

    def publish(self) -> None:
        """Count in the header all that was appended."""
        with self._lock, self._noting_problems():
            if self._is_open and any(self._uncounted):
                self._publish(is_closed=False)

    def _publish(self, *, is_closed: bool) -> None:
        if any(self._written):
            self._marks.add(*self.written)
        lacks = self.problem is not None
        header = Header(self.layout.bound, self._run, self.written, is_closed, time.time(), self._marks.count, lacks)
        os.pwrite(self._descriptor, header.pack(), 0)
        self._uncounted = [0, 0]

    @contextlib.contextmanager
    def _noting_problems(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = self.problem or error

    def close(self, *, complete: bool) -> None:
        """Close the file. ``complete``: the job has ended, and all that it wrote was appended."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            with self._noting_problems():
                self._publish(is_closed=complete)
            os.close(self._descriptor)


class _Marks:
    """Says when the counts of the streams were reached. When the table is full, every second mark goes, and from
    then on new ones are made half as often."""

    def __init__(self, descriptor: int, count: int) -> None:
        self._descriptor = descriptor
        self.count = count
        self._interval = _FIRST_INTERVAL
        self._next = 0.0

    def add(self, stdout: int, stderr: int) -> None:
        """Note that the streams have these counts now, unless the last mark is very recent."""
        now = time.time()
        if now < self._next and self.count:
            # The last mark moves on with the counts, so that no byte seems older than it is.
            return self._write(self.count - 1, now, stdout, stderr)
        if self.count == MARKS:
            self._thin_out()
        self._write(self.count, now, stdout, stderr)
        self.count += 1
        self._next = now + self._interval
        return None

    def _write(self, number: int, now: float, stdout: int, stderr: int) -> None:
        with contextlib.suppress(OSError):  # on a full disk, the output is worth more than its times
            os.pwrite(self._descriptor, MARK.pack(now, stdout, stderr), HEADER_SIZE + number * MARK.size)

    def _thin_out(self) -> None:
        every = os.pread(self._descriptor, MARKS * MARK.size, HEADER_SIZE)
        kept = b"".join(every[at : at + MARK.size] for at in range(MARK.size, len(every), 2 * MARK.size))
        os.pwrite(self._descriptor, kept, HEADER_SIZE)
        self.count = len(kept) // MARK.size
        self._interval *= 2


def _reserve(descriptor: int, bound: int) -> None:
    """Give the file its size, and reserve space for the beginning of each stream."""
    layout = Layout(bound)
    os.ftruncate(descriptor, layout.size)
    for place, size in layout.reserved():
        os.posix_fallocate(descriptor, place, size)


def _open_locked(file: str, flags: int) -> int:
    """Open a log for its only writer. A symbolic link is refused. A log that was closed may be locked for a moment."""
    descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def created(file: str, bound: int) -> LogWriter:
    """A new log for a job that is about to start. EngineError when it cannot be made."""
    try:
        return LogWriter.create(file, bound)
    except OSError as error:
        cause = f"the worker cannot keep the job's output there ({error.strerror})"
        raise EngineError(file, cause, "An administrator makes room") from error


def check_whole(file: str) -> None:
    """EngineError when the disk did not take all that the job wrote."""
    if is_lacking(file):
        raise EngineError(
            file, f"there was no room for all that the job wrote ({_FULL})", "An administrator makes room"
        )


def close(file: str, bound: int) -> None:
    """Mark a log as complete whose writer died."""
    try:
        LogWriter.reopen(file, bound).close(complete=True)
    except BlockingIOError as error:
        raise OSError(errno.EBUSY, "another process writes the log") from error


def finish(file: str, bound: int) -> None:
    """Mark a job's log as complete, also if its writer died. EngineError when the worker cannot write there, or when
    the disk did not take all that the job wrote."""
    try:
        if not is_closed(file):
            close(file, bound)
    except OSError as error:
        raise EngineError(file, f"the worker cannot write there ({error.strerror})") from error
    check_whole(file)
