"""What a directory takes from its file system, and programs that try to hide it or to hold the measurement."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compute_to_data import disk_usage
from compute_to_data.disk_usage import MAXIMUM_DEPTH, Usage

MIB = 1 << 20


def measure(
    directory: Path, *, most_bytes: int = 1 << 40, most_entries: int = 1 << 20, stop: Callable[[], bool] = lambda: False
) -> Usage:
    return disk_usage.measure(str(directory), most_bytes=most_bytes, most_entries=most_entries, stop=stop)


def test_a_sparse_file_counts_with_its_size(tmp_path: Path) -> None:
    os.truncate(os.open(tmp_path / "sparse", os.O_CREAT | os.O_WRONLY), 10 * MIB)
    assert measure(tmp_path) == Usage(10 * MIB, 1)


def test_blocks_beyond_the_end_of_a_file_count(tmp_path: Path) -> None:
    import ctypes

    keep_size = 1
    descriptor = os.open(tmp_path / "short", os.O_CREAT | os.O_WRONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    assert libc.fallocate(descriptor, keep_size, 0, 4 * MIB) == 0, os.strerror(ctypes.get_errno())
    assert os.fstat(descriptor).st_size == 0
    assert measure(tmp_path).size >= 4 * MIB


def test_empty_directories_count_with_their_blocks_and_as_entries(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).mkdir()
    allocated = sum(one.stat().st_blocks * 512 for one in tmp_path.iterdir())
    found = measure(tmp_path)
    assert found.entries == 50
    assert found.size >= allocated > 0


@pytest.mark.parametrize("kind", ["file", "directory", "top"])
def test_extended_attributes_count(tmp_path: Path, kind: str) -> None:
    there = {"file": tmp_path / "file", "directory": tmp_path / "directory", "top": tmp_path}[kind]
    if kind == "file":
        there.touch()
    there.mkdir(exist_ok=True) if kind == "directory" else None
    before = measure(tmp_path).size
    os.setxattr(there, "user.much", b"x" * 3000)
    assert measure(tmp_path).size >= before + 3000


def test_hard_links_count_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x" * MIB)
    os.link(tmp_path / "one", tmp_path / "other")
    assert measure(tmp_path) == Usage(MIB, 1)


def test_a_link_is_counted_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "large").write_bytes(b"x" * MIB)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "link").symlink_to(tmp_path / "elsewhere")
    found = measure(tmp_path / "outputs")
    assert found.entries == 1
    assert found.size < MIB


def test_a_directory_given_as_a_link_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    assert measure(tmp_path / "link") == Usage(0, 0, hidden=True)


def test_a_tree_that_is_too_deep_is_hidden(tmp_path: Path) -> None:
    deepest = tmp_path
    for _ in range(MAXIMUM_DEPTH + 1):
        deepest = deepest / "d"
        deepest.mkdir()
    assert measure(tmp_path).hidden
    assert not measure(tmp_path / "d").hidden


@pytest.mark.parametrize("most", [{"most_bytes": 1000}, {"most_entries": 10}])
def test_measuring_stops_above_a_limit(tmp_path: Path, most: dict[str, int]) -> None:
    for number in range(100):
        (tmp_path / str(number)).write_bytes(b"x" * 100)
    found = measure(tmp_path, **most)
    assert not found.is_whole
    assert found.entries <= 11


def test_measuring_stops_when_asked(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / str(number)).touch()
    found = measure(tmp_path, stop=lambda: True)
    assert not found.is_whole
    assert found.entries < 1000


@contextmanager
def moving(first: Path, second: Path) -> Iterator[None]:
    """While the block runs, a directory moves to and fro between two paths."""
    is_over = threading.Event()

    def move() -> None:
        while not is_over.is_set():
            os.rename(first, second)
            os.rename(second, first)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        yield
    finally:
        is_over.set()
        mover.join()


def test_a_directory_that_moves_ahead_does_not_hold_the_measurement(tmp_path: Path) -> None:
    places = [tmp_path / f"{number:03}" for number in range(200)]
    for place in places:
        place.mkdir()
    (places[0] / "moving").mkdir()
    for number in range(100):
        (places[0] / "moving" / str(number)).write_bytes(b"x")
    with moving(places[0] / "moving", places[-1] / "moving"):
        for _ in range(20):
            assert measure(tmp_path).entries <= 301


def test_what_a_program_moves_counts_once(tmp_path: Path) -> None:
    """The measurement has counted the file in the first directory when the program moves it to the second."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    for number in range(300):
        (first / str(number)).write_bytes(b"x" * 4096)
    asked = 0

    def move() -> bool:
        nonlocal asked
        asked += 1
        for one in [*first.iterdir()]:
            one.rename(second / one.name)
        return False

    found = measure(tmp_path, stop=move)
    assert asked
    assert found.entries <= 302
