"""The file in which an engine keeps what a job writes: read while it is written, and afterwards."""

from __future__ import annotations

import array
import os
import random
import threading
import time
from pathlib import Path

import pytest

from compute_to_data import log_file
from compute_to_data.client.task_logs.log_source import Times, start_of_last_lines
from compute_to_data.engines.log_writer import LogWriter, close
from compute_to_data.log_file import Header, Layout, LogReader, NotALog, Piece, gap_line, kept, opened, remains

STDOUT, STDERR = 0, 1


def remaining(file: str, stream: int = STDOUT) -> bytes:
    with opened(file) as reader:
        header = reader.header()
        return b"".join(remains(reader, header, kept(reader, header, stream)))


@pytest.mark.parametrize("bound", [1, 2, 3, 100, 5000, 400_000, 3_000_000])
def test_what_remains_is_all_or_both_ends(tmp_path: Path, bound: int) -> None:
    chance, whole, file = random.Random(bound), bytearray(), str(tmp_path / "LOG")
    writer = LogWriter.create(file, bound)
    assert os.stat(file).st_size == Layout(bound).size
    while len(whole) < 3_000_000:
        data = chance.randbytes(chance.randrange(1, 60_000))
        whole += data
        writer.append(STDOUT, data)
        if chance.random() < 0.5:
            writer.publish()
    writer.append(STDERR, b"e"[:bound])
    writer.close(complete=True)
    assert remaining(file, STDERR) == b"e"
    assert os.stat(file).st_size == Layout(bound).size, "the file never grows"
    with opened(file) as reader:
        header = reader.header()
        part = kept(reader, header, STDOUT)
    assert header.is_closed
    if len(whole) <= bound:
        assert remaining(file) == whole
        return
    first, last = bytes(whole[: part.first]), bytes(whole[part.last :])
    between = b"" if first.endswith(b"\n") or not first else b"\n"
    assert remaining(file) == first + between + gap_line(part.missing) + last
    assert len(first) + part.missing + len(last) == len(whole)
    assert bound // 4 - 1 <= len(first) <= bound // 2
    assert len(last) <= bound - bound // 2


def test_both_ends_are_cut_between_lines(tmp_path: Path) -> None:
    file = str(tmp_path / "LOG")
    writer = LogWriter.create(file, 1000)
    writer.append(STDOUT, b"%9d\n" * 300 % tuple(range(300)))
    writer.close(complete=True)
    lines = [b"%9d\n" % number for number in range(300)]
    assert remaining(file) == b"".join([*lines[:50], gap_line(2000), *lines[-50:]]), "no line too many is dropped"


def test_a_line_without_end_is_cut_anywhere(tmp_path: Path) -> None:
    file = str(tmp_path / "LOG")
    writer = LogWriter.create(file, 1000)
    writer.append(STDOUT, b"x" * 5000 + b"\n")
    writer.close(complete=True)
    assert remaining(file) == b"x" * 500 + b"\n" + gap_line(4001) + b"x" * 499 + b"\n"


