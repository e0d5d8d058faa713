"""What can happen to a job in Slurm, on a cluster of two nodes: each task has one true end, and no node keeps
anything."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from recovery import test_crash_points as crashes
from support.crashes import Call, Fate
from support.real_slurm import (
    NodeService,
    cluster,
    containers,
    drained,
    job_of,
    kill,
    kill_node,
    node_of,
    node_service,
    program_of,
    resume,
    slurm,
)
from support.site import BASE_IMAGE, WAITS, TrialSite, wait_until

from compute_to_data.engines.slurm.engine import SlurmEngine
from compute_to_data.engines.slurm.notes import Directory
from compute_to_data.job import Job, JobKey
from compute_to_data.ports.engine import RunningJob
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

PATIENCE = 120.0
LATE = Path(__file__).parents[1] / "support" / "late_node.py"


@pytest.fixture(params=["programs", "service"])
def service(request: pytest.FixtureRequest, slurm_answers: None, tmp_path: Path) -> Iterator[NodeService | None]:
    """The resident service of the nodes; None where each job has a program of its own."""
    if request.param == "programs":
        yield None
        return
    Directory(str(tmp_path / "shared")).make()
    with node_service(str(tmp_path / "shared")) as running:
        yield running


@pytest.fixture
def site(service: NodeService | None, tmp_path: Path) -> Iterator[TrialSite]:
    settings = {
        "name": "slurm",
        "directory": str(tmp_path / "shared"),
        "partition": "main",
        "poll_seconds": 0.5,
        "notes_seconds": 1.0,
        "service": service.socket if service is not None else "/nonexistent",
    }
    site = TrialSite(tmp_path, settings, BASE_IMAGE)
    site.engine.identify(BASE_IMAGE)  # a node lists its images, before a test drains it
    yield site
    cluster("start")
    scope = site.worker()._served.scope
    assert site.engine.jobs(scope) == ()
    wait_until(lambda: containers(scope) == [], "the nodes to remove all containers")
    left = [*(tmp_path / "shared" / "nodes").glob("*/running/*")]
    assert left == [], "notes of programs that no longer run"
    assert audit(str(tmp_path / "zone")) == []


def key_of(site: TrialSite, submitted: Submitted) -> JobKey:
    return JobKey.of(site.worker()._served.scope, submitted.collection)


def in_slurm(site: TrialSite, submitted: Submitted) -> str:
    """Slurm's id of a task's job, once it has one."""
    key = key_of(site, submitted)
    wait_until(lambda: job_of(key), "the job to be in Slurm")
    return job_of(key)


def running(site: TrialSite, submitted: Submitted) -> str:
    """Slurm's id of a task that WAITS, once it runs."""
    site.outputs(submitted)
    wait_until(lambda: site.record(submitted).state() is State.RUNNING, "the task to be RUNNING")
    return in_slurm(site, submitted)


def waiting_task(site: TrialSite, **more: object) -> Submitted:
    return site.submit(site.request("/bin/sh", "-c", f"{WAITS}; echo done > /outputs/result", **more))


def test_a_job_that_waits_in_the_partition_does_not_use_up_its_walltime(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true", limits={"walltime_seconds": 3}))
    with site.working():
        with drained("n1", "n2"):
            identity = in_slurm(site, submitted)
            since = time.monotonic()
            wait_until(lambda: time.monotonic() - since > 4, "the walltime to be over, if it were running")
            assert slurm("squeue", "--noheader", f"--jobs={identity}", "--format=%T").strip() == "PENDING"
            assert site.record(submitted).state() is State.STAGING_IN
        assert site.ended(submitted)["state"] == "COMPLETED"


def test_a_node_whose_clock_is_behind(site: TrialSite, tmp_path: Path) -> None:
    """The task has all of its walltime, although its node says that it began before it was submitted."""
    behind(site, tmp_path / "python", seconds=250)
    submitted = site.submit(site.request("/bin/sleep", "2", limits={"walltime_seconds": 20}))
    with site.working():
        with drained("n1", "n2"):
            in_slurm(site, submitted)
            since = time.monotonic()
            wait_until(lambda: time.monotonic() - since > 21, "the walltime to be over, if it were running")
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert facts["attempt"] == "1"


def behind(site: TrialSite, python: Path, seconds: int) -> None:
    """Let the programs of the nodes, and what they learn from Docker, have a clock that is behind."""
    python.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} -I {LATE} {seconds} "$@"\n')
    python.chmod(0o755)
    engine = site.engine
    assert isinstance(engine, SlurmEngine)
    engine._settings = replace(engine._settings, python=str(python), service="/nonexistent")


