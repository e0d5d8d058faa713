"""Where a log continues in the one that the Docker daemon keeps.

A daemon cannot be made to lag, so this one is ours. With Docker itself, the contract's tests of logs run.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from compute_to_data import log_file
from compute_to_data.engines.docker import backlog, stream
from compute_to_data.engines.docker.backlog import ENTRY, LACKING, MISSING, Start, starts
from compute_to_data.engines.docker.log_copies import LogCopies
from compute_to_data.engines.docker.presence import Presence
from compute_to_data.engines.log_writer import LogWriter
from compute_to_data.job import Exit, JobKey, JobState, JobStatus

FULL = 1 << 20
LINES = [b"%d\n" % number for number in range(1000)]


def frame(stream: int, content: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(content)) + content


class Daemon:
    """Answers with the next of ``answers`` each time, and then with the last one. ``at_once``: how many bytes go into
    the connection together."""

    def __init__(self, *answers: bytes, at_once: int = 1 << 16) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.sizes: list[int] = []
        self._at_once = at_once

    def attach(self, container: str) -> tuple[socket.socket, bytes]:
        raise AssertionError("nothing here attaches")

    def idle(self) -> socket.socket:
        raise AssertionError("nothing here attaches")

    def beside(self, container: str) -> tuple[socket.socket, bytes] | None:
        return None

    def stored(self, container: str, *, follow: bool = False) -> tuple[socket.socket, bytes]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def send() -> None:
            with theirs:
                for start in range(0, len(answer), self._at_once):
                    theirs.send(answer[start : start + self._at_once])

        threading.Thread(target=send, daemon=True).start()
        return ours, b""

    def is_whole(self, container: str, size: int, bound: int) -> bool:
        self.sizes.append(size)
        return size < bound


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A log with all lines on stdout, and nothing on stderr."""
    return logged(tmp_path, b"".join(LINES))


def logged(folder: Path, content: bytes) -> str:
    """A log with this on stdout."""
    writer = LogWriter.create(str(folder / "LOG"), 1 << 16)
    writer.append(0, content)
    writer.close(complete=False)
    return str(folder / "LOG")


def kept(lines: list[bytes]) -> bytes:
    return b"".join(frame(1, line) for line in lines)


def test_a_daemon_that_is_behind_is_asked_again(file: str) -> None:
    """Without that, the bytes that it had not kept yet would come twice."""
    daemon = Daemon(kept(LINES[:700]), kept(LINES[:900]), kept([*LINES, b"more\n"]))
    out, err = starts(daemon, "job", file, FULL)
    assert (out.skip, out.is_sure) == (len(b"".join(LINES)), True)
    assert b"".join(LINES).endswith(out.anchor) and out.anchor
    assert err == Start(0)
    assert daemon.asked == 3


def test_bytes_that_a_killed_daemon_lost_do_not_come_any_more(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "_CATCH_UP_SECONDS", 0.2)
    out, _ = starts(Daemon(kept(LINES[:700])), "job", file, FULL)
    assert out == Start(len(b"".join(LINES[:700])))


@pytest.mark.parametrize("at_once", [1, 5, 1 << 16])
def test_a_log_is_as_large_however_it_arrives(file: str, at_once: int) -> None:
    """A log that reaches its size may have lost its beginning, and each entry counts once."""
    daemon = Daemon(kept(LINES), at_once=at_once)
    starts(daemon, "job", file, FULL)
    assert daemon.sizes == [sum(len(line) + ENTRY for line in LINES)]


@pytest.mark.parametrize("at_once", [100, 1 << 16])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_log_without_its_beginning_continues_after_its_last_known_bytes(
    tmp_path: Path, at_once: int, times: int
) -> None:
    """Bytes that stand there more than once leave a doubt."""
    lines = [b"%d\n" % number for number in range(2000, 5000)]
    known = lines[500:]
    full = sum(len(line) + ENTRY for line in known)
    daemon = Daemon(kept([*(known * times), b"more\n"]), at_once=at_once)
    out, _ = starts(daemon, "job", logged(tmp_path, b"".join(lines)), full)
    assert (out.skip, out.is_sure) == (times * len(b"".join(known)), times == 1)


