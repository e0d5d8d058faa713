"""A checkpoint is read back as it was written, a file that does not fit counts for nothing, and each
checkpoint has its resume point."""

from __future__ import annotations

import json
import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from compute_to_data.errors import OutOfReach, ReasonCode
from compute_to_data.job import Exit
from compute_to_data.pipeline.checkpoint import (
    Checkpoint,
    EndedStep,
    Ending,
    Moment,
    ResumePoint,
    required,
    resume_point,
)
from compute_to_data.pipeline.checkpoint_json import checkpoint_of, document_of
from compute_to_data.pipeline.journal import Journal
from compute_to_data.records.state import State

MADE = 1700000000.0
JOB = "task-1.0123"
EMPTY = Checkpoint(MADE, "0123456789abcdef")
STAGED = replace(EMPTY, staged=("/tempZone/home/alice/a", "/tempZone/home/alice/b"))
STARTED = replace(STAGED, attempt=2, image_digest="sha256:1f", began=Moment("boot", 12.5), live=True)
EXITED = replace(STARTED, exit=Exit(0, False, 10.0, 11.5))
BETWEEN = replace(
    STARTED, began=None, ended=(EndedStep(3, 10.0, 11.5, 4, 5), EndedStep(0, 12.0, 12.5, 0, 6)), between=True
)
MOVING = replace(EXITED, moving_to="archive")
MOVED = replace(EXITED, moved_to="archive")
CANCELLED = Ending(State.CANCELLED, ReasonCode.CANCELLED, "cancelled by alice#tempZone", -23000)
ENDING = replace(MOVED, ending=CANCELLED, exit_status="0")
ALL = {
    "empty": EMPTY,
    "staged": STAGED,
    "started": STARTED,
    "between": BETWEEN,
    "exited": EXITED,
    "moving": MOVING,
    "replaced": replace(EXITED, replacing=True),
    "ending": ENDING,
}

OF_THE_RELEASE_BEFORE = {
    "made": MADE,
    "token": "0123456789abcdef",
    "staged": ["/tempZone/home/alice/a", "/tempZone/home/alice/b"],
    "attempt": 2,
    "image_digest": "sha256:1f",
    "began": ["boot", 12.5],
    "live": True,
    "exit": [0, 10.0, 11.5],
    "moved_to": "archive",
    "ending": ["CANCELLED", "cancelled", "cancelled by alice#tempZone", -23000, "0"],
}


def _write(folder: Path, content: str) -> None:
    (folder / f"{JOB}.json").write_text(content, encoding="utf-8")


def _found(folder: Path, made: float | None = MADE) -> Checkpoint | None:
    return Journal(str(folder), JOB, made).found


# Reading and writing


@pytest.mark.parametrize("name", ALL)
def test_the_next_worker_reads_what_was_saved(tmp_path: Path, name: str) -> None:
    journal = Journal(str(tmp_path / "made with the first file"), JOB, MADE)
    journal.save(ALL[name])
    assert journal.checkpoint == ALL[name]
    assert _found(tmp_path / "made with the first file") == ALL[name]


def test_the_test_above_saves_every_field() -> None:
    for one in fields(Checkpoint):
        assert any(getattr(case, one.name) != one.default for case in ALL.values()), one.name


def test_a_file_of_the_release_before_is_understood(tmp_path: Path) -> None:
    _write(tmp_path, json.dumps(OF_THE_RELEASE_BEFORE))
    assert _found(tmp_path) == ENDING


def test_what_is_written_is_what_the_release_before_wrote() -> None:
    assert json.loads(json.dumps(document_of(ENDING))) == OF_THE_RELEASE_BEFORE


def test_values_that_are_left_out_today_are_understood(tmp_path: Path) -> None:
    """The release before wrote an attempt of 0 and an empty list."""
    _write(tmp_path, json.dumps({"made": int(MADE), "token": EMPTY.token, "attempt": 0, "staged": []}))
    assert _found(tmp_path) == EMPTY