def test_a_job_that_an_administrator_holds(site: TrialSite) -> None:
    """It waits until it is released, as one that waits for a node."""
    submitted = site.submit(site.request("/bin/true"))
    with site.working():
        with drained("n1", "n2"):
            identity = in_slurm(site, submitted)
            slurm("scontrol", "hold", identity)
        assert slurm("squeue", "--noheader", f"--jobs={identity}", "--format=%T %r").startswith("PENDING JobHeld")
        assert site.record(submitted).state() is State.STAGING_IN
        slurm("scontrol", "release", identity)
        assert site.ended(submitted)["state"] == "COMPLETED"


def test_a_job_that_is_suspended(site: TrialSite) -> None:
    """Slurm stops what it has started, and not the container. The task ends when the job is resumed, or before."""
    submitted = waiting_task(site)
    with site.working():
        identity = running(site, submitted)
        slurm("scontrol", "suspend", identity)
        wait_until(lambda: slurm("squeue", "--noheader", f"--jobs={identity}", "--format=%T").strip() == "SUSPENDED",
                   "Slurm to suspend it")  # fmt: skip
        site.let_go(submitted)
        slurm("scontrol", "resume", identity)
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1")


def test_a_job_that_an_administrator_requeues(site: TrialSite) -> None:
    """Slurm allows that only for jobs that it may start again, and ours are none. ``engines/test_slurm.py`` has
    one that an administrator has made such a job."""
    submitted = waiting_task(site)
    with site.working():
        identity = running(site, submitted)
        with pytest.raises(subprocess.CalledProcessError):
            slurm("scontrol", "requeue", identity)
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1")


@pytest.mark.parametrize("waits", [False, True], ids=["while it runs", "while it waits"])
def test_a_job_that_an_administrator_cancels_in_slurm(site: TrialSite, waits: bool) -> None:
    submitted = waiting_task(site)
    with site.working():
        if waits:
            with drained("n1", "n2"):
                slurm("scancel", in_slurm(site, submitted))
        else:
            slurm("scancel", running(site, submitted))
        facts = site.ended(submitted)
    assert facts["state"] == "CANCELLED"
    assert "cancelled in Slurm" in facts["reason"]


def test_a_job_that_a_user_cancels_while_it_waits_in_slurm(site: TrialSite) -> None:
    from compute_to_data.model import Avu, Entity, EntityKind

    submitted = waiting_task(site)
    with site.working(), drained("n1", "n2"):
        identity = in_slurm(site, submitted)
        entity = Entity(EntityKind.COLLECTION, submitted.collection)
        site.alice.annotate(entity, add=[Avu("irods::compute_to_data::cancel", "alice#tempZone", submitted.resource)])
        facts = site.ended(submitted)
        assert slurm("squeue", "--noheader", f"--jobs={identity}", "--states=all", "--format=%T").strip() == "CANCELLED"
    assert (facts["state"], facts["reason"]) == ("CANCELLED", "task: cancelled by alice#tempZone.")


def test_a_job_beyond_its_time_limit_in_slurm(site: TrialSite) -> None:
    submitted = waiting_task(site)
    with site.working():
        identity = running(site, submitted)
        slurm("scontrol", "update", f"jobid={identity}", "EndTime=now")
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "walltime_exceeded")
    assert "time limit in Slurm" in facts["reason"]


def test_a_walltime_and_memory_that_run_out(site: TrialSite) -> None:
    eats = "import time; x = bytearray(400 << 20); time.sleep(60)"
    hungry = site.submit(site.request("/usr/bin/python3", "-c", eats, limits={"memory_bytes": 64 << 20}))
    slow = site.submit(site.request("/bin/sleep", "60", limits={"walltime_seconds": 1}))
    with site.working():
        assert site.ended(hungry)["reason_code"] == "out_of_memory"
        assert site.ended(slow)["reason_code"] == "walltime_exceeded"


def test_a_node_that_is_drained(site: TrialSite) -> None:
    """What runs there goes on, and the next job runs elsewhere."""
    first = waiting_task(site)
    with site.working():
        node = node_of(running(site, first))
        with drained(node):
            second = waiting_task(site)
            assert node_of(running(site, second)) not in ("", node)
            for one in (first, second):
                site.let_go(one)
                assert site.ended(one)["state"] == "COMPLETED"


