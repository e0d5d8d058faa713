"""The times at which the lines of a task's output were received."""

from __future__ import annotations

from collections.abc import Callable

from compute_to_data.client.task_logs.log_source import EndedLog, LiveLog
from compute_to_data.client.task_status.status import unix_time
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.log_file import STREAMS, gap_line
from compute_to_data.records.task import timestamp


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


class Clock:
    """Puts before each line the time at which the worker received its first byte.

    If all of a task's output came within a second, no times are recorded: its lines get the time of the end.
    """

    def __init__(self, task: TaskHandle, source: LiveLog | EndedLog, stamper: Stamper) -> None:
        self.source = source
        self._stamper = stamper
        self._gaps: dict[int, tuple[int, int]] = {}
        self._otherwise: float | None = None
        self.look(source)
        if isinstance(source, EndedLog):
            status = task.status()
            ended = status.times.get("STAGING_OUT") or status.times.get(status.state.value, "")
            self._otherwise = unix_time(ended)
            for stream, name in enumerate(STREAMS):
                missing = status.log_bytes_missing.get(name, 0)
                gap = source.place_of_gap(stream, missing) if missing else None
                if gap is not None:
                    self._gaps[stream] = gap, missing - len(gap_line(missing))

    def look(self, source: LiveLog | EndedLog) -> None:
        """Take the times from a source."""
        self._times = source.times()

    def stamped(self, stream: int, content: bytes, offset: int) -> bytes:
        """``content``, which begins at ``offset`` of the stream's source, with times."""
        return self._stamper.stamped(stream, content, offset, lambda at: self._time(stream, at))

    def _time(self, stream: int, offset: int) -> float | None:
        gap, more = self._gaps.get(stream, (0, 0))
        found = self._times.of(stream, offset + more if offset > gap else offset)
        return self._otherwise if found is None else found
