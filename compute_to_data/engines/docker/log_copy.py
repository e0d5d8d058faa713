"""The copy of one job's log, which a thread of ``log_copies`` fills."""

from __future__ import annotations

import logging
import socket
import threading
import time
from enum import Enum

from compute_to_data import log_file
from compute_to_data.engines.docker import backlog, stream
from compute_to_data.engines.docker.backlog import MISSING, Start
from compute_to_data.engines.docker.log_connection import LogConnection
from compute_to_data.engines.docker.log_tail import Tail
from compute_to_data.engines.docker.presence import Presence
from compute_to_data.engines.log_writer import LogWriter
from compute_to_data.job import JobKey

log = logging.getLogger(__name__)

MARGIN = 1.0
"""A connection that ends more than this many seconds before the job has broken, or the job closed its streams."""


class Source(Enum):
    """Where a copy comes from."""

    CONTAINER = "container"
    """The engine was attached before the container started."""
    GROWING_LOG = "growing log"
    """The daemon's log. When the container ends, the daemon may end the answer before the log's last lines."""
    WHOLE_LOG = "whole log"
    """The daemon's log, of a container that has ended."""


class Copy(LogConnection):
    """The copy of one job's output. One thread calls :meth:`take`."""

    def __init__(
        self,
        source: Source,
        key: JobKey,
        writer: LogWriter,
        connection: socket.socket,
        received: bytes,
        starts: tuple[Start, Start] = (Start(0), Start(0)),
        daemon: Presence | None = None,
        tail: Tail | None = None,
    ) -> None:
        """``daemon``: the one that the engine was attached to. ``tail``: the job's last bytes, for a copy of the
        daemon's log."""
        super().__init__(connection, received)
        self.source = source
        self.tail = tail
        self._daemon = daemon
        self.key = key
        self.writer = writer
        self.is_broken = False
        self.moved = time.monotonic()
        self._frames = stream.Frames()
        self._starts = starts
        self._skipped = [0, 0]
        self._before = [b"", b""]
        self._closing = threading.Lock()
        for number, start in enumerate(starts):
            if not start.skip:
                self._begin(number)

    def take(self) -> bool:
        """Copy what has arrived. False at the end of the connection."""
        try:
            data, self.received = self.received or self.connection.recv(stream.BLOCK), b""
            for number, piece in self._frames.feed(data):
                rest = self._skip(number, piece)
                if rest:
                    self.writer.append(number, rest)
        except BlockingIOError:
            return True
        except (OSError, ValueError) as error:
            log.warning("%s: the connection that its output comes on is broken: %r", self.key.task, error)
            self.is_broken = True
            return False
        self.writer.publish()
        self.moved = time.monotonic()
        self.is_broken = not data and not self._frames.is_between
        return bool(data)

    def _skip(self, number: int, piece: memoryview) -> memoryview:
        """What remains of a piece without the bytes that the log has already."""
        left = self._starts[number].skip - self._skipped[number]
        if left <= 0:
            return piece
        skipped = bytes(piece[:left])
        self._skipped[number] += len(skipped)
        anchor = self._starts[number].anchor
        if anchor:
            self._before[number] = (self._before[number] + skipped)[-len(anchor) :]
        if len(skipped) == left:
            self._begin(number)
        return piece[left:]

    def _begin(self, number: int) -> None:
        """Continue a stream; say so in it if bytes may be missing."""
        start = self._starts[number]
        if start.is_sure and self._before[number] == start.anchor:
            return
        written = self.writer.written[number]
        self.writer.append(number, (b"\n" if written and not start.anchor.endswith(b"\n") else b"") + MISSING)

    def has_all(self, finished: float) -> bool:
        """Whether the copy has all that the job wrote, which ended at ``finished`` (Unix seconds)."""
        if not self.ended.is_set() or self.is_broken or self.source is Source.GROWING_LOG:
            return False
        if self.source is Source.WHOLE_LOG:
            return True
        # The connection may have ended with its daemon, and the job wrote more until its own end just afterwards.
        return self.ended_at > finished - MARGIN and self._daemon is not None and not self._daemon.has_ended()

    def complete(self, finished: float) -> None:
        """Close the log of a job that :meth:`has_all`, with what the daemon's log may lack at its end. ``finished``:
        when the job ended, in Unix seconds."""
        with self._closing:
            tail, self.tail = self.tail, None
            if tail is not None and not tail.ended.is_set():
                tail.shut()
            elif tail is not None and tail.ended_at > finished - MARGIN:
                self.writer.publish()
                for number, last in enumerate(log_file.last(self.writer.file, backlog.ANCHOR)):
                    self.writer.append(number, tail.after(number, last))
            self.writer.close(complete=True)