def test_a_flood_of_empty_lines_costs_little_more_than_taking_it_apart(tmp_path: Path) -> None:
    """Each line of the daemon's log is a frame, and the search once cost thousands of bytes for each."""
    file, flood = logged(tmp_path, b"\n" * (1 << 15)), frame(1, b"\n") * 200_000
    begun = time.thread_time()
    for _ in stream.Frames().feed(flood):
        pass
    apart = time.thread_time() - begun
    starts(Daemon(flood), "job", file, FULL)
    assert time.thread_time() - begun - apart < 6 * apart


WRITTEN = b"".join(LINES)
LATER = [b"later %d\n" % number for number in range(2000)]
AFTER = {
    "nothing came": (WRITTEN, b"", b""),
    "the daemon kept all": (WRITTEN, WRITTEN[-5000:], b""),
    "all of a few bytes": (WRITTEN, LINES[-1], b""),
    "it lacks the end": (WRITTEN, WRITTEN[-5000:] + b"more\n", b"more\n"),
    "it lacks the end, and little came before": (WRITTEN, LINES[-1] + b"more\n", LACKING + b"more\n"),
    "it lacks what came before, too": (WRITTEN, b"more\n", LACKING + b"more\n"),
    "it has nothing": (b"", b"more\n", LACKING + b"more\n"),
    "in the middle of a line": (WRITTEN + b"half", b"more\n", b"\n" + LACKING + b"more\n"),
    "the same again and again": (b"same\n" * 5000, b"same\n" * 9000, b""),
    "bytes were missing before": (WRITTEN + MISSING + LINES[7], LINES[7], b""),
}


@pytest.mark.parametrize("case", AFTER)
def test_what_follows_the_daemons_log(case: str) -> None:
    written, tail, expected = AFTER[case]
    assert backlog.after(written[-backlog.ANCHOR :], tail) == expected


@pytest.mark.parametrize(("kept_lines", "doubt"), [(0, LACKING), (1, LACKING), (1500, b""), (2000, b"")])
def test_the_end_that_a_slow_daemon_drops_is_not_lost(tmp_path: Path, kept_lines: int, doubt: bytes) -> None:
    """A worker takes over a job, whose last lines the daemon does not keep: it closes its log 10 s after the end.

    With hardly a line in common, there is a doubt whether others came between.
    """
    file, key = logged(tmp_path, WRITTEN), JobKey("1-owner")
    job, daemons = socket.socketpair()

    class Slow(Daemon):
        def beside(self, container: str) -> tuple[socket.socket, bytes]:
            return job, b""

    status = JobStatus(JobState.ENDED, Exit(0, False, 0.0, time.time()))
    copies = LogCopies(Slow(kept([*LINES, *LATER[:kept_lines]])), lambda key: status)
    copies.resume(key, file, 1 << 16)
    with daemons:
        daemons.sendall(kept(LATER))
    copies.finish(key, file, 1 << 16, time.time())
    with log_file.opened(file) as reader:
        whole = b"".join(log_file.remains(reader, reader.header(), log_file.kept(reader, reader.header(), 0)))
    assert whole == WRITTEN + b"".join(LATER[:kept_lines]) + doubt + b"".join(LATER[kept_lines:])


def test_threads_may_ask_at_a_time_whether_the_daemon_has_ended() -> None:
    """Two at a time got Python's "concurrent poll() invocation", which failed a task."""
    ours, daemons = socket.socketpair()
    with daemons, ThreadPoolExecutor(8) as pool:
        presence = Presence(ours)
        assert not any(pool.map(lambda _: any(presence.has_ended() for _ in range(2000)), range(8)))
    assert presence.has_ended()
