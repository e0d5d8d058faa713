"""Real workers, killed (-9) at random instants while real containers run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.jobs import held
from support.killed_workers import kill_until_few, random_instants, start_worker
from support.real_docker import ENGINE
from support.site import COMPUTE, HOME, PATIENCE, SLOWNESS, TrialSite, wait_until

from compute_to_data.coordination import lock
from compute_to_data.model import DataObject
from compute_to_data.zones.embedded.audit import audit

pytestmark = pytest.mark.docker
TASKS = max(6, round(16 / SLOWNESS))


@pytest.fixture
def docker_site(docker_answers: None, tmp_path: Path) -> TrialSite:
    return TrialSite(tmp_path, {"name": ENGINE}, "compute-to-data/base:bookworm", worker={"attempts": 50})


def test_tasks_survive_workers_that_are_killed_at_random(docker_site: TrialSite) -> None:
    site = docker_site
    site.alice.create_collection(f"{HOME}/in")
    for number in range(TASKS):
        site.alice.write(f"{HOME}/in/{number:02}", f"{number}\n".encode(), resource="demoResc")
    script = "cat /inputs/* > /outputs/got; mkdir -p /outputs/more; echo x > /outputs/more/x"
    request = site.request("/bin/sh", "-c", script, inputs=[{"next_of": f"{HOME}/in"}])
    submitted = [site.submit(request) for _ in range(TASKS)]

    kill_until_few(site, submitted, random_instants(), 3, (0.2, 1.5))
    got = []
    for one in submitted:
        facts = site.record(one).facts()
        assert facts["state"] == "COMPLETED", facts
        contents = site.contents(one.collection)
        got.append(contents["got"])
        assert contents["more/x"] == b"x\n"
        for name in ("got", "more/x"):
            found = site.alice.stat(f"{one.collection}/{name}")
            assert isinstance(found, DataObject)
            assert site.storage.verify(found.logical_path, found.replicas[0].number) == found.replicas[0].checksum
        assert site.leftovers(one) == []
    assert sorted(got) == sorted(f"{number}\n".encode() for number in range(TASKS)), "each input once"
    assert site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE)) == ()
    assert audit(str(site.folder / "zone")) == []


def test_a_stopped_worker_leaves_running_jobs_to_its_successor(docker_site: TrialSite) -> None:
    site = docker_site
    script = "echo started > /outputs/log; while [ ! -e /outputs/go ]; do sleep 0.05; done; echo done >> /outputs/log"
    submitted = site.submit(site.request("/bin/sh", "-c", script))
    worker = start_worker(site)
    task = site.folder / "zone" / "vaults" / COMPUTE / submitted.collection[len("/tempZone/") :]
    wait_until(lambda: list(task.glob("*/outputs/log")), "the job to start")
    (outputs,) = task.glob("*/outputs")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    (job,) = site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE))
    assert held(site.engine, job).wait(0) is None, "the job runs on"
    (outputs / "go").write_text("")
    os.chown(outputs / "go", os.stat(outputs / "log").st_uid, -1)
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED"
    assert facts["attempt"] == "1"
    assert site.contents(submitted.collection)["log"] == b"started\ndone\n"


def test_a_lost_job_is_started_again(docker_site: TrialSite) -> None:
    site = docker_site
    submitted = site.submit(site.request("/bin/sh", "-c", "echo started >> /outputs/log; sleep 1"))
    worker = start_worker(site)
    scope = lock.scope(site.configuration, "tempZone", COMPUTE)
    running = site.folder / "zone" / "vaults" / COMPUTE / submitted.collection[len("/tempZone/") :]
    wait_until(lambda: list(running.glob("*/outputs/log")), "the job to run")
    worker.kill()
    worker.wait()
    for job in site.engine.jobs(scope):
        site.engine.remove(job)
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert facts["attempt"] == "2"
    assert site.contents(submitted.collection)["log"] == b"started\n"


def test_a_second_worker_says_who_serves_the_resource(docker_site: TrialSite) -> None:
    with docker_site.working():
        second = start_worker(docker_site)
        assert second.wait(PATIENCE) == 3
    assert f"process {os.getpid()}" in (docker_site.folder / "worker.log").read_text()


def test_a_worker_on_demand_leaves_when_there_is_nothing_to_do(docker_site: TrialSite) -> None:
    worker = start_worker(docker_site, "--on-demand")
    assert worker.wait(PATIENCE) == 0
    assert not lock.ResourceLock(docker_site.configuration, "tempZone", COMPUTE).is_held()
