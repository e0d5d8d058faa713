"""Cancelling and following with real containers, by a client that uses only the catalog."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.real_docker import ENGINE
from support.site import ALICE, COMPUTE, WAITS, TrialSite, wait_until

from compute_to_data.client.task_logs.log_source import LiveLog
from compute_to_data.configuration import Attributes
from compute_to_data.coordination import capabilities, lock
from compute_to_data.coordination.heartbeat import HEARTBEAT_SECONDS
from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

pytestmark = pytest.mark.docker
CANCEL = Avu("irods::compute_to_data::cancel", "alice#tempZone", COMPUTE)
FOLLOW = Avu("irods::compute_to_data::follow", "1")
DEAF = "trap '' TERM; echo began; while :; do sleep 0.1; done"
STAMPED = "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i $(date +%s.%N); sleep 0.2; done"


@pytest.fixture
def docker_site(docker_answers: None, tmp_path: Path) -> TrialSite:
    """A worker as sites have it: no client on its host wakes it, and the grace is long."""
    worker = {"poll_seconds": 2, "stop_grace_seconds": 30, "on_demand": False}
    return TrialSite(tmp_path, {"name": ENGINE}, "compute-to-data/base:bookworm", worker=worker)


def from_afar(site: TrialSite, script: str, *requests: Avu) -> Submitted:
    """Submit with only the catalog's data, then put requests on the task's record."""
    wait_until(
        lambda: site.alice.find(Query(EntityKind.RESOURCE, "irods::compute_to_data::offer")), "the worker's offers"
    )
    configuration = capabilities.read(site.alice, Attributes())
    submitted = submit.submit(site.alice, configuration, site.request("/bin/sh", "-c", script))
    put(site, submitted, *requests)
    return submitted


def put(site: TrialSite, submitted: Submitted, *requests: Avu) -> None:
    site.alice.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=requests)


def live(site: TrialSite, submitted: Submitted) -> bytes:
    try:
        with contextlib.closing(LiveLog(site.zone.session(ALICE), submitted.collection)) as log:
            return b"".join(log.blocks(0, 0))
    except ComputeToDataError:
        return b""


def check_nothing_is_left(site: TrialSite, submitted: Submitted, state: str) -> None:
    facts = site.record(submitted).facts()
    assert facts["state"] == state, facts
    assert site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE)) == ()
    assert not any("live" in name for name in site.contents(submitted.collection))
    assert site.leftovers(submitted) == []
    assert audit(str(site.folder / "zone")) == []


def test_a_deaf_container_stops_soon(docker_site: TrialSite) -> None:
    site = docker_site
    with site.working():
        submitted = from_afar(site, DEAF, FOLLOW)
        wait_until(lambda: live(site, submitted) == b"began\n", "its first word")
        began = time.monotonic()
        put(site, submitted, CANCEL)
        scope = lock.scope(site.configuration, "tempZone", COMPUTE)
        wait_until(lambda: not site.engine.jobs(scope), "the container to be gone")
        took = time.monotonic() - began
        print(f"gone after {took:.1f} s")  # the query, stopping and removing it
        assert took < site.configuration.worker.stop_grace_seconds
        assert "cancelled by alice#tempZone" in site.ended(submitted)["reason"]
    assert site.contents(submitted.collection)["STDOUT.txt"] == b"began\n"
    check_nothing_is_left(site, submitted, "CANCELLED")


def test_lines_arrive_within_a_second(docker_site: TrialSite) -> None:
    site = docker_site
    delays, seen = [], b""
    with site.working():
        submitted = from_afar(site, f"{STAMPED}; {WAITS}; echo x > /outputs/x", FOLLOW)
        asked = time.monotonic()
        wait_until(lambda: site.record(submitted).facts()["state"] != "QUEUED", "the worker to take it")
        assert time.monotonic() - asked < HEARTBEAT_SECONDS - 1, "before the worker's next heartbeat"
        while len(delays) < 10:
            assert site.record(submitted).facts()["state"] in ("STAGING_IN", "RUNNING"), (
                "the task exceeded its walltime"
            )
            found = live(site, submitted) or seen
            new, seen = found[len(seen) :], found
            delays += [time.time() - float(line.split()[2]) for line in new.splitlines()]
            time.sleep(0.05)
        site.let_go(submitted)
        site.ended(submitted)
    assert sorted(delays)[len(delays) // 2] < 1, "a busy machine may delay single lines (tests/benchmarks)"
    print(f"delays of {len(delays)} lines: median {sorted(delays)[len(delays) // 2]:.3f} s, most {max(delays):.3f} s")
    assert site.contents(submitted.collection)["STDOUT.txt"].startswith(seen)
    check_nothing_is_left(site, submitted, "COMPLETED")


@pytest.mark.parametrize("requests", [(), (CANCEL,)], ids=["followed", "followed and cancelled"])
def test_a_killed_worker_leaves_it_to_the_next(docker_site: TrialSite, requests: tuple[Avu, ...]) -> None:
    site = docker_site
    command = [sys.executable, "-m", "compute_to_data.worker", "--configuration", str(site.configuration_file)]
    with open(site.folder / "worker.log", "ab") as log:
        first = subprocess.Popen([*command, "--resource", COMPUTE], stdout=log, stderr=log)
    script = DEAF if requests else "echo began; while [ ! -e /outputs/go ]; do sleep 0.05; done; echo over"
    submitted = from_afar(site, script, FOLLOW)
    wait_until(lambda: live(site, submitted) == b"began\n", "its first word")
    first.kill()
    first.wait()
    put(site, submitted, *requests)
    assert capabilities.read(site.alice, Attributes()).allows(site.image), (
        "the capabilities that a killed worker published stay"
    )
    with site.working():
        if not requests:
            assert live(site, submitted) == b"began\n"
            outputs = next((site.folder / "zone" / "vaults" / COMPUTE).rglob("outputs"))
            (outputs / "go").write_text("")
            os.chown(outputs / "go", os.stat(outputs).st_uid, -1)  # an entry of another account would be refused
        facts = site.ended(submitted)
    assert facts["attempt"] == "1"
    expected = b"began\n" if requests else b"began\nover\n"
    assert site.contents(submitted.collection)["STDOUT.txt"] == expected
    check_nothing_is_left(site, submitted, "CANCELLED" if requests else "COMPLETED")
