"""The outputs directory of a warm sandbox, taken back after a task that changed it as no sandbox allows."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from compute_to_data.engines.docker.warm_outputs import LentOutputs

GET_FLAGS, SET_FLAGS, GET_ATTRIBUTES, SET_ATTRIBUTES = 0x80086601, 0x40086602, 0x801C581F, 0x401C5820
NO_DUMP = 0x40


def flag(directory: Path) -> None:
    folder = os.open(directory, os.O_RDONLY)
    try:
        value = struct.unpack("q", fcntl.ioctl(folder, GET_FLAGS, bytes(8)))[0]
        fcntl.ioctl(folder, SET_FLAGS, struct.pack("q", value | NO_DUMP))
    except OSError as error:
        pytest.skip(f"this file system has no inode flags ({error.strerror})")
    finally:
        os.close(folder)


def project(directory: Path) -> bool:
    """Give a directory a project id. False where the file system has none."""
    folder = os.open(directory, os.O_RDONLY)
    layout = struct.Struct("IIIII8x")
    try:
        value = list(layout.unpack(fcntl.ioctl(folder, GET_ATTRIBUTES, bytes(layout.size))))
        value[3] = 4242
        fcntl.ioctl(folder, SET_ATTRIBUTES, layout.pack(*value))
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY):
            raise
        return False
    finally:
        os.close(folder)
    return True


def attribute(directory: Path) -> None:
    os.setxattr(directory, "user.own", b"changed")


def mode(directory: Path) -> None:
    directory.chmod(0o777)


def length(directory: Path) -> None:
    names = [directory / f"{number:0200}" for number in range(900)]
    before = directory.stat().st_size
    for name in names:
        name.touch()
    for name in names:
        name.unlink()
    if directory.stat().st_size == before:
        pytest.skip("directories of this file system shrink again")


@pytest.fixture
def lent(tmp_path: Path) -> tuple[LentOutputs, Path]:
    """A sandbox's directory at the place of a task's outputs, where the task has written a file."""
    own, outputs = tmp_path / "area" / "outputs", tmp_path / "task"
    own.mkdir(parents=True)
    outputs.mkdir()
    os.setxattr(own, "user.own", b"first")
    area = LentOutputs(str(own.parent))
    area.lend(str(outputs))
    (outputs / "result").write_text("x")
    return area, outputs


def test_a_directory_as_it_was_is_taken_back(lent: tuple[LentOutputs, Path], tmp_path: Path) -> None:
    area, outputs = lent
    os.utime(outputs, (1, 1))
    assert area.take(str(outputs))
    assert [path.name for path in outputs.iterdir()] == ["result"]
    own = tmp_path / "area" / "outputs"
    assert list(own.iterdir()) == []
    assert min(own.stat().st_mtime, own.stat().st_atime) > 1, "the next task would see the times"


@pytest.mark.parametrize("change", [flag, attribute, mode, length])
def test_a_changed_directory_is_not_used_again(lent: tuple[LentOutputs, Path], change: Callable[[Path], None]) -> None:
    area, outputs = lent
    change(outputs)
    assert not area.take(str(outputs))
    assert [path.name for path in outputs.iterdir()] == ["result"]


def test_a_directory_with_another_project_id_is_not_used_again(lent: tuple[LentOutputs, Path]) -> None:
    """Where the file system has no project ids, no task can leave one, and the directory is used again."""
    area, outputs = lent
    assert area.take(str(outputs)) is not project(outputs)
