"""Users who follow a task read its live logs while it runs. Afterwards, nothing of the live logs is left."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions, Troubled, broken
from support.site import ALICE, WAITS, TrialSite, wait_until

from compute_to_data.client.log_overlap import new_output
from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, Query
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

FOLLOW = Avu("irods::compute_to_data::follow", "1")
LIVE = ("STDOUT.live.txt", "STDERR.live.txt")
UNTIL_GO = "while [ ! -e /outputs/go ]; do sleep 0.02; done"
TALKS = f"echo one; echo oops >&2; {UNTIL_GO}; echo two"


def follow(site: TrialSite, submitted: Submitted) -> None:
    site.alice.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[FOLLOW])


def live(site: TrialSite, submitted: Submitted, name: str = LIVE[0]) -> bytes:
    try:
        return site.alice.read(f"{submitted.collection}/{name}")
    except ComputeToDataError:
        return b""


def let_go(site: TrialSite, submitted: Submitted) -> None:
    vault = site.folder / "zone" / "vaults" / "dsp_resc" / submitted.collection[len("/tempZone/") :]
    (outputs,) = vault.glob("*/outputs")
    (outputs / "go").write_text("")


def check_nothing_remains(site: TrialSite, submitted: Submitted) -> None:
    assert not set(LIVE) & set(site.contents(submitted.collection))
    assert site.leftovers(submitted) == []
    assert audit(str(site.folder / "zone")) == []
    assert "follow" not in site.record(submitted).facts()


@pytest.mark.parametrize("end", ["", "; exit 3"], ids=["well", "badly"])
def test_live_logs_show_what_a_running_task_writes(site: TrialSite, end: str) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", TALKS + end))
    follow(site, submitted)
    with site.working():
        wait_until(lambda: live(site, submitted) == b"one\n", "the first line")
        assert live(site, submitted, LIVE[1]) == b"oops\n"
        found = site.alice.stat(f"{submitted.collection}/{LIVE[0]}")
        assert isinstance(found, DataObject)
        assert found.owner == ALICE
        let_go(site, submitted)
        facts = site.ended(submitted)
    assert facts["state"] == ("FAILED" if end else "COMPLETED")
    contents = site.contents(submitted.collection)
    assert (contents["STDOUT.txt"], contents["STDERR.txt"]) == (b"one\ntwo\n", b"oops\n")
    check_nothing_remains(site, submitted)


def test_a_user_may_begin_to_follow_later(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", TALKS))
    with site.working():
        wait_until(lambda: site.record(submitted).facts()["state"] == "RUNNING", "the job to run")
        time.sleep(0.6)  # time for two updates
        assert not set(LIVE) & set(site.contents(submitted.collection))
        follow(site, submitted)
        wait_until(lambda: live(site, submitted) == b"one\n", "the first line")
        let_go(site, submitted)
        assert site.ended(submitted)["state"] == "COMPLETED"
    check_nothing_remains(site, submitted)


def test_every_line_arrives_once_and_soon(site: TrialSite) -> None:
    site.configuration = site.configure(
        engine={"name": "process", "images": {"tools": str(site.folder / "tools")}},
        limits={"default": {"log_bytes": 2000}},
    )
    # The live logs have room for some 17 lines: the program continues when the test has read ten more.
    script = """
    i=0
    while [ $i -lt 40 ]; do
        i=$((i+1)); echo line $i $(date +%s.%N); head -c 80 /dev/zero | tr '\\0' .; echo; sleep 0.02
        [ $((i%10)) -ne 0 ] || while [ ! -e /outputs/read$i ]; do sleep 0.02; done
    done
    rm /outputs/read*
    """
    submitted = site.submit(site.request("/bin/sh", "-c", script))
    follow(site, submitted)
    seen, delays, lines = b"", [], b""
    with site.working():
        wait_until(lambda: live(site, submitted), "the first lines")
        (outputs,) = (site.folder / "zone" / "vaults" / "dsp_resc").rglob("outputs")
        while "line 40 " not in lines.decode():
            tail = live(site, submitted)
            new, seen = new_output(seen, tail), tail or seen
            lines += new
            for ten in range(10, 50, 10):
                if f"line {ten} ".encode() in new:
                    (outputs / f"read{ten}").touch()
            stamps = [
                line.split()[2] for line in new.split(b"\n") if line.startswith(b"line ") and line.count(b" ") == 2
            ]
            delays += [time.time() - float(stamp) for stamp in stamps]
            assert "failed_at" not in site.record(submitted).facts(), "the task exceeded its walltime"
            time.sleep(0.02)
        site.ended(submitted)
    lines += new_output(seen, site.contents(submitted.collection)["STDOUT.txt"])  # the end of the last line
    numbers = [int(line.split()[1]) for line in lines.split(b"\n") if line.startswith(b"line ")]
    assert numbers == list(range(1, 41))
    assert sorted(delays)[len(delays) // 2] < 1, "a busy machine may delay single lines (tests/benchmarks)"


def test_an_error_in_live_logs_does_not_fail_the_task(site: TrialSite, caplog: pytest.LogCaptureFixture) -> None:
    def trouble(register: Any, resource: str, files: Any) -> Any:
        if any(file.logical_path.endswith(LIVE) for file in files):
            broken()
        return register(resource, files)

    submitted = site.submit(site.request("/bin/sh", "-c", f"echo x > /outputs/x; echo one; {WAITS}; echo two"))
    follow(site, submitted)
    with (
        caplog.at_level(logging.WARNING),
        site.working(
            storage=StorageWithTroubledSessions(site.storage, register=trouble)  # type: ignore[arg-type]
        ),
    ):
        wait_until(lambda: any("cannot update its live logs" in one.message for one in caplog.records), "a warning")
        site.let_go(submitted)
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert site.contents(submitted.collection)["STDOUT.txt"] == b"one\ntwo\n"
    assert len([one for one in caplog.records if "cannot update its live logs" in one.message]) == 1
    check_nothing_remains(site, submitted)


def test_an_owners_data_object_with_that_name_stays(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", "echo one; sleep 0.6"))
    follow(site, submitted)
    site.alice.write(f"{submitted.collection}/{LIVE[0]}", b"my own")
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert site.contents(submitted.collection)[LIVE[0]] == b"my own"


@pytest.mark.parametrize("name", LIVE)
def test_outputs_cannot_have_the_names_of_live_logs(site: TrialSite, name: str) -> None:
    facts = site.run(site.request("/bin/sh", "-c", f"echo x > /outputs/{name}"))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "output_refused")


def test_without_followers_the_catalog_is_asked_once_a_second(site: TrialSite) -> None:
    questions: list[float] = []
    read: list[Entity] = []
    registered: list[str] = []

    def question(find: Any, query: Query) -> Any:
        if query.attribute == FOLLOW.attribute:
            questions.append(time.monotonic())
        return find(query)

    def reading(avus: Any, entity: Entity) -> Any:
        found = avus(entity)
        if any(avu.value == "RUNNING" for avu in found):
            read.append(entity)
        return found

    def register(original: Any, resource: str, files: Any) -> Any:
        registered.extend(file.logical_path for file in files)
        return original(resource, files)

    storage = StorageWithTroubledSessions(Troubled(site.storage, find=question), avus=reading, register=register)
    facts = site.run(site.request("/bin/sh", "-c", "echo one; sleep 2.5"), storage=storage)  # type: ignore[arg-type]
    assert facts["state"] == "COMPLETED"
    assert questions
    assert len(read) <= 2, "the worker reads the task's record only to change its state"
    assert all(later - earlier > 0.5 for earlier, later in zip(questions, questions[1:])), questions
    assert not any(path.endswith(LIVE) for path in registered)
