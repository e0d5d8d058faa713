"""Full, read-only and lost disks; incomplete journals; a catalog that another process has locked."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recovery import test_crash_points as crashes
from support.crashes import Call, Fate
from support.disks import SmallDisk, small_disk
from support.faults import Troubled
from support.site import COMPUTE, HOME, WAITS, TrialSite, wait_until

from compute_to_data.coordination import lock
from compute_to_data.job import JobKey
from compute_to_data.pipeline import journal
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded import database
from compute_to_data.zones.embedded.audit import audit

BIG = 4_000_000
FULL = "No space left on device"


@pytest.fixture
def vault(site: TrialSite) -> Iterator[SmallDisk]:
    """The compute resource's vault is a disk of one megabyte."""
    with small_disk(site.folder / "zone" / "vaults" / COMPUTE, 1024) as disk:
        yield disk


def _works_again(site: TrialSite) -> None:
    facts = site.run(site.request("/bin/sh", "-c", "echo x > /outputs/x"))
    assert facts["state"] == "COMPLETED", facts


def _waiting(caplog: pytest.LogCaptureFixture, words: str) -> None:
    wait_until(lambda: any("waits" in one.getMessage() and words in one.getMessage() for one in caplog.records), words)


def test_a_program_that_fills_the_vault_fails_and_says_why(site: TrialSite, vault: SmallDisk) -> None:
    before = site.snapshot()
    submitted = site.submit(site.request("/bin/sh", "-c", f"head -c {BIG} /dev/zero > /outputs/big"))
    with site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "nonzero_exit")
    assert FULL in facts["reason"]
    assert site.leftovers(submitted) == []
    assert site.snapshot(without=submitted.collection) == before
    _works_again(site)


def test_an_input_that_does_not_fit_the_vault_fails_the_task(site: TrialSite, vault: SmallDisk) -> None:
    """There was room for it when the worker looked, and others have taken it since then."""
    site.alice.write(f"{HOME}/big", bytes(500_000), resource="demoResc")
    submitted = site.submit(site.request("/bin/true", inputs=[f"{HOME}/big"]))
    before = site.snapshot(without=submitted.collection)

    def full(replicate: Any, *given: Any) -> Any:
        vault.fill()
        return replicate(*given)

    with site.working(storage=Troubled(site.storage, replicate=full)):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    vault.make_room()
    assert (facts["state"], facts["reason_code"], facts["error_code"]) == ("FAILED", "system_error", "-510000")
    assert FULL in facts["reason"]
    assert site.snapshot(without=submitted.collection) == before
    assert audit(str(site.folder / "zone")) == []
    _works_again(site)


def test_the_workers_own_files_do_not_fit_the_vault(site: TrialSite, vault: SmallDisk) -> None:
    """The program fills the vault and succeeds. Its log is written when its outputs have been removed."""
    script = f"head -c {BIG} /dev/zero > /outputs/big 2>/dev/null; echo said; exit 0"
    submitted = site.submit(site.request("/bin/sh", "-c", script))
    with site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "system_error")
    assert f"vault of resource {COMPUTE}: the worker cannot write STDOUT.txt there ({FULL})" in facts["reason"]
    assert site.contents(submitted.collection)["STDOUT.txt"] == b"said\n"
    assert site.leftovers(submitted) == []
    _works_again(site)


def test_a_read_only_vault_fails_the_task(site: TrialSite, vault: SmallDisk) -> None:
    vault.protect()
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    for inputs in ([], [f"{HOME}/a"]):
        submitted = site.submit(site.request("/bin/true", inputs=inputs), output_collection=f"{HOME}/out")
        with site.working():
            facts = site.ended(submitted)
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "system_error")
        assert "Read-only file system" in facts["reason"]
    assert audit(str(site.folder / "zone")) == []


def test_a_full_state_directory_makes_tasks_wait(site: TrialSite, caplog: pytest.LogCaptureFixture) -> None:
    with small_disk(site.folder / "state", 256) as disk, site.working():
        tasks: list[Submitted] = []

        def one_waits() -> bool:
            disk.fill()  # again, since the worker may have removed a file of its own
            if not tasks or site.record(tasks[-1]).state() is State.COMPLETED:
                tasks.append(site.submit(site.request("/bin/sh", "-c", "echo x > /outputs/x")))
            return any("waits" in one.getMessage() and FULL in one.getMessage() for one in caplog.records)

        with caplog.at_level(logging.WARNING):
            wait_until(one_waits, FULL)
        submitted = tasks[-1]
        assert site.record(submitted).state() is State.STAGING_IN
        disk.make_room()
        facts = site.ended(submitted)
        assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
        assert site.contents(submitted.collection)["x"] == b"x\n"
    assert site.leftovers(submitted) == []


