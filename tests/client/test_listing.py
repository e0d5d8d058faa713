"""``c2d list`` and ``c2d status`` for people: what ran, how long, and how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.site import COMPUTE, HOME, TrialSite

import compute_to_data as c2d
from compute_to_data.cli.listing import why
from compute_to_data.cli.main import main
from compute_to_data.client import finding, task_rows
from compute_to_data.client.session import connect
from compute_to_data.client.task_status.wording import ago, duration, short_ids
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.records.state import State

UUIDS = ["3f2a77b0-0000-4000-8000-00000000000a", "3f2a77b0-0000-4000-8000-00000000000b"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "just now"),
        (1, "1 second ago"),
        (59.9, "59 seconds ago"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (86400 * 13, "1 week ago"),
        (86400 * 800, "2 years ago"),
    ],
)
def test_times_are_relative(seconds: float, said: str) -> None:
    assert ago(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.04 s"),
        (3.42, "3.4 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86400 + 3600 * 4, "1 d 4 h"),
    ],
)
def test_durations_have_two_units(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_ids_are_as_short_as_the_others_allow() -> None:
    other = "99999999-0000-4000-8000-000000000000"
    found = short_ids([*UUIDS, other, "nightly"])
    assert found[other] == "99999999"
    assert found["nightly"] == "nightly", "a user chose it"
    assert found[UUIDS[0]] == UUIDS[0] and found[UUIDS[1]] == UUIDS[1], "they differ in the last character only"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [("nonzero_exit", 3, "exit status 3"), ("walltime_exceeded", None, "walltime exceeded"), ("completed", 0, "")],
)
def test_a_reason_in_two_words(code: str, status: int | None, said: str) -> None:
    assert why(code, status) == said


def test_the_list_says_what_ran_and_how_it_ended(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.run(site.request("/bin/sh", "-c", "exit 3", name="fails"), task_id="first")
    site.run(site.request("/bin/sh", "-c", "echo x > /outputs/x", name="filter-1"))
    waiting = site.submit(site.request("/bin/echo", "$${HOME}"))

    def listed(*words: str) -> str:
        assert main(["list", *words]) == 0
        return capsys.readouterr().out

    for few in (finding._FEW, 0):  # facts of each task, or facts of all tasks
        monkeypatch.setattr(finding, "_FEW", few)
        newest, filtered, failed = listed().splitlines()[1:]
        assert newest.startswith(f"{waiting.task_id[:8]}  ") and "/bin/echo '${HOME}'" in newest
        assert "COMPLETED" in filtered and "filter-1" in filtered and " s  " in filtered
        assert failed.startswith("first  ") and "exit status 3" in failed and "/bin/sh -c 'exit 3'" in failed
        exact = json.loads(listed("--output", "json"))
        assert [one["exit_status"] for one in exact] == [None, 0, 3]
        assert exact[0]["task_id"] == waiting.task_id and exact[2]["ended"] > exact[2]["created"]
    raw = listed("--output", "raw").splitlines()[0].split("\t")
    assert raw[0] == waiting.task_id and len(raw) == 6
    assert [one.split()[0] for one in listed("--name", "fails").splitlines()[1:]] == ["first"]
    assert len(listed("--name", "fil*").splitlines()) == 2


@pytest.mark.parametrize("option", ["--limit", "--offset"])
def test_more_than_any_zone_has(own_files: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(["list", option, "9" * 30]) == 0
    assert "internal error" not in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "more"), [("1", True), ("2", False), ("3", False)])
def test_the_list_says_only_then_that_there_are_more(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str], limit: str, more: bool
) -> None:
    for _ in range(2):
        site.submit(site.request("true"))
    assert main(["list", "--limit", limit]) == 0
    assert ("There are more" in capsys.readouterr().err) is more


def test_the_status_begins_with_a_sentence(
    site: TrialSite, own_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = site.run(site.request("/bin/sh", "-c", "cd /outputs; touch a b c"), task_id="done")
    site.run(site.request("/bin/sh", "-c", "echo wrong >&2; exit 3"), task_id="failed")
    site.submit(site.request("true"), task_id="queued")

    def first_line(task: str) -> str:
        assert main(["status", task]) == 0
        return capsys.readouterr().out.splitlines()[0]

    assert first_line("done").startswith("Completed ")
    assert first_line("done").endswith(f" s on dsp_resc; 3 results in {done['collection']}")
    assert "on dsp_resc: program: exited with status 3" in first_line("failed")
    assert first_line("queued").startswith("Queued for ") and "it is next" in first_line("queued")
    assert main(["status", "done", "--output", "raw"]) == 0
    assert capsys.readouterr().out.startswith("task_id\tdone\n")


def test_tasks_are_chosen_by_name_in_python(site: TrialSite, own_files: Path) -> None:
    site.submit(site.request("true", name="a"))
    site.submit(site.request("true", name="b"))
    with connect() as session:
        assert [one.name for one in session.tasks(name="b")] == ["b"]
        assert session.tasks(name="b")[0].runs == "true"
        assert session.tasks(since=time.time() + 60) == []
        assert session.home == HOME


class TestAFilterOfNames:
    """A site with tasks of two names in turn, and questions that are counted."""

    @pytest.fixture
    def session(self, site: TrialSite, own_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[c2d.Session]:
        with connect() as session:
            for number in range(6):
                role = "CONTAINER" if number < 4 else "OTHER"
                collection = f"{HOME}/out/task-{number}"
                session.catalog.create_collection(collection)
                facts = {"state": "COMPLETED", "role": role, "name": f"{'ab'[number % 2]}-{number}"}
                named = site.configuration.attributes.named
                avus = [Avu(named(name), value, COMPUTE if name == "state" else "") for name, value in facts.items()]
                session.catalog.annotate(Entity(EntityKind.COLLECTION, collection), add=avus)
            yield session

    @pytest.mark.parametrize(
        ("chosen", "found"),
        [
            ({"name": "a-2"}, "2"),
            ({"name": "a-*"}, "420"),
            ({"name": "*-3"}, "3"),
            ({"name": "[b]-?"}, "531"),
            ({"name": "a-*", "role": "CONTAINER"}, "20"),
            ({"role": "OTHER"}, "54"),
            ({"name": "a"}, ""),
            ({"name": "*", "states": (State.QUEUED,)}, ""),
            ({"name": "*", "states": (State.COMPLETED, State.QUEUED)}, "543210"),
        ],
    )
    def test_what_it_admits(
        self, session: c2d.Session, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any], found: str
    ) -> None:
        for window in (500, 1, 2):  # all in one window, or in several
            monkeypatch.setattr(task_rows, "_FIRST_WINDOW", window)
            listed = [one.task_id[-1] for one in session.tasks(**chosen)]
            assert "".join(listed) == found
            parts = [session.tasks(**chosen, limit=1, offset=place) for place in range(7)]
            assert "".join(one.task_id[-1] for part in parts for one in part) == found

    def test_a_page_reads_only_the_newest(self, session: c2d.Session, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(task_rows, "_FIRST_WINDOW", 2)
        read: list[int] = []

        def query(original: Any, asked: Query) -> Any:
            answer = original(asked)
            read.append(len(answer))
            return answer

        monkeypatch.setattr(session, "catalog", Troubled(session.catalog, query=query))
        assert [one.name for one in session.tasks(name="*b*", limit=1)] == ["b-5"]
        assert read == [2, 1]