@pytest.mark.long
def test_a_node_that_is_killed(site: TrialSite) -> None:
    """The task runs once more, elsewhere. When the node is back, it removes what it had left."""
    submitted = waiting_task(site)
    with site.working():
        identity = running(site, submitted)
        node = node_of(identity)
        kill_node(node, identity, site.worker()._served.scope)
        try:
            wait_until(lambda: in_slurm(site, submitted) != identity, "the task to run again", PATIENCE)
            site.let_go(submitted)
            facts = site.ended(submitted)
        finally:
            cluster("node-start", node)
            cluster("start")
        assert (facts["state"], facts["attempt"]) == ("COMPLETED", "2")
        other = "n2" if node == "n1" else "n1"
        with drained(other):
            assert site.ended(site.submit(site.request("/bin/true")))["state"] == "COMPLETED"


def test_a_job_that_is_preempted(site: TrialSite) -> None:
    """Its task begins again, and that is no attempt less."""
    submitted = waiting_task(site)
    with site.working(), drained("n2"):
        identity = running(site, submitted)
        words = ("--partition=urgent", f"--nodelist={node_of(identity)}", "--exclusive", "--output=/dev/null")
        urgent = slurm("sbatch", "--parsable", *words, "--wrap=sleep 300").strip()
        try:
            wait_until(lambda: node_of(urgent), "the urgent job to run", PATIENCE)
            wait_until(lambda: in_slurm(site, submitted) != identity, "the task to begin again")
        finally:
            slurm("scancel", urgent)
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1")


def test_tasks_that_end_while_slurmctld_is_down(site: TrialSite) -> None:
    submitted = [waiting_task(site) for _ in range(2)]
    with site.working():
        for one in submitted:
            running(site, one)
        kill("slurmctld", signal.SIGTERM)  # it saves its state; killed, it may give ids of jobs once more
        try:
            for one in submitted:
                site.let_go(one)
                assert site.ended(one)["state"] == "COMPLETED"
        finally:
            cluster("start")
        assert site.ended(site.submit(site.request("/bin/true")))["state"] == "COMPLETED"


def test_a_task_that_begins_while_slurmctld_is_down(
    site: TrialSite, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, and that is no attempt: the site allows one."""
    site.configuration = replace(site.configuration, worker=replace(site.configuration.worker, attempts=1))
    submit = site.engine.submit

    def just_stopped(job: Job) -> RunningJob:
        monkeypatch.setattr(site.engine, "submit", submit)
        kill("slurmctld", signal.SIGTERM)
        return submit(job)

    monkeypatch.setattr(site.engine, "submit", just_stopped)
    with site.working(), caplog.at_level(logging.WARNING):
        submitted = site.submit(site.request("/bin/true"))
        try:
            wait_until(lambda: "waits: " in caplog.text, "the task to wait", PATIENCE)
            assert "slurmctld does not answer" in caplog.text
        finally:
            cluster("start")
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1")


def test_a_slurmd_that_is_restarted(site: TrialSite) -> None:
    submitted = waiting_task(site)
    with site.working():
        node = node_of(running(site, submitted))
        kill(f"slurmd-{node}")
        cluster("node-start", node)
        cluster("start")
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1")


def test_our_program_on_a_node_is_killed(site: TrialSite) -> None:
    """The task runs once more. The next job on the node removes the container that the program had left."""
    submitted = waiting_task(site)
    with site.working(), drained("n2"):
        identity = running(site, submitted)
        resume("n2")
        slurm("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
        (program,) = program_of(identity)
        os.kill(program, signal.SIGKILL)
        wait_until(lambda: in_slurm(site, submitted) != identity, "the task to run again", PATIENCE)
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "2")


ENGINE_CALLS = ("prepare", "submit", "status", "finish_log", "remove")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
@pytest.mark.parametrize("call", ENGINE_CALLS)
def test_a_worker_that_dies_at_a_call_to_the_engine(site: TrialSite, call: str, after: bool) -> None:
    """The next worker brings the task to its one true end, with one run that counts."""
    submitted = crashes._submit(site, "cat /inputs/*; echo x >> /outputs/x")
    fate = Fate(Call(call, 1), after)
    crashes._die(site, submitted, fate)
    assert fate.dead
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED"
    contents = site.contents(submitted.collection)
    assert (contents["STDOUT.txt"], contents["x"]) == (b"some input\n", b"x\n")
    assert site.leftovers(submitted) == []


def test_a_worker_that_is_stopped_leaves_its_jobs_in_slurm(site: TrialSite) -> None:
    submitted = waiting_task(site)
    with drained("n1", "n2"), site.working():
        identity = in_slurm(site, submitted)
    with site.working():
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1")
    assert in_slurm(site, submitted) == identity
