"""Reading outputs while something exchanges them between the look and the read, and names that are no outputs."""

from __future__ import annotations

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
