"""Tasks on a real zone whose compute resource runs them in Slurm, on a cluster of two nodes.

``tests/support/irods_site.py`` says what they need. The nodes reach the vaults, as over shared storage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support.irods_site import COUNT, ENVIRONMENT, NO_ZONE, RealSite, let_go, succeeded
from support.reading import ENOUGH
from support.real_slurm import drained, job_of, node_of, slurm
from support.service_worker import PYTHON, SOURCES
from support.site import BASE_IMAGE, WAITS, until

from compute_to_data.coordination import lock
from compute_to_data.job import JobKey
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE)
SOCKET = "/var/run/docker.sock"


@pytest.fixture(scope="module")
def node_python(zone: IrodsZoneUnderTest) -> str:
    """As on a node where the package is installed: here a variable says where it is, and ``-I`` would hide that."""
    program = zone.make_place("python") / "python"
    python = os.environ.get(PYTHON) or sys.executable
    program.write_text(f'#!/bin/sh\nshift\nexport PYTHONPATH={SOURCES}\nexec {python} "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.fixture(scope="module")
def may_use_docker(zone: IrodsZoneUnderTest, slurm_answers: None) -> Iterator[None]:
    """On a node, the service account is in the group that may. Here, that group is the account's."""
    before = os.stat(SOCKET).st_gid
    os.chown(SOCKET, -1, zone.make_place("group").stat().st_gid)
    yield
    os.chown(SOCKET, -1, before)


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest, node_python: str, may_use_docker: None) -> RealSite:
    settings = {
        "name": "slurm",
        "directory": str(zone.make_place("slurm") / "shared"),
        "partition": "main",
        "python": node_python,
        "poll_seconds": 0.5,
        "notes_seconds": 1.0,
        "service": "/nonexistent",
    }
    role = zone.make_place("role").name
    roles = {role: {"implementation": "compute_to_data.roles.container:Container"}}
    return RealSite(zone, BASE_IMAGE, settings, roles=roles, images=[BASE_IMAGE])


@pytest.fixture(scope="module")
def compute(site: RealSite) -> str:
    return site.compute_resource(site.role)


@pytest.fixture
def leaves_nothing(zone: IrodsZoneUnderTest, site: RealSite, compute: str) -> Iterator[None]:
    yield
    assert zone.audit([compute]) == []
    assert slurm("squeue", "--noheader") == ""


def in_slurm(site: RealSite, submitted: Submitted) -> str:
    """Slurm's id of a task's job, once it has one."""
    scope = lock.scope(site.configuration, site.alice.user.zone, submitted.resource)
    key = JobKey.of(scope, submitted.collection)
    until(lambda: job_of(key), "the job to be in Slurm")
    return job_of(key)


def running(site: RealSite, compute: str) -> Submitted:
    """A task that runs until it is let go."""
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; echo done > /outputs/x", resource=compute))
    until(lambda: site.state(submitted) is State.RUNNING, "the task to run")
    return submitted


@pytest.mark.usefixtures("leaves_nothing")
class TestATask:
    def test_its_results_are_registered(self, site: RealSite, compute: str) -> None:
        path = site.put("counted", b"0123456789", resource=compute)
        with site.working(compute):
            facts = site.run(site.request(*COUNT, inputs=[path], resource=compute))
        assert site.alice.read(f"{succeeded(facts)}/count", ENOUGH).strip() == b"10"
        assert site.replicas(f"{facts['collection']}/count") == {compute: "GOOD"}

    def test_it_goes_on_while_its_worker_is_replaced(self, site: RealSite, compute: str) -> None:
        with site.working(compute):
            submitted = running(site, compute)
            identity = in_slurm(site, submitted)
        with site.working(compute):
            let_go(site, submitted.collection, compute)
            facts = site.ended(submitted)
            assert in_slurm(site, submitted) == identity
        assert site.alice.read(f"{succeeded(facts)}/x", ENOUGH) == b"done\n"
        assert facts["attempt"] == "1"

    def test_an_administrator_cancels_its_job_while_it_runs(self, site: RealSite, compute: str) -> None:
        with site.working(compute):
            submitted = running(site, compute)
            slurm("scancel", in_slurm(site, submitted))
            facts = site.ended(submitted)
        assert (facts["state"], "cancelled in Slurm" in facts["reason"]) == ("CANCELLED", True), facts

    def test_an_administrator_cancels_its_job_while_it_waits(self, site: RealSite, compute: str) -> None:
        with site.working(compute), drained("n1", "n2"):
            submitted = site.submit(site.request("true", resource=compute))
            slurm("scancel", in_slurm(site, submitted))
            facts = site.ended(submitted)
        assert (facts["state"], "cancelled in Slurm" in facts["reason"]) == ("CANCELLED", True), facts

    def test_it_runs_on_the_node_that_is_not_drained(self, site: RealSite, compute: str) -> None:
        with site.working(compute), drained("n1"):
            submitted = running(site, compute)
            assert node_of(in_slurm(site, submitted)) == "n2"
            let_go(site, submitted.collection, compute)
            succeeded(site.ended(submitted))
