"""Workloads as people use them, on the command line and in Python, in real warm sandboxes."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.people import settings_of
from support.reference import documented
from support.site import PATIENCE, TrialSite

import compute_to_data as c2d
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.main import main
from compute_to_data.errors import InvalidRequest, NotFound, Refused

COLUMNS = ["TASK ID", "CMD", "OUTPUT ID", "STATUS", "CREATED"]
IMAGE = "compute-to-data/base:bookworm"


@pytest.fixture
def session(docker_answers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[c2d.Session]:
    """alice's session, while a worker runs."""
    site = TrialSite(tmp_path, {"name": "docker"}, IMAGE)
    config_file = tmp_path / "config.json"
    config_file.write_text(json.dumps(settings_of(site, "alice")), encoding="utf-8")
    monkeypatch.setenv("C2D_CONFIG_FILE", str(config_file))
    monkeypatch.setenv("C2D_SESSION_FILE", str(tmp_path / "session.json"))
    monkeypatch.delenv("C2D_PROJECT", raising=False)
    with site.working(), c2d.connect() as opened:
        yield opened


@pytest.fixture
def typed(session: c2d.Session, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run a command line as alice; returns its exit code and its JSON, or stderr when it failed."""

    def call(*words: str) -> tuple[int, Any]:
        capfdbinary.readouterr()
        code = main(["--output", "json", *words])
        out, err = capfdbinary.readouterr()
        return code, json.loads(out) if out else err.decode()

    return call


@pytest.fixture
def said(session: c2d.Session, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    """Run a command line as alice in a form of output; returns what it printed."""

    def call(form: str, *words: str) -> str:
        capfdbinary.readouterr()
        assert main(["--output", form, *words]) == 0
        return capfdbinary.readouterr().out.decode()

    return call


def test_a_day_with_a_workload(typed: Any, said: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "measurements"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.txt").write_text("first\nsecond\n")
    dataset = typed("dataset", "upload", str(folder))[1]["dataset"]
    code, started = typed("workload", "start", IMAGE, "--instances", "2", "--input-dataset", dataset, "--env", "K=V")
    workload = started["workload"]
    assert (code, set(started)) == (ExitCode.DONE, documented("`c2d workload start`"))

    counted = typed("task", "create", workload, "--wait", "--", "wc", "-l", "/input/deep/a.txt")[1]
    assert (counted["state"], counted["name"]) == ("COMPLETED", "wc -l /input/deep/a.txt")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe\n")))
    script = 'cat > /output/said; echo "$K" >> /output/said'
    piped = typed("task", "create", workload, "--stdin", "--wait", "--", "sh", "-c", script)[1]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hidden")))
    assert typed("secret", "create", "TOKEN")[0] == ExitCode.DONE
    words = ("--secret", "TOKEN", "--wait", "--", "wc", "-c", "/run/secrets/TOKEN")
    created = typed("task", "create", workload, *words)[1]
    assert typed("logs", created["task_id"])[1]["stdout"] == "6 /run/secrets/TOKEN\n"
    code, failed = typed("task", "create", workload, "--wait", "--", "sh", "-c", "echo > /output/lost; exit 3")
    assert (code, failed["state"]) == (ExitCode.PROGRAM_FAILED, "FAILED")

    listed = typed("task", "list", workload)[1]
    assert [one["task_id"] for one in listed] == [one["task_id"] for one in (failed, created, piped, counted)]
    assert [one["state"] for one in listed] == ["FAILED", *["COMPLETED"] * 3]
    assert typed("task", "describe", piped["task_id"][:8])[1]["state"] == "COMPLETED"
    assert set(listed[0]) == documented("`c2d task list`")
    rows = said("raw", "task", "list", workload).splitlines()
    assert rows[3].split("\t")[:4] == [
        counted["task_id"],
        "wc -l /input/deep/a.txt",
        counted["collection"],
        "COMPLETED",
    ]
    assert re.split(" {2,}", said("pretty", "task", "list", workload).splitlines()[0]) == COLUMNS
    assert typed("fetch", rows[3].split("\t")[2], str(tmp_path / "by output"))[0] == ExitCode.DONE
    described = typed("workload", "describe", workload[:6])[1]
    assert set(described) == documented("`c2d workload describe`")
    assert described["tasks"] == {"COMPLETED": 3, "FAILED": 1}
    assert described["request"]["environment"] == {"K": "V"}

    code, done = typed("workload", "download", workload, str(tmp_path / "results"))
    assert (code, set(done["folders"])) == (ExitCode.DONE, {one["task_id"] for one in listed})
    assert set(done) == documented("`c2d workload download`")
    results = tmp_path / "results"
    assert (results / piped["task_id"] / "said").read_text() == "from a pipe\nV\n"
    assert (results / counted["task_id"] / "STDOUT.txt").read_text() == "2 /input/deep/a.txt\n"
    assert not (results / failed["task_id"] / "lost").exists(), "outputs of a failed task are not kept"

    (only,) = typed("workload", "list")[1]
    assert (only["workload"], set(only)) == (workload, documented("`c2d workload list`"))
    assert typed("workload", "stop", workload) == (ExitCode.DONE, {"workload": workload, "cancelled": []})
    code, said = typed("task", "create", workload, "--", "true")
    assert code == ExitCode.REFUSED
    assert "was stopped" in said


def test_stopping_a_workload_cancels_unfinished_tasks(session: c2d.Session, typed: Any) -> None:
    workload = session.start_workload(IMAGE)
    running, waiting = workload.create_task(["sleep", "60"]), workload.create_task(["sleep", "60"])
    asked = typed("workload", "stop", workload.id)[1]["cancelled"]
    assert set(asked) == {running.id, waiting.id}
    assert [task.wait(PATIENCE).state.value for task in (running, waiting)] == ["CANCELLED", "CANCELLED"]


def test_one_of_its_tasks_can_be_stopped(session: c2d.Session, typed: Any) -> None:
    workload = session.start_workload(IMAGE)
    task = workload.create_task(["sleep", "60"])
    assert typed("task", "stop", task.id)[0] == ExitCode.DONE
    assert task.wait(PATIENCE).state.value == "CANCELLED"
    assert workload.create_task(["true"]).wait(PATIENCE).state.value == "COMPLETED", "the workload continues"


def test_a_refusal_names_the_object_and_the_remedy(session: c2d.Session, typed: Any) -> None:
    workload = session.start_workload(IMAGE)
    stdin = session.catalog.children(workload.collection)
    with pytest.raises(InvalidRequest, match="names no program"):
        workload.create_task([], stdin=b"x")
    (made,) = set(session.catalog.children(workload.collection)) - set(stdin)
    assert session.catalog.children(made.logical_path) == (), "its standard input was removed again"
    assert "c2d workload list" in typed("task", "list", "w-ffffffffffff")[1]
    with pytest.raises(NotFound, match="c2d dataset list"):
        session.start_workload(IMAGE, input_dataset="d-0123456789ab")
    with pytest.raises(Refused, match="allowed images"):
        session.start_workload("nosuch:1")
    for number in (1, 2):
        session.start_workload(IMAGE, workload_id=f"w-aa000000000{number}")
    with pytest.raises(InvalidRequest, match="several workloads match"):
        session.workload("w-aa")
    with pytest.raises(InvalidRequest, match="is not the collection of a workload"):
        session.workload(session.home)


@pytest.mark.parametrize("given", ["", "w", "w-", "w-f"])
def test_the_only_workload_is_not_meant_by_everything(session: c2d.Session, given: str) -> None:
    session.start_workload(IMAGE, workload_id="w-ffaa00000000")
    with pytest.raises(NotFound, match="does not exist"):
        session.workload(given)
    assert session.workload("w-ff").id == "w-ffaa00000000"


@pytest.mark.parametrize("command", ["echo hi", ["echo", 1], [b"echo"]])
def test_a_command_is_a_list_of_words(session: c2d.Session, command: Any) -> None:
    """A text is a sequence of words of one letter, too."""
    workload = session.start_workload(IMAGE)
    with pytest.raises(InvalidRequest, match="Give a list of words"):
        workload.create_task(command, stdin=b"x")
    with pytest.raises(InvalidRequest, match="Give a list of words"):
        session.map_files(IMAGE, command, dataset=session.home)
    assert [one.workload for one in session.workloads()] == [workload.id], "nothing was started"
    assert workload.tasks() == []


def test_standard_input_is_bytes(session: c2d.Session) -> None:
    workload: Any = session.start_workload(IMAGE)
    with pytest.raises(InvalidRequest, match=r"text.encode\(\)"):
        workload.create_task(["cat"], stdin="text")
    with pytest.raises(InvalidRequest, match='Open it with "rb"'):
        workload.create_task(["cat"], stdin=io.StringIO("text"))


def test_standard_input_can_be_a_file_that_is_read_to_its_end(session: c2d.Session) -> None:
    workload = session.start_workload(IMAGE)
    with open("/dev/null", "rb") as nothing:
        tasks = [workload.create_task(["wc", "-c"], stdin=file) for file in (io.BytesIO(b"1\n2\n"), nothing)]
    assert [(task.wait().state.value, task.logs().stdout) for task in tasks] == [
        ("COMPLETED", b"4\n"), ("COMPLETED", b"0\n")
    ]  # fmt: skip


def test_a_terminal_is_no_standard_input_to_send(
    session: c2d.Session, typed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = session.start_workload(IMAGE)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    code, said = typed("task", "create", workload.id, "--stdin", "--", "cat")
    assert (code, "standard input is the terminal" in said) == (ExitCode.REFUSED, True), said
    assert workload.tasks() == []