def test_who_reads_while_it_is_written_gets_each_byte_or_knows_how_many_were_missed(tmp_path: Path) -> None:
    """The reader pauses now and then, so that the writer overtakes it. What it gets always stands at its offset."""
    file, size = str(tmp_path / "LOG"), 24_000_000
    whole = array.array("I", range(size // 4)).tobytes()
    writer = LogWriter.create(file, 100_000)

    def write() -> None:
        for start in range(0, size, 50_000):
            writer.append(STDOUT, whole[start : start + 50_000])
            writer.publish()
        writer.close(complete=True)

    thread = threading.Thread(target=write)
    chance, offset, missed = random.Random(1), 0, 0
    with opened(file) as reader:
        thread.start()
        while True:
            header = reader.header()
            piece = reader.read(header, STDOUT, offset, 700_000)
            offset += piece.missed
            missed += piece.missed
            assert piece.content == whole[offset : offset + len(piece.content)]
            offset += len(piece.content)
            if header.is_closed and not piece.content:
                break
            if chance.random() < 0.1:
                time.sleep(0.02)
    thread.join()
    assert offset == size
    assert missed < size


def test_a_writer_continues_where_another_was_killed(tmp_path: Path) -> None:
    file = str(tmp_path / "LOG")
    first = LogWriter.create(file, 1000)
    first.append(STDOUT, b"one ")
    first.publish()
    first.append(STDOUT, b"not counted, as when the writer is killed")
    with pytest.raises(BlockingIOError):
        LogWriter.reopen(file, 1000)
    os.close(first._descriptor)
    second = LogWriter.reopen(file, 1000)
    assert second.written == (4, 0)
    second.append(STDOUT, b"two")
    second.close(complete=True)
    assert remaining(file) == b"one two"
    second.append(STDOUT, b"too late")
    assert remaining(file) == b"one two"


@pytest.mark.parametrize(
    "content", [b"", b"x" * 10_000, random.Random(2).randbytes(5000)], ids=["empty", "text", "bytes"]
)
def test_a_file_that_is_no_log(tmp_path: Path, content: bytes) -> None:
    """As its owner could put there. A reader says so, and a writer begins again."""
    file = tmp_path / "LOG"
    file.write_bytes(content)
    with opened(str(file)) as reader, pytest.raises(NotALog):
        reader.header()
    assert not log_file.is_closed(str(file))
    close(str(file), 1000)
    assert remaining(str(file)) == b""
    assert log_file.is_closed(str(file))


def test_forged_counts_lead_nowhere(tmp_path: Path) -> None:
    """A writer that continues a log writes within the file, whatever its header says."""
    file = tmp_path / "LOG"
    LogWriter.create(str(file), 1000).close(complete=False)
    forged = Header(1000, 7, (1 << 60, 12345), False, 0.0, log_file.MARKS)
    with file.open("r+b") as opened_file:
        opened_file.write(forged.pack())
    writer = LogWriter.reopen(str(file), 1000)
    writer.append(STDOUT, b"x" * 3_000_000)
    writer.close(complete=True)
    assert file.stat().st_size == Layout(1000).size


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"precious")
    (tmp_path / "LOG").symlink_to(tmp_path / "elsewhere")
    for attempt in (LogWriter.create, LogWriter.reopen):
        with pytest.raises(OSError, match="symbolic"):
            attempt(str(tmp_path / "LOG"), 1000)
    assert (tmp_path / "elsewhere").read_bytes() == b"precious"


def test_a_full_disk_does_not_stop_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = LogWriter.create(str(tmp_path / "LOG"), 1000)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        writer.append(STDOUT, b"lost")
    writer.append(STDOUT, b"also lost: nothing may stand where other bytes belong")
    writer.close(complete=True)
    assert writer.problem is not None and writer.problem.errno == 28
    assert remaining(str(tmp_path / "LOG")) == b""


def test_times_say_when_each_byte_came(tmp_path: Path) -> None:
    file = str(tmp_path / "LOG")
    writer = LogWriter.create(file, 1 << 20)
    stamps = []
    for number in range(5):
        writer.append(STDOUT, b"%d\n" % number)
        writer.publish()
        stamps.append(time.time())
        time.sleep(0.03)
    with opened(file) as reader:
        times = Times(reader.marks(reader.header()))
    for number, stamp in enumerate(stamps):
        found = times.of(STDOUT, 2 * number)
        assert found is not None and abs(found - stamp) < 0.02
    assert times.of(STDOUT, 10) is None


def test_a_log_without_output_has_no_times(tmp_path: Path) -> None:
    """Nor has one that several workers wrote into, one after the other: its task would get a file with times."""
    file = str(tmp_path / "LOG")
    LogWriter.create(file, 1000).close(complete=False)
    LogWriter.reopen(file, 1000).close(complete=True)
    with opened(file) as reader:
        assert reader.header().is_closed
        assert reader.marks(reader.header()) == []


def test_a_table_of_times_that_is_full_becomes_coarser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    writer = LogWriter.create(str(tmp_path / "LOG"), 1000)
    for _ in range(10_000):
        now[0] += 1.0
        writer.append(STDERR, b"x")
        writer.publish()
    with opened(str(tmp_path / "LOG")) as reader:
        marks = reader.marks(reader.header())
        times = Times(marks)
    assert 1000 < len(marks) <= log_file.MARKS
    assert marks == sorted(marks)
    for byte in (0, 1, 4999, 9999):
        found = times.of(STDERR, byte)
        assert found is not None and 0 <= found - (1001.0 + byte) <= 8


class _Text:
    """A stream in memory, of which the source no longer has the first ``gone`` bytes."""

    def __init__(self, content: bytes, gone: int = 0) -> None:
        self._content, self._gone = content, gone

    def read(self, stream: int, offset: int) -> Piece:
        start = max(offset, self._gone)
        return Piece(start - offset, self._content[start : start + 50_000])

    def end(self, stream: int) -> int:
        return len(self._content)


@pytest.mark.parametrize(
    ("content", "count", "wanted"),
    [
        (b"a\nb\nc\n", 1, b"c\n"),
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\n", 9, b"a\nb\n"),
        (b"a\nb\n", 0, b""),
        (b"", 3, b""),
        (b"\n\n\n", 2, b"\n\n"),
        (b"x" * 300_000 + b"\nend", 1, b"end"),
        (b"y\n" + b"x" * 300_000, 1, b"x" * 300_000),
    ],
    ids=range(9),
)
def test_the_last_lines(content: bytes, count: int, wanted: bytes) -> None:
    assert content[start_of_last_lines(_Text(content), STDOUT, count) :] == wanted


def test_the_last_lines_as_far_as_they_are_still_there() -> None:
    content = b"".join(b"%06d\n" % number for number in range(100_000))
    assert start_of_last_lines(_Text(content, gone=350_000), STDOUT, 80_000) == 350_000


def test_a_reader_needs_few_reads() -> None:
    """Each is a question to a server far away."""
    reads = []

    def read(offset: int, size: int) -> bytes:
        reads.append((offset, size))
        return header.pack()[:size] if offset == 0 else b"x" * size

    header = Header(1 << 26, 1, (3 << 20, 0), False, 0.0, 1)
    reader = LogReader(read)
    assert len(reader.read(reader.header(), STDOUT, 0).content) == 1 << 20
    assert len(reads) == 3
