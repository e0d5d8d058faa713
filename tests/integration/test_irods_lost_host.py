"""A host that goes away for good: what people see, and how an administrator lets its tasks go on elsewhere.

``tests/support/second_server.py`` says what these tests need. ``docs/failures.md`` has the steps that they take.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.irods_site import COUNT, ENVIRONMENT, RealSite, call, plain_site, succeeded
from support.reading import ENOUGH
from support.real_people import Person, own_environment
from support.second_server import FIND, HOST, LOSE, NO_SECOND, WorkerThere, configuration_there
from support.site import WAITS, until

from compute_to_data.cli.exits import ExitCode
from compute_to_data.coordination import heartbeat
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(not all(os.environ.get(one) for one in (ENVIRONMENT, HOST, LOSE)), reason=NO_SECOND)
LONG = 300.0
"""Seconds. A worker counts as gone a minute after its last heartbeat, and calls to a lost host hang for a while."""


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


@pytest.fixture
def there(site: RealSite) -> Iterator[tuple[str, WorkerThere]]:
    """A resource on the other server, and its worker. Its host is back when the test is over."""
    name = site.compute_resource(site.role, host=os.environ[HOST])
    worker = WorkerThere(configuration_there(site), name, site.place / f"{name}.log")
    try:
        until(lambda: worker.ended is not None or served(site, name), "a worker")
        assert worker.ended is None, worker.said
        yield name, worker
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it is there
            call(FIND)
        worker.end()


def served(site: RealSite, resource: str) -> bool:
    return heartbeat.is_served(site.zone.storage().catalog, site.configuration, resource)


def test_its_tasks_go_on_on_another_server(
    zone: IrodsZoneUnderTest, site: RealSite, there: tuple[str, WorkerThere], tmp_path: Path
) -> None:
    """Its vault can be reached from there, as on shared storage. What ran begins again. When the lost host comes back
    after all, its worker leaves the resource alone, and its job, which still runs, changes nothing."""
    name, worker = there
    path = site.put(f"on_{name}", b"12345", resource=name)
    program = f"{WAITS}; cat /inputs/* > /outputs/x; echo >> /outputs/ran"
    limits = {"walltime_seconds": 900}  # of what the lost host still runs when it is back
    running = site.submit(site.request("/bin/sh", "-c", program, inputs=[path], resource=name, limits=limits))
    until(lambda: site.state(running) is State.RUNNING, "the first task to run")
    call(LOSE)
    queued = site.submit(site.request(*COUNT, inputs=[path], resource=name))  # nobody knows it yet
    until(lambda: not served(site, name), "the heartbeat to be old", LONG)
    people_see(zone, site, name, [running, queued], tmp_path)
    before = runs(site, running, name)
    assert len(before) == 1
    zone.move_resource(name)
    with site.working(name):
        until(lambda: runs(site, running, name) - before, "it to begin again", LONG)
        for outputs in runs(site, running, name) - before:
            (outputs / "go").touch()
        assert site.alice.read(f"{succeeded(site.ended(queued))}/count", ENOUGH).strip() == b"5"
        collection = succeeded(site.ended(running))
        members = site.alice.children(collection)
        call(FIND)
        until(lambda: "is served by another worker" in worker.said, "the old worker to leave", LONG)
        assert [site.state(one) for one in (running, queued)] == [State.COMPLETED] * 2
        assert site.alice.children(collection) == members
        assert site.alice.read(f"{collection}/x", ENOUGH) == b"12345"
        assert site.alice.read(f"{collection}/ran", ENOUGH) == b"\n"
    (lost_run,) = before
    assert [one for one in zone.audit([name]) if str(lost_run.parent) not in one] == [], "more than the lost run left"


def people_see(zone: IrodsZoneUnderTest, site: RealSite, name: str, tasks: list[Submitted], home: Path) -> None:
    """Its owner sees for each task that nobody works there, and gets no new one there. An administrator sees whose
    tasks wait."""
    alice = Person(site.alice.user, own_environment(zone.environment_of(site.alice.user), home))
    for task in tasks:
        assert f"{name} has no live worker" in alice.gets("status", task.collection)["waiting_for"]
    refused = alice.types("run", site.image, "--resource", name, "--", "true")
    assert refused.returncode == ExitCode.REFUSED, refused.stderr
    assert b"has no live worker" in refused.stderr
    administrator = Person(zone.storage().catalog.user, own_environment(os.environ[ENVIRONMENT], home))
    (line,) = administrator.gets("queue", name)["queues"]
    assert line["has_worker"] is False
    assert [(one["user"], one["waiting"], one["running"]) for one in line["users"]] == [(str(site.alice.user), 1, 1)]


def runs(site: RealSite, submitted: Submitted, resource: str) -> set[Path]:
    """Where the runs of a task that WAITS write: the one that the lost host still has, and the one here."""
    vault = next(one.vault for one in site.alice.resources() if one.name == resource)
    place = Path(vault, *submitted.collection.split("/")[2:])
    return {file.parent for file in place.rglob("started") if not (file.parent / "go").exists()}


def test_an_input_that_only_it_has(zone: IrodsZoneUnderTest, site: RealSite) -> None:
    """A task that needs it waits, also when an administrator marks the resource down, until the host is back."""
    name, origin = site.compute_resource(site.role), zone.make_resource(host=os.environ[HOST])
    path = site.put(f"only_on_{origin}", b"12345", resource=origin)
    with site.working(name):
        call(LOSE)
        try:
            submitted = site.submit(site.request(*COUNT, inputs=[path], resource=name))
            until(lambda: site.state(submitted) is not State.QUEUED, "it to begin")
            zone.set_resource_status(origin, "down")
            record = site.record(submitted)
            until(lambda: "is marked down" in record.facts("held_up").get("held_up", ""), "its reason", LONG)
            assert not (record.state() or State.FAILED).is_final
        finally:
            call(FIND)
            zone.set_resource_status(origin, "up")
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert site.replicas(path) == {name: "GOOD", origin: "GOOD"}
