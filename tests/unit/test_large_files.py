"""Large files are read in turns, and holes are not read."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from support.site import PATIENCE, wait_until

from compute_to_data import large_files
from compute_to_data.large_files import BLOCK, Turns, add_file

PIECE = 8 << 20


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "file"


def digest_of(place: Path) -> tuple[str, int | None]:
    total = hashlib.sha256()
    descriptor = os.open(place, os.O_RDONLY)
    try:
        size = add_file(total, descriptor)
    finally:
        os.close(descriptor)
    return total.hexdigest(), size


@pytest.mark.parametrize(
    "size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + BLOCK + 7]
)
def test_a_file_is_read_to_its_end(place: Path, size: int) -> None:
    place.write_bytes(os.urandom(size))
    assert digest_of(place) == (hashlib.sha256(place.read_bytes()).hexdigest(), size)


@pytest.mark.parametrize("data_at", [[], [0], [3 * PIECE - 1], [PIECE + 5, 2 * PIECE + BLOCK], [2 * PIECE - 1]])
def test_a_file_with_holes_has_the_checksum_of_its_bytes(place: Path, data_at: list[int]) -> None:
    with place.open("wb") as file:
        file.truncate(3 * PIECE)
        for position in data_at:
            file.seek(position)
            file.write(b"x")
    assert digest_of(place) == (hashlib.sha256(place.read_bytes()).hexdigest(), 3 * PIECE)


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    real = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        block = real(descriptor, length, offset)
        found.append(len(block))
        return block

    monkeypatch.setattr(os, "pread", pread)
    return found


def test_a_hole_is_not_read(place: Path, bytes_read: list[int]) -> None:
    with place.open("wb") as file:
        file.truncate(8 * PIECE)
        file.seek(8 * PIECE - 1)
        file.write(b"x")
    digest_of(place)
    assert sum(bytes_read) <= PIECE + BLOCK


def test_where_the_file_system_knows_no_holes_all_is_read(
    place: Path, bytes_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.touch()
    os.truncate(place, 3 * PIECE)

    def unknown(*_: object) -> int:
        raise OSError(errno.EINVAL, "no holes here")

    monkeypatch.setattr(os, "lseek", unknown)
    assert digest_of(place)[1] == 3 * PIECE
    assert sum(bytes_read) == 3 * PIECE


def test_who_waits_longest_has_the_next_turn() -> None:
    turns, order = Turns(1), []

    def take(number: int) -> None:
        with turns.turn(lambda: None):
            order.append(number)

    threads = [threading.Thread(target=take, args=[number]) for number in range(5)]
    with turns.turn(lambda: None):
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda number=number: len(turns._waiting) == number, "it to wait")
        assert order == []
    for thread in threads:
        thread.join(PATIENCE)
    assert order == [0, 1, 2, 3, 4]
    with turns.turn(lambda: None):
        assert not turns._free


def test_who_is_told_to_stop_waits_no_longer_and_takes_no_turn_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    turns = Turns(1)
    with turns.turn(lambda: None):
        with pytest.raises(Stopped), turns.turn(stop):
            pytest.fail("it had no turn")
        with turns.turn(lambda: True):  # goes on without one
            pass
        assert not turns._waiting
    assert turns._free == 1


def test_a_disk_that_hangs_keeps_others_only_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_files, "_LONGEST_WAIT", 0.1)
    turns = Turns(1)
    with turns.turn(lambda: None), turns.turn(lambda: None):
        pass
    assert turns._free == 1


def test_threads_that_read_large_files_use_half_of_the_processors(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four threads, at most ``TURNS`` read at a time, once their files are large."""
    monkeypatch.setattr(large_files, "TURNS", Turns(1))
    place.touch()
    os.truncate(place, 4 * PIECE)
    lock, reading, most = threading.Lock(), 0, 0
    real = os.lseek

    def lseek(*given: int) -> int:
        nonlocal reading, most
        with lock:
            reading += 1
            most = max(most, reading)
        try:
            return real(*given)
        finally:
            with lock:
                reading -= 1

    monkeypatch.setattr(os, "lseek", lseek)
    threads = [threading.Thread(target=digest_of, args=[place]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert most == 1