def test_without_a_file_the_checkpoint_is_a_new_one_with_a_token_of_its_own(tmp_path: Path) -> None:
    first, second = Journal(str(tmp_path), JOB, MADE), Journal(str(tmp_path), JOB, MADE)
    assert first.found is second.found is None
    assert first.checkpoint == replace(EMPTY, token=first.checkpoint.token)
    assert first.checkpoint.token != second.checkpoint.token


def test_found_stays_what_the_earlier_attempt_left(tmp_path: Path) -> None:
    Journal(str(tmp_path), JOB, MADE).save(STAGED)
    journal = Journal(str(tmp_path), JOB, MADE)
    journal.save(STARTED)
    assert (journal.found, journal.checkpoint) == (STAGED, STARTED)


def test_a_checkpoint_of_another_collection_of_that_name_does_not_count(tmp_path: Path) -> None:
    Journal(str(tmp_path), JOB, MADE).save(EXITED)
    assert _found(tmp_path, MADE + 1) is None
    assert Journal(str(tmp_path), JOB, MADE + 1).checkpoint.token != EXITED.token
    assert _found(tmp_path, None) == EXITED, "whose collection is not asked"


@pytest.mark.parametrize("length", [0, 1, 20, 100])
def test_a_file_that_was_cut_off_does_not_count(tmp_path: Path, length: int, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, json.dumps(OF_THE_RELEASE_BEFORE)[:length])
    with caplog.at_level(logging.WARNING):
        assert _found(tmp_path) is None
    assert f"{JOB}.json" in caplog.text


DOES_NOT_FIT: list[tuple[str, Any]] = [
    ("made", None),
    ("made", "1700000000"),
    ("made", True),
    ("made", float("nan")),
    ("token", None),
    ("token", "../../../../etc/x"),
    ("token", "0123456789ABCDEF"),
    ("token", 7),
    ("staged", "/tempZone/home/alice/a"),
    ("staged", ["/tempZone/home/alice/a", 1]),
    ("staged", {}),
    ("attempt", "1"),
    ("attempt", 1.5),
    ("attempt", True),
    ("attempt", -1),
    ("image_digest", None),
    ("began", 12.5),
    ("began", ["boot"]),
    ("began", [12.5, "boot"]),
    ("began", ["boot", float("inf")]),
    ("live", 1),
    ("exit", 0),
    ("exit", [0, 10.0]),
    ("exit", ["0", 10.0, 11.5]),
    ("exit", [0, None, 11.5]),
    ("exit", None),
    ("moving_to", ["archive"]),
    ("moved_to", None),
    ("replacing", "yes"),
    ("ending", "CANCELLED"),
    ("ending", ["CANCELLED", "cancelled", "", 0]),
    ("ending", ["ENDED", "cancelled", "", 0, ""]),
    ("ending", ["RUNNING", "cancelled", "", 0, ""]),
    ("ending", ["CANCELLED", "bored", "", 0, ""]),
    ("ending", ["CANCELLED", "cancelled", None, 0, ""]),
    ("ending", ["CANCELLED", "cancelled", "", "0", ""]),
    ("ending", ["CANCELLED", "cancelled", "", 0, 0]),
    ("of_a_later_release", True),
]


@pytest.mark.parametrize(("name", "value"), DOES_NOT_FIT)
def test_a_file_with_a_field_that_does_not_fit_does_not_count(tmp_path: Path, name: str, value: Any) -> None:
    document = {**OF_THE_RELEASE_BEFORE, name: value}
    with pytest.raises(ValueError, match=f"^{name}: "):
        checkpoint_of(document)
    _write(tmp_path, json.dumps(document))
    assert _found(tmp_path) is None


@pytest.mark.parametrize("name", ["made", "token"])
def test_a_file_without_what_every_checkpoint_has_does_not_count(tmp_path: Path, name: str) -> None:
    _write(tmp_path, json.dumps({key: value for key, value in OF_THE_RELEASE_BEFORE.items() if key != name}))
    assert _found(tmp_path) is None


@pytest.mark.parametrize("document", [[], "text", 1, None])
def test_a_file_that_holds_no_object_does_not_count(tmp_path: Path, document: Any) -> None:
    _write(tmp_path, json.dumps(document))
    assert _found(tmp_path) is None


