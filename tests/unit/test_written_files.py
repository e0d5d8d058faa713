"""Looks at the files of a directory are shared by those who ask at the same time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from compute_to_data.pipeline.vault import written_files
from compute_to_data.pipeline.vault.written_files import WrittenFiles, now

FUTURE = 4_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "dataset"
    (top / "a" / "b").mkdir(parents=True)
    for name in ("one", "a/two", "a/b/three", "ahead"):
        (top / name).write_text("x")
    os.utime(top / "ahead", (FUTURE, FUTURE))
    return top


def write(file: Path, after: int) -> None:
    """Until its time is later: a file system's clock ticks some hundred times a second."""
    while file.stat().st_mtime_ns <= after:
        file.write_text("y")


def test_what_is_written_to_since_a_moment(folder: Path, tmp_path: Path) -> None:
    files = WrittenFiles()
    files.begin(str(folder), str(tmp_path))
    moment = now(str(tmp_path))
    assert files.since(str(folder), moment) == []
    write(folder / "a" / "b" / "three", moment)
    assert files.since(str(folder), moment) == ["a/b/three"]
    later = (folder / "a" / "b" / "three").stat().st_mtime_ns
    assert files.since(str(folder), later) == []
    (folder / "ahead").write_text("y")
    write(folder / "ahead", moment)
    (folder / "one").unlink()
    assert sorted(files.since(str(folder), moment)) == ["a/b/three", "ahead"]


def test_a_moment_before_the_first_look(folder: Path, tmp_path: Path) -> None:
    moment = now(str(tmp_path))
    write(folder / "one", moment)
    files = WrittenFiles()
    files.begin(str(folder), str(tmp_path))
    assert files.since(str(folder), moment) == ["one"]


class Counted:
    """A lock that says how many have asked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.asked.release()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def test_those_who_ask_during_a_look_share_the_next_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = WrittenFiles()
    files.begin(str(folder), str(tmp_path))
    moment = now(str(tmp_path))
    lock = files._directories[str(folder)].lock = Counted()  # type: ignore[assignment]
    go_on, looks = threading.Event(), []
    original = written_files._modified

    def slow(directory: str) -> object:
        looks.append(directory)
        assert go_on.wait(60)
        return original(directory)

    monkeypatch.setattr(written_files, "_modified", slow)
    found: list[list[str]] = []
    askers = [threading.Thread(target=lambda: found.append(files.since(str(folder), moment))) for _ in range(5)]
    for one in askers:
        one.start()
    for _ in askers:
        assert lock.asked.acquire(timeout=60)
    write(folder / "one", moment)
    go_on.set()
    for one in askers:
        one.join(60)
    assert len(looks) == 2, "the first one's, and one for all the others"
    assert found == [["one"]] * 5
