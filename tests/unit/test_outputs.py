"""Reading outputs while something exchanges them between the look and the read, and names that are no outputs."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.pipeline.vault import outputs, survey, workspace


def _written(place: Path) -> Path:
    """``outputs`` with three files, beside a secret in ``elsewhere``."""
    (place / "outputs" / "sub").mkdir(parents=True)
    for name in ("one", "sub/two", "three"):
        (place / "outputs" / name).write_text(name)
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "two").write_text("two")
    return place / "outputs"


def _to_link(top: Path) -> None:
    (top / "sub" / "two").unlink()
    (top / "sub" / "two").symlink_to("/etc/hostname")


def _to_linked_directory(top: Path) -> None:
    os.rename(top / "sub", top.parent / "gone")
    (top / "sub").symlink_to(top.parent / "elsewhere")


def _to_other_directory(top: Path) -> None:
    os.rename(top / "sub", top.parent / "gone")
    os.rename(top.parent / "elsewhere", top / "sub")


def _to_hard_link(top: Path) -> None:
    os.link(top / "sub" / "two", top.parent / "second")


def _to_fifo(top: Path) -> None:
    (top / "sub" / "two").unlink()
    os.mkfifo(top / "sub" / "two")


def _to_longer(top: Path) -> None:
    (top / "sub" / "two").write_text("longer than it was")


def _to_nothing(top: Path) -> None:
    (top / "sub" / "two").unlink()


EXCHANGES = [_to_link, _to_linked_directory, _to_other_directory, _to_hard_link, _to_fifo, _to_longer, _to_nothing]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_what_is_exchanged_between_look_and_read_is_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: Callable[[Path], None]
) -> None:
    top, look = _written(tmp_path), survey.survey

    def looked(directory: str, collection: str, **more: object) -> survey.Survey:
        found = look(directory, collection, **more)  # type: ignore[arg-type]
        exchange(top)
        return found

    monkeypatch.setattr(outputs, "survey", looked)
    found = outputs.left_behind(str(top), "/z/c", most_bytes=1000, most_files=10, look_at=20)
    assert [file.relative for file in found.files] == ["one", "three"]
    assert [refusal.name for refusal in found.refused] == ["sub/two"]


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_a_successful_task_fails_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: Callable[[Path], None]
) -> None:
    top, look = _written(tmp_path), survey.survey

    def looked(directory: str, collection: str, **more: object) -> survey.Survey:
        found = look(directory, collection, **more)  # type: ignore[arg-type]
        exchange(top)
        return found

    monkeypatch.setattr(outputs, "survey", looked)
    with pytest.raises(TaskFailed, match="sub/two") as caught:
        outputs.inventory(str(top), "/z/c", size_limit=1000, file_limit=10, reserved=frozenset())
    assert caught.value.reason is ReasonCode.OUTPUT_REFUSED


def test_the_smallest_files_are_kept_in_every_order(tmp_path: Path) -> None:
    for name, size in (("a", 60), ("b", 30), ("c", 30), ("d", 5), ("e", 0)):
        (tmp_path / name).write_bytes(bytes(size))
    for most_bytes, kept in ((1000, "abcde"), (124, "bcde"), (65, "bcde"), (64, "bde"), (34, "de"), (0, "e")):
        found = outputs.left_behind(str(tmp_path), "/z/c", most_bytes=most_bytes, most_files=10, look_at=20)
        assert "".join(file.relative for file in found.files) == kept, most_bytes
        assert len(found.refused) == 5 - len(kept)
    found = outputs.left_behind(str(tmp_path), "/z/c", most_bytes=1000, most_files=2, look_at=20)
    assert [file.relative for file in found.files] == ["d", "e"]


def test_more_entries_than_the_worker_looks_at(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number:02}").touch()
    found = outputs.left_behind(str(tmp_path), "/z/c", most_bytes=1000, most_files=30, look_at=20)
    assert [file.relative for file in found.files] == [f"{number:02}" for number in range(20)]
    assert "more than the 20 entries" in found.refused[-1].cause


def test_a_tree_of_empty_directories_counts(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"{number}").mkdir()
    with pytest.raises(TaskFailed, match="10 files"):
        outputs.inventory(str(tmp_path), "/z/c", size_limit=1000, file_limit=10, reserved=frozenset())


def test_more_directories_than_files_that_may_be_open(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}" / "below").mkdir(parents=True)
        (tmp_path / f"{number}" / "below" / "x").write_text("x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (150, hard))
    try:
        found = outputs.inventory(str(tmp_path), "/z/c", size_limit=1000, file_limit=1000, reserved=frozenset())
        outputs.still_there(str(tmp_path), found.files)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found.files) == 300


def test_all_but_the_kept_files_go(tmp_path: Path) -> None:
    top = _written(tmp_path)
    (top / "sub" / "link").symlink_to(tmp_path / "elsewhere")
    (top / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(top / "fifo")
    (top / "closed" / "deep").mkdir(parents=True)
    (top / "closed" / "deep" / "x").touch()
    (top / "closed").chmod(0)
    workspace.discard_all_but(str(top), ["sub/two"])
    assert [path.relative_to(top).as_posix() for path in sorted(top.rglob("*"))] == ["sub", "sub/two"]
    assert os.listdir(tmp_path / "elsewhere") == ["two"], "no link was followed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other accounts")
@pytest.mark.parametrize(("owner", "strange"), [(65534, 0), (65534, 1), (0, 65534)])
@pytest.mark.parametrize("name", ["one", "sub", "sub/two"])
def test_an_entry_of_another_account_is_no_output(tmp_path: Path, owner: int, strange: int, name: str) -> None:
    """For example a directory that the container runtime made as root."""
    top = _written(tmp_path)
    for path in (top, *top.rglob("*")):
        os.chown(path, owner, owner)
    assert survey.survey(str(top), "/z", most=10).refused == ()
    os.chown(top / name, strange, owner)
    found = survey.survey(str(top), "/z", most=10)
    assert found.refused == (survey.Refusal(name, f"belongs to uid {strange}, not to the task"),)
    assert name not in {file.relative for file in found.files}


# Several names of one file


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """Outputs with a file of 3 MiB, most of it a hole, under three names."""
    top = tmp_path / "run" / "outputs"
    (top / "sub").mkdir(parents=True)
    with (top / "a").open("wb") as file:
        file.write(b"begin")
        file.seek(3 << 20)
        file.write(b"end")
    (top / "a").chmod(0o640)
    os.utime(top / "a", (1, 2))
    for name in ("b", "sub/c"):
        os.link(top / "a", top / name)
    return top


def _inventory(top: Path, size_limit: int = 1 << 30) -> list[str]:
    found = outputs.inventory(str(top), "/z/c", size_limit=size_limit, file_limit=10, reserved=frozenset())
    outputs.still_there(str(top), found.files)
    assert len({file.checksum for file in found.files}) == 1
    return [file.relative for file in found.files]


def test_each_name_of_a_file_becomes_a_file_of_its_own(linked: Path) -> None:
    content, taken = (linked / "a").read_bytes(), (linked / "a").stat().st_blocks
    assert _inventory(linked) == ["a", "b", "sub/c"]
    found = [linked / name for name in ("a", "b", "sub/c")]
    status = [one.stat() for one in found]
    assert len({one.st_ino for one in status}) == 3
    assert {(one.st_nlink, one.st_mode & 0o777, one.st_mtime, one.st_uid) for one in status} == {
        (1, 0o640, 2, os.geteuid())
    }
    assert max(one.st_blocks for one in status) <= taken
    assert [one.read_bytes() for one in found] == [content] * 3
    assert _inventory(linked) == ["a", "b", "sub/c"]


def test_a_name_takes_no_more_than_its_size_shows(linked: Path) -> None:
    with (linked / "a").open("r+b") as file:
        os.truncate(file.fileno(), 5)
        for attribute in ("user.much", "user.more"):
            os.setxattr(file.fileno(), attribute, bytes(2000))
    assert _inventory(linked) == ["a", "b", "sub/c"]
    for name in ("a", "b", "sub/c"):
        assert os.listxattr(linked / name) == []
        assert (linked / name).stat().st_blocks * 512 <= 4096


def test_each_name_counts_before_anything_is_copied(linked: Path) -> None:
    with pytest.raises(TaskFailed) as caught:
        _inventory(linked, size_limit=2 * (linked / "a").stat().st_size)
    assert caught.value.reason is ReasonCode.OUTPUT_LIMIT
    assert (linked / "a").stat().st_nlink == 3


def test_a_file_with_a_name_elsewhere_is_no_output(linked: Path) -> None:
    os.link(linked / "a", linked.parent / "other")
    (linked / "good").write_text("x")
    with pytest.raises(TaskFailed, match="'a' has 4 hard links, of which 3 are in the outputs"):
        _inventory(linked)
    found = outputs.left_behind(str(linked), "/z/c", most_bytes=1 << 30, most_files=10, look_at=20)
    assert [file.relative for file in found.files] == ["good"]
    assert (linked.parent / "other").stat().st_nlink == 4


def test_of_a_failed_task_those_names_are_kept_that_fit(linked: Path) -> None:
    size = (linked / "a").stat().st_size
    found = outputs.left_behind(str(linked), "/z/c", most_bytes=2 * size, most_files=10, look_at=20)
    assert [file.relative for file in found.files] == ["a", "b"]
    assert [(linked / name).stat().st_nlink for name in ("a", "b", "sub/c")] == [1, 1, 1]


def test_names_that_there_was_no_time_to_copy_are_left_out(linked: Path) -> None:
    asked = iter([False, True, True, True])
    found = outputs.left_behind(
        str(linked), "/z/c", most_bytes=1 << 30, most_files=10, look_at=20, enough=lambda: next(asked, True)
    )
    assert "there was no time to copy it" in found.refused[0].cause
    assert sorted(os.listdir(linked)) == ["a", "b", "sub"]


def test_an_error_while_a_name_is_copied_changes_nothing(linked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(TaskFailed, match="'a': has 3 hard links, and cannot be copied"):
        _inventory(linked)
    assert (linked / "a").stat().st_nlink == 3
    assert sorted(os.listdir(linked)) == ["a", "b", "sub"]


@pytest.mark.parametrize("call", ["sendfile", "fchmod", "rename"])
def test_a_worker_that_is_killed_meanwhile_leaves_no_output(linked: Path, call: str) -> None:
    child = os.fork()
    if child == 0:
        setattr(os, call, lambda *_, **__: os._exit(3))
        _inventory(linked)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert len(os.listdir(linked)) == 4
    assert _inventory(linked) == ["a", "b", "sub/c"]
    assert sorted(os.listdir(linked)) == ["a", "b", "sub"]
