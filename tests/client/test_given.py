"""What a program may give to name things: ids, paths of ``pathlib``, and what earlier calls returned. Anything else is
named in an error, and nothing is submitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from support.site import HOME, TrialSite

import compute_to_data as c2d
from compute_to_data.client import datasets, processes, secrets, sharing, workloads
from compute_to_data.errors import InvalidRequest
from compute_to_data.records.state import State


@pytest.fixture
def task(site: TrialSite, session: c2d.Session) -> c2d.TaskHandle:
    return session.submit(site.request("true"))


def test_a_task_is_named_in_many_ways(session: c2d.Session, task: c2d.TaskHandle) -> None:
    entry = session.tasks()[0]
    for given in (task.id, task.id[:8], task.collection, PurePosixPath(task.collection), task, entry):
        assert session.task(given) == task
    assert {session.task(task.id), task} == {task}
    assert repr(session) == f"<Session of {session.user}, in {session.home}>"


@pytest.mark.parametrize("name", ["after", "list", "ids", "none"])
def test_what_a_task_waits_for(site: TrialSite, session: c2d.Session, task: c2d.TaskHandle, name: str) -> None:
    """A text was read as a list of its letters."""
    after: Any = {"after": task, "list": [task], "ids": (task.id,), "none": None}[name]
    waits = name != "none"
    assert session.submit(site.request("true"), after=after).state is (State.WAITING if waits else State.QUEUED)
    assert session.submit(site.request("true"), after=task.id).state is State.WAITING


def test_datasets_and_workloads(session: c2d.Session, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("a")
    sent = datasets.upload(session, tmp_path / "in")
    for given in (sent, datasets.listed(session)[0], PurePosixPath(sent.collection)):
        assert datasets.find(session, given) == sent.collection
        workload = session.start_workload("tools", input_dataset=given)
        assert workload.describe().workload.dataset == f"{sent.collection}/files"
    for found in (workload, session.workloads()[0], workload.id, PurePosixPath(workload.collection)):
        assert session.workload(found) == workload
    (tmp_path / "stdin").write_bytes(b"from a file")
    for stdin, content in ((bytearray(b"bytes"), b"bytes"), (tmp_path / "stdin", b"from a file")):
        path = workload.create_task(["cat"], stdin=stdin).recorded_request()["inputs"][0]["object"]
        assert session.catalog.read(path, 100) == content


def test_states_have_names(session: c2d.Session, task: c2d.TaskHandle) -> None:
    for states in ("QUEUED", ["QUEUED", "RUNNING"], State.QUEUED, (State.QUEUED,)):
        assert [one.task_id for one in session.tasks(states=states)] == [task.id]
    assert session.tasks(states="FAILED") == []


@pytest.mark.parametrize(
    ("call", "subject"),
    [
        (lambda s: s.task(None), "task"),
        (lambda s: s.task(5), "task"),
        (lambda s: s.workload(None), "workload"),
        (lambda s: s.absolute(None), "path"),
        (lambda s: s.use_project(5), "path"),
        (lambda s: s.tasks(limit=-1), "limit"),
        (lambda s: s.tasks(limit="5"), "limit"),
        (lambda s: s.tasks(offset=1.0), "offset"),
        (lambda s: s.tasks(states="DONE"), "states"),
        (lambda s: s.tasks(states=None), "states"),
        (lambda s: s.start_workload("tools", input_dataset=5), "input"),
        (lambda s: s.start_workload("tools", limits=[1]), "/limits"),
        (lambda s: s.start_workload("tools", environment=[("A", "B")]), "/environment"),
        (lambda s: s.map_files("tools", ["wc"], dataset=None), "input"),
        (lambda s: datasets.find(s, None), "dataset"),
        (lambda s: datasets.download(s, 5, "x"), "dataset"),
        (lambda s: datasets.upload(s, None), "dataset"),
        (lambda s: datasets.upload(s, 5), "dataset"),
        (lambda s: datasets.upload(s, b"a"), "dataset"),
        (lambda s: datasets.upload(s, [None]), "dataset"),
        (lambda s: datasets.upload(s, __file__, name=5), "the dataset's name"),
        (lambda s: processes.find(s, None), "process definition"),
        (lambda s: sharing.readers(s, None), "what it names"),
        (lambda s: secrets.create(s, "A", "a text"), "secret A"),
        (lambda s: secrets.create(s, "A", None), "secret A"),
        (lambda s: secrets.create(s, 5, b"v"), "secret"),
        (lambda s: secrets.delete(s, None), "secret"),
        (lambda s: workloads.start(s, "tools").create_task(["cat"], stdin=5), "stdin"),
        (lambda s: workloads.start(s, "tools").create_task(["cat"], environment=["A"]), "/environment"),
        (lambda s: workloads.start(s, "tools").create_task(["cat"], secrets=5), "secrets"),
    ],
)
def test_anything_else_is_named(session: c2d.Session, call: Callable[[c2d.Session], Any], subject: str) -> None:
    """Python's own error spoke of what is inside this package."""
    with pytest.raises(InvalidRequest) as refused:
        call(session)
    assert refused.value.subject == subject
    assert "found" in refused.value.cause


@pytest.mark.parametrize(
    "call",
    [
        lambda task: task.wait("5"),
        lambda task: task.wait(float("nan")),
        lambda task: task.fetch(None),
        lambda task: task.fetch(["a.txt"]),
        lambda task: task.fetch(directory=5),
        lambda task: task.files(None),
    ],
)
def test_so_it_is_with_a_task(task: c2d.TaskHandle, call: Callable[[c2d.TaskHandle], Any]) -> None:
    with pytest.raises(InvalidRequest, match="found"):
        call(task)


@pytest.mark.parametrize(
    "asked", [{"priority": "5"}, {"priority": True}, {"priority": 1.0}, {"task_id": 5}, {"after": 5}, {"after": [None]}]
)
def test_nothing_is_submitted(site: TrialSite, session: c2d.Session, asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        session.submit(site.request("true"), **asked)
    assert session.tasks() == []
    assert session.catalog.children(f"{HOME}/out") == ()
