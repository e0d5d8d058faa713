"""Users who follow a task read its log while it runs. Afterwards, nothing of the live log is left."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any, cast

import pytest
from support.faults import StorageWithTroubledSessions, Troubled, broken
from support.reading import ENOUGH
from support.site import ALICE, WAITS, TrialSite, wait_until

from compute_to_data import log_file
from compute_to_data.errors import ComputeToDataError, NotFound
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, Query
from compute_to_data.ports.zone import ClientCatalog
from compute_to_data.submission.submit import Submitted
from compute_to_data.task import LIVE_LOG_NAME, LIVE_NAMES
from compute_to_data.zones.embedded.audit import audit

FOLLOW = Avu("irods::compute_to_data::follow", "1")
UNTIL_GO = "while [ ! -e /outputs/go ]; do sleep 0.02; done"
TALKS = f"echo one; echo oops >&2; {UNTIL_GO}; echo two"


def follow(site: TrialSite, submitted: Submitted) -> None:
    site.alice.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[FOLLOW])


def live(site: TrialSite, submitted: Submitted, stream: int = 0) -> bytes:
    """What a follower reads of a stream."""
    alice = cast("ClientCatalog", site.alice)
    try:
        with alice.open_to_read(f"{submitted.collection}/{LIVE_LOG_NAME}") as found:
            reader = log_file.LogReader(found.read)
            return reader.read(reader.header(), stream, 0).content
    except ComputeToDataError:
        return b""


def log_of(site: TrialSite, submitted: Submitted) -> Path:
    vault = site.folder / "zone" / "vaults" / "dsp_resc" / submitted.collection[len("/tempZone/") :]
    (log,) = vault.glob("*/LOG")
    return log


def let_go(site: TrialSite, submitted: Submitted) -> None:
    (log_of(site, submitted).parent / "outputs" / "go").write_text("")


def check_nothing_remains(site: TrialSite, submitted: Submitted) -> None:
    assert not set(LIVE_NAMES) & set(site.contents(submitted.collection))
    assert site.leftovers(submitted) == []
    assert audit(str(site.folder / "zone")) == []
    assert "follow" not in site.record(submitted).facts()


@pytest.mark.parametrize("end", ["", "; exit 3"], ids=["well", "badly"])
def test_live_logs_show_what_a_running_task_writes(site: TrialSite, end: str) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", TALKS + end))
    follow(site, submitted)
    with site.working():
        wait_until(lambda: live(site, submitted) == b"one\n", "the first line")
        assert live(site, submitted, 1) == b"oops\n"
        found = site.alice.stat(f"{submitted.collection}/{LIVE_LOG_NAME}")
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
        time.sleep(0.3)  # time to show the log
        assert not set(LIVE_NAMES) & set(site.contents(submitted.collection))
        follow(site, submitted)
        wait_until(lambda: live(site, submitted) == b"one\n", "the first line")
        let_go(site, submitted)
        assert site.ended(submitted)["state"] == "COMPLETED"
    check_nothing_remains(site, submitted)


def test_an_error_in_live_logs_does_not_fail_the_task(site: TrialSite, caplog: pytest.LogCaptureFixture) -> None:
    def trouble(register: Any, resource: str, files: Any) -> Any:
        if any(file.logical_path.endswith(LIVE_NAMES) for file in files):
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
        wait_until(lambda: any("cannot show its log" in one.message for one in caplog.records), "a warning")
        site.let_go(submitted)
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert site.contents(submitted.collection)["STDOUT.txt"] == b"one\ntwo\n"
    assert len([one for one in caplog.records if "cannot show its log" in one.message]) == 1
    check_nothing_remains(site, submitted)


def test_an_owners_data_object_with_that_name_stays(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", "echo one; sleep 0.6"))
    follow(site, submitted)
    site.alice.write(f"{submitted.collection}/{LIVE_LOG_NAME}", b"my own")
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert site.contents(submitted.collection)[LIVE_LOG_NAME] == b"my own"


@pytest.mark.parametrize("name", LIVE_NAMES)
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

    def reading(avus: Any, entity: Entity, *attributes: str, **options: Any) -> Any:
        if any(avu.value == "RUNNING" for avu in avus(entity)):
            read.append(entity)
        return avus(entity, *attributes, **options)

    def register(original: Any, resource: str, files: Any) -> Any:
        registered.extend(file.logical_path for file in files)
        return original(resource, files)

    storage = StorageWithTroubledSessions(Troubled(site.storage, find=question), avus=reading, register=register)
    facts = site.run(site.request("/bin/sh", "-c", "echo one; sleep 2.5"), storage=storage)  # type: ignore[arg-type]
    assert facts["state"] == "COMPLETED"
    assert questions
    assert len(read) <= 2, "the worker reads the task's record only to change its state"
    assert all(later - earlier > 0.5 for earlier, later in zip(questions, questions[1:])), questions
    assert not any(path.endswith(LIVE_NAMES) for path in registered)


def test_no_other_user_can_read_a_live_log(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", TALKS))
    follow(site, submitted)
    with site.working():
        wait_until(lambda: live(site, submitted), "the first line")
        bob = cast("ClientCatalog", site.bob)
        with pytest.raises(NotFound), bob.open_to_read(f"{submitted.collection}/{LIVE_LOG_NAME}"):
            pass
        assert log_of(site, submitted).stat().st_mode & 0o077 == 0
        let_go(site, submitted)
        site.ended(submitted)


@pytest.mark.parametrize("attack", ["rename", "replace", "overwrite", "remove"])
def test_an_owner_cannot_make_the_worker_write_elsewhere(site: TrialSite, attack: str) -> None:
    """What the owner does to the data object changes at most the owner's own log."""
    submitted = site.submit(site.request("/bin/sh", "-c", TALKS))
    follow(site, submitted)
    logical_path = f"{submitted.collection}/{LIVE_LOG_NAME}"
    site.alice.write("/tempZone/home/alice/mine", b"mine", resource="dsp_resc")
    with site.working():
        wait_until(lambda: live(site, submitted), "the first line")
        file = log_of(site, submitted)
        if attack == "overwrite":
            site.alice.write(logical_path, b"forged", force=True)
        elif attack == "remove":
            site.alice.remove(logical_path)
        else:
            site.alice.rename(logical_path, "/tempZone/home/alice/moved")
        if attack == "replace":
            site.alice.rename("/tempZone/home/alice/mine", logical_path)
        (file.parent / "outputs" / "go").write_text("")
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED"
    if attack in ("rename", "replace"):
        assert site.contents(submitted.collection)["STDOUT.txt"] == b"one\ntwo\n"
    mine = logical_path if attack == "replace" else "/tempZone/home/alice/mine"
    assert site.alice.read(mine, ENOUGH) == b"mine"