def test_a_checkpoint_that_cannot_be_saved_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), JOB, MADE)
    journal.save(STAGED)
    (tmp_path / f"{JOB}.json.draft").mkdir()  # no file can be written under that name
    with pytest.raises(OutOfReach, match=rf"{JOB}\.json: the worker cannot write the task's checkpoint"):
        journal.save(STARTED)
    assert journal.checkpoint == STAGED
    assert _found(tmp_path) == STAGED


# Where a task is taken up


POINTS: list[tuple[str, Checkpoint | None, State | None, ResumePoint]] = [
    ("no attempt began it", None, State.QUEUED, ResumePoint.FRESH),
    ("killed before the first checkpoint", None, State.STAGING_IN, ResumePoint.UNKNOWN),
    ("the file is lost while the job runs", None, State.RUNNING, ResumePoint.UNKNOWN),
    ("the file is lost while results are registered", None, State.STAGING_OUT, ResumePoint.UNKNOWN),
    ("the owner took the state away", None, None, ResumePoint.UNKNOWN),
    ("no input had to be staged", EMPTY, State.STAGING_IN, ResumePoint.STAGED),
    ("inputs were staged", STAGED, State.STAGING_IN, ResumePoint.STAGED),
    ("a stopping worker took the start back", replace(STARTED, attempt=0), State.RUNNING, ResumePoint.STAGED),
    ("killed between the checkpoint and the start", STARTED, State.STAGING_IN, ResumePoint.STARTED),
    ("the job was started", STARTED, State.RUNNING, ResumePoint.STARTED),
    ("killed before the state followed", EXITED, State.RUNNING, ResumePoint.EXITED),
    ("the outputs were accepted", EXITED, State.STAGING_OUT, ResumePoint.EXITED),
    ("results are being replicated", MOVING, State.STAGING_OUT, ResumePoint.MOVING),
    ("all results are on the receiving resource", MOVED, State.STAGING_OUT, ResumePoint.MOVED),
    ("what it replaced is being removed", replace(EXITED, replacing=True), State.STAGING_OUT, ResumePoint.REPLACED),
    ("the same after moving", replace(MOVED, replacing=True), State.STAGING_OUT, ResumePoint.REPLACED),
    ("cancelled before anything was staged", replace(EMPTY, ending=CANCELLED), State.STAGING_IN, ResumePoint.ENDING),
    ("cancelled while the job ran", replace(STARTED, ending=CANCELLED), State.RUNNING, ResumePoint.ENDING),
    ("failed after the results had moved", ENDING, State.STAGING_OUT, ResumePoint.ENDING),
    ("the owner wrote an early state", EXITED, State.QUEUED, ResumePoint.EXITED),
    ("the owner wrote a late state", STAGED, State.STAGING_OUT, ResumePoint.STAGED),
]


@pytest.mark.parametrize(("found", "state", "point"), [case[1:] for case in POINTS], ids=[case[0] for case in POINTS])
def test_resume_point(found: Checkpoint | None, state: State | None, point: ResumePoint) -> None:
    assert resume_point(found, state) is point


def test_every_resume_point_is_reached() -> None:
    assert {case[3] for case in POINTS} == {*ResumePoint}


def test_without_a_checkpoint_there_is_nothing_to_expect() -> None:
    assert [one for one in ResumePoint if not one.has_checkpoint] == [ResumePoint.FRESH, ResumePoint.UNKNOWN]


def test_a_job_that_has_exited_does_not_run_again() -> None:
    expected = [ResumePoint.EXITED, ResumePoint.MOVING, ResumePoint.MOVED, ResumePoint.REPLACED]
    assert [one for one in ResumePoint if one.has_exited] == expected


def test_a_field_that_the_resume_point_needs_is_there_or_the_error_names_it() -> None:
    assert required(EXITED.exit, "exit") == Exit(0, False, 10.0, 11.5)
    with pytest.raises(RuntimeError, match="has no exit"):
        required(STARTED.exit, "exit")
