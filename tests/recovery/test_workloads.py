"""Workers die while a workload's tasks run: each task has one true end, and nothing of the sandboxes is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from recovery import test_crash_points as plain
from support.crashes import each_fate
from support.docker_daemon import BASE_IMAGE, own_daemon
from support.killed_workers import kill_until_few, random_instants, start_worker
from support.real_docker import ENGINE, containers
from support.site import COMPUTE, HOME, PATIENCE, SLOWNESS, TrialSite, wait_until

from compute_to_data.coordination import lock
from compute_to_data.records.state import State
from compute_to_data.submission import workloads
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

TASKS = max(8, round(24 / SLOWNESS))
SCRIPT = "cat /input/sub/one >/output/got; echo $TASK_ID; mkdir /output/more; echo x >/output/more/x"


def _workload(site: TrialSite) -> workloads.Started:
    site.alice.create_collection(f"{HOME}/dataset/sub", parents=True)
    site.alice.write(f"{HOME}/dataset/sub/one", b"some input\n", resource="demoResc")
    return workloads.start(
        site.alice, site.configuration, HOME, image=site.image, instances=2, dataset=f"{HOME}/dataset"
    )


def _task(site: TrialSite, workload: workloads.Started, script: str) -> Submitted:
    return workloads.create_task(site.alice, site.configuration, workload.collection, ["/bin/sh", "-c", script])


def _left(site: TrialSite) -> list[Path]:
    """What is left of sandboxes and of the dataset's links."""
    vault, state = site.folder / "zone" / "vaults" / COMPUTE, site.folder / "state"
    found = [*vault.rglob("sandboxes/*"), *vault.rglob("dataset/sub/two"), *state.glob("sandboxes/*")]
    linked = [path for path in vault.rglob("one") if path.lstat().st_nlink > 1]
    return [*found, *linked, *state.glob("tasks/*.workloads/*")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
def test_every_crash_point_of_a_workloads_task_is_recovered(tmp_path: Path, after: bool) -> None:
    places = []
    for fate in each_fate(after):
        folder = tmp_path / f"{fate.at}"
        site = plain.site_in(folder)
        submitted = _task(site, _workload(site), SCRIPT)
        plain._die(site, submitted, fate)
        if not fate.dead:
            continue
        places.append(fate.where)
        with site.working():
            facts = site.ended(submitted)
        assert facts["state"] == "COMPLETED", (fate.where, facts)
        assert site.contents(submitted.collection)["got"] == b"some input\n"
        assert site.engine.jobs(site.worker()._served.scope) == (), fate.where
        assert site.leftovers(submitted) == [], fate.where
        assert _left(site) == [], fate.where
        assert audit(str(folder / "zone")) == [], fate.where
    assert {"replicate", "submit", "status", "register", "children"} <= {*places}


@pytest.mark.docker
def test_workers_that_are_killed_at_random(docker_answers: None, tmp_path: Path) -> None:
    site = TrialSite(tmp_path, {"name": ENGINE}, "compute-to-data/base:bookworm", worker={"attempts": 50})
    workload = _workload(site)
    slow = f"sleep 0.2; {SCRIPT}"
    # Some leave a process behind, so the worker removes and makes sandboxes all the time.
    submitted = [
        _task(site, workload, slow + ("; sleep 60 >/dev/null 2>&1 &" if number % 8 == 7 else ""))
        for number in range(TASKS)
    ]

    assert kill_until_few(site, submitted, random_instants(), 5, (0.3, 1.3)) > 1
    for one in submitted:
        facts = site.record(one).facts()
        assert facts["state"] == "COMPLETED", facts
        contents = site.contents(one.collection)
        assert (contents["got"], contents["more/x"]) == (b"some input\n", b"x\n")
        assert contents["STDOUT.txt"].decode() == f"{one.task_id}\n"
        assert site.leftovers(one) == []
    assert _left(site) == []
    assert audit(str(site.folder / "zone")) == []
    assert _sandboxes(site) == []


def _sandboxes(site: TrialSite) -> list[str]:
    """The existing containers of this site's workloads."""
    label = f"compute_to_data.resource={lock.scope(site.configuration, 'tempZone', COMPUTE)}"
    with containers() as client:
        return [str(one["Names"][0]) for one in client.containers(all=True, filters={"label": [label]})]


@pytest.mark.docker
def test_a_stopped_worker_removes_its_sandboxes(docker_answers: None, tmp_path: Path) -> None:
    """A workload's task does not outlive its worker. It begins again, and this does not count as an attempt."""
    site = TrialSite(tmp_path, {"name": ENGINE}, "compute-to-data/base:bookworm", worker={"attempts": 1})
    workload = _workload(site)
    submitted = _task(site, workload, "echo once >>/output/log; [ -e /input/sub/two ] || sleep 60")
    worker = start_worker(site)
    vault = site.folder / "zone" / "vaults" / COMPUTE
    wait_until(lambda: list(vault.rglob("outputs/log")), "the task to run")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert _left(site) == []
    assert _sandboxes(site) == []
    site.alice.write(f"{HOME}/dataset/sub/two", b"", resource="demoResc")
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert site.contents(submitted.collection)["log"] == b"once\n"


@pytest.mark.docker
@pytest.mark.parametrize("live_restore", [True, False], ids=["outlive", "end with"])
def test_sandboxes_whose_daemon_is_killed(docker_answers: None, tmp_path: Path, live_restore: bool) -> None:
    """Containers that outlive their daemon run on. A container that ended with the daemon ends its task, as usual."""
    if os.geteuid() != 0 or ENGINE != "docker":
        pytest.skip("a Docker daemon of the test's own needs root")
    with own_daemon(live_restore=live_restore) as daemon:
        engine = {"name": "docker", "socket": daemon.socket, "timeout_seconds": 20}
        site = TrialSite(tmp_path, engine, BASE_IMAGE, worker={"attempts": 50})
        workload = _workload(site)
        submitted = [_task(site, workload, f"sleep 0.3; {SCRIPT}") for _ in range(6)]
        worker = start_worker(site)
        wait_until(lambda: any(site.record(one).state() is State.RUNNING for one in submitted), "a task to run")
        daemon.kill()
        daemon.start()
        assert worker.poll() is None
        states = [site.ended(one) for one in submitted]
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE) == 0
        with daemon.client() as client:
            assert client.containers(all=True) == []
    for one, facts in zip(submitted, states):
        if facts["state"] == "COMPLETED":
            assert site.contents(one.collection)["got"] == b"some input\n"
        else:
            # The daemon that starts again ends what still runs: with SIGTERM, and SIGKILL where that does not help.
            assert not live_restore, facts
            assert (facts["state"], facts["reason_code"]) == ("FAILED", "nonzero_exit"), facts
            assert facts["exit_status"] in ("143", "137"), facts
        assert site.leftovers(one) == []
    assert any(facts["state"] == "COMPLETED" for facts in states)
    assert _left(site) == []