def test_a_job_cannot_reach_its_log(site: TrialSite) -> None:
    """The process engine isolates nothing, but even there the log is not in the job's directories."""
    submitted = site.submit(site.request("/bin/sh", "-c", f"ls -a /outputs /tmp; {UNTIL_GO}"))
    with site.working():
        wait_until(lambda: site.record(submitted).facts()["state"] == "RUNNING", "the job to run")
        assert log_of(site, submitted).name not in os.listdir(log_of(site, submitted).parent / "outputs")
        let_go(site, submitted)
        site.ended(submitted)
    assert b"LOG" not in site.contents(submitted.collection)["STDOUT.txt"]


def test_of_a_long_output_both_ends_are_kept_and_the_record_says_so(site: TrialSite) -> None:
    site.configuration = site.configure(limits={"default": {"log_bytes": 1000}})
    submitted = site.submit(site.request("/bin/sh", "-c", "seq 100000; echo oops >&2"))
    with site.working():
        facts = site.ended(submitted)
    whole = b"".join(b"%d\n" % number for number in range(1, 100_001))
    kept = site.contents(submitted.collection)["STDOUT.txt"]
    missing = int(facts["stdout_bytes_missing"])
    first, last = kept.split(log_file.gap_line(missing))
    assert whole.startswith(first) and whole.endswith(b"\n" + last)
    assert len(first) + missing + len(last) == len(whole)
    assert 450 < len(first) <= 500 and 450 < len(last) <= 500
    assert "stderr_bytes_missing" not in facts
