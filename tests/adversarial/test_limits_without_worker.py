"""Jobs that write more than they may while no worker is there to see it, on the real engine."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from support.killed_workers import start_worker
from support.real_docker import ENGINE, IMAGE
from support.site import COMPUTE, PATIENCE, SLOWNESS, WAITS, TrialSite, until

from compute_to_data.coordination import lock

pytestmark = pytest.mark.docker
LIMITS = {"output_bytes": 4 << 20, "walltime_seconds": 120}
LATEST = 10.0 * SLOWNESS
"""Seconds after which the job must have ended, on a busy machine: the guard looks twice a second."""


@pytest.fixture
def site(docker_answers: None, tmp_path: Path) -> TrialSite:
    return TrialSite(tmp_path, {"name": ENGINE}, IMAGE, limits={"default": {"output_files": 50}})


def without_a_worker(site: TrialSite, script: str) -> tuple[dict[str, str], float]:
    """Kill the worker of a running task, and only then let the task's script begin. When the job has ended, another
    worker comes. Returns the task's facts, and how many seconds the job went on without a worker."""
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; {script}", limits=LIMITS))
    worker = start_worker(site)
    outputs = site.outputs(submitted)
    worker.kill()
    worker.wait()
    (key,) = site.engine.jobs(lock.scope(site.configuration, "tempZone", COMPUTE))
    began = time.monotonic()
    (outputs / "go").touch()
    running = site.engine.find(key)
    assert running is not None and running.wait(PATIENCE) is not None, "the job goes on without a worker"
    took = time.monotonic() - began
    with site.working():
        return site.ended(submitted), took


@pytest.mark.parametrize(
    "write",
    [
        "dd if=/dev/zero of=/outputs/$n bs=1M count=1",
        "mkdir -m 700 /outputs/d$n; dd if=/dev/zero of=/outputs/d$n/x bs=1M count=1",
    ],
)
def test_a_job_that_writes_too_much_is_ended(site: TrialSite, write: str) -> None:
    facts, took = without_a_worker(site, f"for n in $(seq 12); do {write}; done; exec sleep 60")
    assert took < LATEST
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "output_limit"), facts


@pytest.mark.parametrize(
    "write", ["mkdir /outputs/d; chmod 0 /outputs/d", "for n in $(seq 110); do : >/outputs/$n; done"]
)
def test_a_job_that_hides_what_it_writes_or_writes_too_many_files_is_ended(site: TrialSite, write: str) -> None:
    facts, took = without_a_worker(site, f"{write}; exec sleep 60")
    assert took < LATEST
    assert facts["state"] == "FAILED", facts


def test_a_job_within_its_limits_goes_on(site: TrialSite) -> None:
    facts, took = without_a_worker(site, "dd if=/dev/zero of=/outputs/x bs=1M count=3; sleep 3")
    assert took > 3
    assert facts["state"] == "COMPLETED", facts


def test_no_process_of_ours_is_left(site: TrialSite) -> None:
    without_a_worker(site, "true")
    until(lambda: not _processes_about(site), "the guard to end")


def _processes_about(site: TrialSite) -> list[str]:
    """The guard is a child of the worker, and has its words."""
    said = subprocess.run(
        ["pgrep", "--full", "--", str(site.configuration_file)], capture_output=True, text=True, check=False
    )
    return said.stdout.split()
