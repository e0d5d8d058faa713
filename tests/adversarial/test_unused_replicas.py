"""Replicas that staging made go when they are unused. No user can have another replica trimmed instead."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled
from support.site import COMPUTE, HOME, WAITS, TrialSite, wait_until

from compute_to_data.model import Avu, DataObject, Entity, EntityKind, ReplicaStatus
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.pipeline.replication.staged_replicas import StagedReplicas
from compute_to_data.submission import workloads
from compute_to_data.worker import unused_replicas
from compute_to_data.worker.unused_replicas import UnusedReplicas

PATH = f"{HOME}/in/a"
BOTH, ELSEWHERE = {"demoResc", COMPUTE}, {"demoResc"}


class Rounds:
    """Rounds of trimming, one when a test says so, on a site whose worker trims nothing so soon."""

    def __init__(self, site: TrialSite) -> None:
        self.site = site
        self.served = site.worker()._served
        self.in_use = InUse()
        self.folder = Path(f"{self.served.journal_folder}.staged")
        self.staged = StagedReplicas(self.served.journal_folder)

    def trim(self, storage: Any = None, in_use: InUse | None = None) -> None:
        """One round, a year after the last use of each replica."""
        for one in self.notes():
            os.utime(one, (time.time() - 365 * 86400,) * 2)
        served = self.served
        if storage is not None:
            served = type(served)(**{**vars(served), "storage": storage})
        UnusedReplicas(served, self.staged, in_use or self.in_use).trim()

    def notes(self) -> list[Path]:
        return sorted(self.folder.glob("*")) if self.folder.exists() else []

    def replica(self) -> Path:
        """Where the replica of the input lies."""
        return Path(next(one.physical_path for one in _found(self.site).replicas if one.root == COMPUTE))


def _found(site: TrialSite) -> DataObject:
    found = site.alice.stat(PATH)
    assert isinstance(found, DataObject)
    return found


def _roots(site: TrialSite) -> set[str]:
    return {replica.root for replica in _found(site).replicas}


@pytest.fixture
def rounds(site: TrialSite) -> Rounds:
    """An input that a task has staged."""
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(PATH, b"content", resource="demoResc")
    assert site.run(site.request("/bin/true", inputs=[PATH]))["state"] == "COMPLETED"
    assert _roots(site) == BOTH
    return Rounds(site)


def test_an_unused_replica_goes(site: TrialSite, rounds: Rounds) -> None:
    (note,) = rounds.notes()
    place = rounds.replica()
    rounds.trim()
    assert _roots(site) == ELSEWHERE
    assert not place.exists()
    assert not note.exists()
    assert site.run(site.request("/bin/cat", "/inputs/a", inputs=[PATH]))["state"] == "COMPLETED"
    assert _roots(site) == BOTH


def test_the_worker_does_it_by_itself(site: TrialSite, rounds: Rounds) -> None:
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, worker={"staged_days": 1e-6})
    with site.working():
        wait_until(lambda: _roots(site) == ELSEWHERE, "the replica to be trimmed")
        assert site.ended(site.submit(site.request("/bin/true", inputs=[PATH])))["state"] == "COMPLETED"
        wait_until(lambda: _roots(site) == ELSEWHERE, "the replica to be trimmed again")


def test_it_stays_until_its_time(site: TrialSite, rounds: Rounds) -> None:
    with UnusedReplicas(rounds.served, rounds.staged, rounds.in_use):
        pass
    UnusedReplicas(rounds.served, rounds.staged, rounds.in_use).trim()
    assert _roots(site) == BOTH


def test_a_replica_that_was_there_before_stays(site: TrialSite, rounds: Rounds) -> None:
    """Also when a user writes into the catalog that the worker staged it."""
    rounds.trim()
    site.alice.replicate(PATH, COMPUTE)
    facts = site.run(site.request("/bin/true", inputs=[PATH]))
    staged = Avu(site.configuration.attributes.named("staged"), PATH)
    site.alice.annotate(Entity(EntityKind.COLLECTION, facts["collection"]), add=[staged])
    site.alice.annotate(Entity(EntityKind.DATA_OBJECT, PATH), add=[staged])
    rounds.trim()
    assert _roots(site) == BOTH


def test_a_stale_replica_that_staging_made_good_again_stays(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(PATH, b"old", resource="demoResc")
    site.alice.replicate(PATH, COMPUTE)
    site.alice.write(PATH, b"content", resource="demoResc", force=True)
    assert [one.root for one in _found(site).replicas if one.status is ReplicaStatus.STALE] == [COMPUTE]
    assert site.run(site.request("/bin/true", inputs=[PATH]))["state"] == "COMPLETED"
    Rounds(site).trim()
    assert _roots(site) == BOTH


def _other_replica(site: TrialSite) -> None:
    site.alice.trim(PATH, next(one.number for one in _found(site).replicas if one.root == COMPUTE))
    site.alice.replicate(PATH, COMPUTE)


def _other_object(site: TrialSite) -> None:
    site.alice.remove(PATH)
    site.alice.write(PATH, b"content", resource=COMPUTE)
    site.alice.replicate(PATH, "demoResc")


def _moved_there(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/other", b"content", resource=COMPUTE)
    site.alice.replicate(f"{HOME}/other", "demoResc")
    site.alice.remove(PATH)
    site.alice.rename(f"{HOME}/other", PATH)


def _other_content(site: TrialSite) -> None:
    site.alice.write(PATH, b"CONTENT", resource=COMPUTE, force=True)
    site.alice.replicate(PATH, "demoResc")


@pytest.mark.parametrize("change", [_other_replica, _other_object, _moved_there, _other_content])
def test_what_a_user_put_in_its_place_stays(site: TrialSite, rounds: Rounds, change: Any) -> None:
    change(site)
    assert _roots(site) == BOTH
    rounds.trim()
    assert _roots(site) == BOTH
    assert not rounds.notes(), "it is no more the worker's"


def test_the_last_good_replica_stays(site: TrialSite, rounds: Rounds) -> None:
    site.alice.trim(PATH, next(one.number for one in _found(site).replicas if one.root == "demoResc"))
    rounds.trim()
    assert _roots(site) == {COMPUTE}
    assert site.alice.read(PATH, 100) == b"content"


@pytest.mark.parametrize("given", [PATH, {"collection": f"{HOME}/in"}, {"next_of": f"{HOME}/in"}], ids=str)
def test_it_stays_while_a_task_waits_that_names_it(site: TrialSite, rounds: Rounds, given: Any) -> None:
    submitted = site.submit(site.request("/bin/true", inputs=[given]))
    rounds.trim()
    assert _roots(site) == BOTH
    with site.working():
        site.ended(submitted)
    rounds.trim()
    assert _roots(site) == ELSEWHERE


def test_it_stays_while_a_task_waits_for_another(site: TrialSite, rounds: Rounds) -> None:
    first = site.submit(site.request("/bin/true"))
    site.submit(site.request("/bin/true", inputs=[PATH], after=[first.collection]))
    rounds.trim()
    assert _roots(site) == BOTH


def test_it_stays_while_a_task_runs_and_a_worker_was_killed(site: TrialSite, rounds: Rounds) -> None:
    """The next worker has not yet begun to use it."""
    submitted = site.submit(site.request("/bin/sh", "-c", WAITS, inputs=[PATH]))
    with site.working():
        site.outputs(submitted)
        rounds.trim()
        assert _roots(site) == BOTH
        site.let_go(submitted)
        site.ended(submitted)


def test_it_stays_while_a_task_of_this_worker_uses_it(site: TrialSite, rounds: Rounds) -> None:
    with rounds.in_use.using([PATH]):
        rounds.trim()
    assert _roots(site) == BOTH


def test_a_dataset_of_a_workload_that_waits_stays(site: TrialSite, rounds: Rounds) -> None:
    workload = workloads.start(site.alice, site.configuration, HOME, image=site.image, dataset=f"{HOME}/in")
    workloads.create_task(site.alice, site.configuration, workload.collection, ["true"])
    rounds.trim()
    assert _roots(site) == BOTH


def test_the_dataset_of_a_workload_with_sandboxes_stays(site: TrialSite, rounds: Rounds) -> None:
    link = rounds.replica().with_name("link")
    os.link(rounds.replica(), link)
    rounds.trim()
    assert _roots(site) == BOTH
    link.unlink()
    rounds.trim()
    assert _roots(site) == ELSEWHERE


def test_too_many_tasks_that_have_not_ended(site: TrialSite, rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused_replicas, "_MOST_TASKS", 2)
    for _ in range(3):
        site.submit(site.request("/bin/true"))
    rounds.trim()
    assert _roots(site) == BOTH, "the worker does not read them all, so one may need it"


def test_a_record_that_no_worker_can_run_keeps_nothing(site: TrialSite, rounds: Rounds) -> None:
    site.alice.create_collection(f"{HOME}/junk")
    site.alice.write(f"{HOME}/junk/task.json", b"{")
    queued = Avu(site.configuration.attributes.state, "QUEUED", COMPUTE)
    site.alice.annotate(Entity(EntityKind.COLLECTION, f"{HOME}/junk"), add=[queued])
    rounds.trim()
    assert _roots(site) == ELSEWHERE


class Died(BaseException):
    """The worker is killed."""


@pytest.mark.parametrize("after", [False, True])
def test_a_worker_that_is_killed_while_it_trims(site: TrialSite, rounds: Rounds, after: bool) -> None:
    def killed(trim: Any, *given: Any) -> None:
        if after:
            trim(*given)
        raise Died

    with pytest.raises(Died):
        rounds.trim(Troubled(site.storage, trim=killed))
    assert _roots(site) == (ELSEWHERE if after else BOTH)
    rounds.trim()
    assert _roots(site) == ELSEWHERE
    assert not rounds.notes()


def test_a_note_that_a_crash_of_the_host_spoilt_keeps_the_replica(site: TrialSite, rounds: Rounds) -> None:
    (note,) = rounds.notes()
    note.write_text("")
    rounds.trim()
    assert _roots(site) == BOTH


def test_a_data_object_that_is_gone_is_forgotten(site: TrialSite, rounds: Rounds) -> None:
    site.alice.remove(PATH)
    rounds.trim()
    assert not rounds.notes()


def test_no_note_stays_of_a_replica_that_went_with_its_failed_task(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a", b"x", resource="demoResc")
    facts = site.run(site.request("/bin/sh", "-c", "exit 3", inputs=[f"{HOME}/a"]))
    assert facts["reason_code"] == "nonzero_exit"
    found = site.alice.stat(f"{HOME}/a")
    assert isinstance(found, DataObject)
    assert [one.root for one in found.replicas] == ["demoResc"]
    assert list((site.folder / "state").rglob("*.staged/*.json")) == []