def test_a_locked_catalog_makes_tasks_wait(
    site: TrialSite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.2)
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; echo x > /outputs/x"))
    with site.working():
        site.outputs(submitted)
        other = sqlite3.connect(site.folder / "zone" / "zone.db", isolation_level=None)
        with contextlib.closing(other), caplog.at_level(logging.WARNING):
            other.execute("BEGIN EXCLUSIVE")
            site.let_go(submitted)
            _waiting(caplog, "database is locked")
            other.execute("COMMIT")
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
    assert site.contents(submitted.collection)["x"] == b"x\n"
    assert site.leftovers(submitted) == []
    assert audit(str(site.folder / "zone")) == []


def _notes_of(site: TrialSite, submitted: Submitted) -> Path:
    scope = lock.scope(site.configuration, "tempZone", COMPUTE)
    folder = journal.folder_of(site.configuration.worker.state_directory, scope)
    return Path(folder, f"{JobKey.of(scope, submitted.collection)}.json")


def _cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


LOSSES = {
    "cut off": _cut_off,
    "empty": lambda file: file.write_bytes(b""),
    "something else": lambda file: file.write_bytes(b"[1]"),
    "the folder is gone": lambda file: shutil.rmtree(file.parent),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_journal_costs_a_task_only_another_run(tmp_path: Path, loss: str) -> None:
    """The worker dies at each call that changes something, and the task's journal is lost, too."""
    for place in ("submit", "register", "annotate_all"):
        (tmp_path / place / "tools").mkdir(parents=True)
        engine = {"name": "process", "images": {"tools": str(tmp_path / place / "tools")}}
        site = TrialSite(tmp_path / place, engine, "tools")
        submitted = crashes._submit(site, crashes.WELL)
        crashes._die(site, submitted, Fate(Call(place, 1), after=True))
        LOSSES[loss](_notes_of(site, submitted))
        with site.working():
            facts = site.ended(submitted)
        assert facts["state"] == "COMPLETED", facts
        contents = site.contents(submitted.collection)
        assert set(contents) == {"task.json", "STDOUT.txt", "one", "sub/two", "ro-crate-metadata.json"}
        assert (contents["one"], contents["sub/two"], contents["STDOUT.txt"]) == (b"1\n", b"2\n", b"some input\n")
        assert audit(str(site.folder / "zone")) == []
        assert site.engine.jobs(site.worker()._served.scope) == ()
        if place != "submit":  # files that only the lost journal knew of stay; the catalog does not name them
            assert site.leftovers(submitted) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_journal_after_a_failed_task_was_kept(tmp_path: Path) -> None:
    """The next worker cannot know of what is below ``failed/``. It removes that, and runs the task again."""
    (tmp_path / "tools").mkdir()
    site = TrialSite(tmp_path, {"name": "process", "images": {"tools": str(tmp_path / "tools")}}, "tools")
    submitted = crashes._submit(site, crashes.BADLY)
    crashes._die(site, submitted, Fate(Call("annotate_all", 1), after=True))
    assert "failed/sub/two" in site.contents(submitted.collection)
    before = site.alice.stat(f"{submitted.collection}/failed").created
    _cut_off(_notes_of(site, submitted))
    with site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["kept"]) == ("FAILED", "2 files, 4 bytes, in failed/")
    assert site.alice.stat(f"{submitted.collection}/failed").created > before, "it is another collection"
    # A log that only the lost journal knew of stays; the catalog does not name it.
    assert not [one for one in site.leftovers(submitted) if one.endswith(("/one", "/two"))]
    assert audit(str(site.folder / "zone")) == []


@pytest.mark.docker
def test_a_lost_state_directory_costs_a_running_task_another_run(docker_answers: None, tmp_path: Path) -> None:
    site = TrialSite(tmp_path, {"name": "docker"}, "compute-to-data/base:bookworm")
    submitted = site.submit(site.request("/bin/sh", "-c", "sleep 1; echo x > /outputs/x"))
    with site.working():
        wait_until(lambda: site.engine.jobs(site.worker()._served.scope), "a job")
        wait_until(lambda: site.record(submitted).state() is State.RUNNING, "the task to run")
    shutil.rmtree(site.folder / "state")
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert site.contents(submitted.collection)["x"] == b"x\n"
    assert site.engine.jobs(site.worker()._served.scope) == ()
    assert audit(str(site.folder / "zone")) == []
