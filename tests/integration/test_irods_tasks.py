"""Whole tasks on a real zone, from the submission to the results, with real vaults and workers.

``tests/support/irods_site.py`` says what they need.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import container_image
import pytest
from support.irods_site import (
    COUNT,
    ENVIRONMENT,
    KILL,
    NO_ZONE,
    START,
    STOP,
    RealSite,
    call,
    data_object,
    let_go,
    outputs_of,
    plain_site,
    succeeded,
)
from support.pictures import grey_png
from support.reading import ENOUGH
from support.site import ROLE_ATTRIBUTE, WAITS, until, wait_until

from compute_to_data.errors import Code, ZoneError
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.records.state import State

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE)

MEGABYTES = 200


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


def test_a_role_goes_to_the_resource_that_holds_the_input(zone: IrodsZoneUnderTest, site: RealSite) -> None:
    servers = [site.compute_resource(site.role) for _ in range(2)]
    inputs = [site.put(f"on_{name}", b"0123456789", resource=name) for name in servers]
    elsewhere = site.put("elsewhere", b"0123")
    with site.working(*servers):
        for name, path in zip(servers, inputs):
            facts = site.run(site.request(*COUNT, inputs=[path, elsewhere], role=site.role))
            collection = succeeded(facts)
            assert facts["resource"] == name
            assert facts["choice"].startswith(f"{name} holds 10 of 14 input bytes")
            assert site.replicas(f"{collection}/count") == {name: "GOOD"}
            assert site.alice.read(f"{collection}/count", ENOUGH).strip() == b"14"
            assert site.replicas(path) == {name: "GOOD"}, "nothing was copied"
        # Each result is in the vault of its own worker's resource.
        vaults = {resource.name: resource.vault for resource in site.alice.resources()}
        found = data_object(site, f"{collection}/count")
        assert found.replicas[0].physical_path.startswith(f"{vaults[servers[1]]}/")


def test_a_task_that_is_removed_while_its_job_runs_ends(site: RealSite, compute: str) -> None:
    """At the worker's next heartbeat, some 15 s later. A running task beside it goes on."""
    removed, kept = (site.submit(site.request("/bin/sh", "-c", WAITS, resource=compute)) for _ in range(2))
    for one in (removed, kept):
        outputs = outputs_of(site, one.collection, compute)
        wait_until(lambda one=one: site.state(one) is State.RUNNING, "its run to be recorded")  # type: ignore[misc]
    gone = outputs_of(site, removed.collection, compute)
    site.alice.remove(removed.collection, recursive=True)
    wait_until(lambda: not gone.exists(), "its directory to go")
    assert outputs.exists() and site.state(kept) is State.RUNNING
    let_go(site, kept.collection, compute)
    assert site.ended(kept)["state"] == "COMPLETED"


def test_a_large_input_replicates_and_its_task_runs(site: RealSite, compute: str) -> None:
    content = os.urandom(1 << 20) * MEGABYTES
    path = site.put("large", content)
    began = time.monotonic()
    facts = site.run(site.request("/bin/sh", "-c", "sha256sum < /inputs/large > /outputs/sum", inputs=[path],
                                  resource=compute))  # fmt: skip
    print(f"{MEGABYTES} MB: {time.monotonic() - began:.1f} s, of which staging in {facts['stage_in_seconds']} s")
    seen = site.alice.read(f"{succeeded(facts)}/sum", ENOUGH).split()[0].decode()
    assert seen == hashlib.sha256(content).hexdigest()
    assert site.replicas(path)[compute] == "GOOD"
    site.alice.remove(path)


def test_a_compute_resource_that_is_down(zone: IrodsZoneUnderTest, site: RealSite) -> None:
    name = site.compute_resource(site.role)
    path = site.put("any", b"x")
    with site.working(name):
        zone.set_resource_status(name, "down")
        with pytest.raises(ZoneError) as refused:
            site.submit(site.request(*COUNT, inputs=[path], resource=name))
        zone.set_resource_status(name, "up")
    assert refused.value.code is Code.SYS_RESC_IS_DOWN


def test_results_wait_for_a_resource_that_is_marked_down(zone: IrodsZoneUnderTest, site: RealSite) -> None:
    name = site.compute_resource(site.role)
    with site.working(name):
        submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; echo x > /outputs/x", resource=name))
        until(lambda: site.state(submitted) is State.RUNNING, "the job to run")
        outputs = outputs_of(site, submitted.collection, name)
        zone.set_resource_status(name, "down")
        (outputs / "go").touch()
        held_up = "held_up"
        wait_until(lambda: "is marked down" in site.record(submitted).facts(held_up).get(held_up, ""), "it to wait")
        zone.set_resource_status(name, "up")
        collection = succeeded(site.ended(submitted))
    assert site.alice.read(f"{collection}/x", ENOUGH) == b"x\n"


class TestHierarchies:
    """A compute resource below a coordinating one."""

    def test_the_child_of_a_passthru(self, zone: IrodsZoneUnderTest, site: RealSite) -> None:
        root = zone.make_resource("passthru")
        leaf = site.compute_resource(site.role, parent=root)
        path = site.put("for_the_child", b"12345")
        with site.working(leaf):
            facts = site.run(site.request(*COUNT, inputs=[path], resource=leaf))
        collection = succeeded(facts)
        assert site.alice.read(f"{collection}/count", ENOUGH).strip() == b"5"
        assert leaf in site.replicas(path)
        assert {one.hierarchy for one in data_object(site, f"{collection}/count").replicas} == {f"{root};{leaf}"}

    def test_one_of_two_leaves_that_replicate(self, zone: IrodsZoneUnderTest, site: RealSite) -> None:
        root = zone.make_resource("replication")
        leaf = site.compute_resource(site.role, parent=root)
        other = zone.make_resource(parent=root)
        path = site.put("for_both", b"12345")
        with site.working(leaf):
            collection = succeeded(site.run(site.request(*COUNT, inputs=[path], resource=leaf)))
        assert {leaf, other} <= set(site.replicas(path)), "staging goes through the root"
        assert site.replicas(f"{collection}/count") == {leaf: "GOOD"}, "results stay where the task left them"

    def test_a_coordinating_resource_is_refused(self, zone: IrodsZoneUnderTest, site: RealSite) -> None:
        root = zone.make_resource("passthru")
        path = site.put("for_nobody", b"x")
        with pytest.raises(Exception, match="is a coordinating resource and holds no data"):
            site.submit(site.request(*COUNT, inputs=[path], resource=root))


@pytest.fixture(scope="module")
def receiver(zone: IrodsZoneUnderTest) -> str:
    """A resource for results; its role has its name."""
    name = zone.make_resource()
    zone.storage().catalog.annotate(Entity(EntityKind.RESOURCE, name), add=[Avu(ROLE_ATTRIBUTE, name)])
    return name


@pytest.fixture(scope="module")
def keeping(zone: IrodsZoneUnderTest, receiver: str) -> RealSite:
    return plain_site(zone, results_to=receiver, staged_inputs="trim")


class TestLongTermStorage:
    """Results are replicated to it, read back, and only then trimmed from the compute resource."""

    def test_results_are_replicated_there_and_staged_inputs_trimmed(
        self, zone: IrodsZoneUnderTest, keeping: RealSite, receiver: str
    ) -> None:
        compute = keeping.compute_resource(keeping.role)
        staged, there = keeping.put("staged", b"123"), keeping.put("there", b"4567")
        zone.storage().replicate(there, compute)
        with keeping.working(compute):
            facts = keeping.run(keeping.request(*COUNT, inputs=[staged, there], resource=compute))
        collection = succeeded(facts)
        assert facts["moved_to"] == receiver
        for name in ("count", "where", "ro-crate-metadata.json"):
            assert keeping.replicas(f"{collection}/{name}") == {receiver: "GOOD"}
        assert keeping.alice.read(f"{collection}/count", ENOUGH).strip() == b"7"
        assert compute not in keeping.replicas(staged)
        assert keeping.replicas(there)[compute] == "GOOD", "it was there before"
        vault = next(one.vault for one in keeping.alice.resources() if one.name == compute)
        left = [os.path.join(folder, name) for folder, _, names in os.walk(vault) for name in names]
        assert left == [data_object(keeping, there).replicas[1].physical_path]

    def test_results_wait_until_a_receiving_resource_is_up(
        self, zone: IrodsZoneUnderTest, keeping: RealSite, receiver: str
    ) -> None:
        compute, path = keeping.compute_resource(keeping.role), keeping.put("wanted", b"x")
        zone.set_resource_status(receiver, "down")
        try:
            with keeping.working(compute):
                submitted = keeping.submit(keeping.request(*COUNT, inputs=[path], resource=compute))
                record = keeping.record(submitted)
                wait_until(lambda: "is marked down" in record.facts("held_up").get("held_up", ""), "it to wait")
                zone.set_resource_status(receiver, "up")
                facts = keeping.ended(submitted)
        finally:
            zone.set_resource_status(receiver, "up")
        assert facts["state"] == "COMPLETED", facts
        assert keeping.replicas(f"{submitted.collection}/count") == {receiver: "GOOD"}


THUMBNAILS = "compute-to-data/image-processing:1"


@pytest.fixture(scope="module")
def picturing(zone: IrodsZoneUnderTest, docker_answers: None) -> RealSite:
    """A site whose service account runs IMAGE_PROCESSING in its sandboxed container."""
    container_image.build(Path(__file__).parents[2] / "containers" / "image-processing", THUMBNAILS, print)
    return RealSite(zone, THUMBNAILS, {"name": "docker"}, roles={"IMAGE_PROCESSING": {"image": THUMBNAILS}})


@pytest.mark.docker
def test_thumbnails_of_an_image(picturing: RealSite) -> None:
    compute = picturing.compute_resource("IMAGE_PROCESSING")
    path = picturing.put("grey.png", grey_png(1500, 1000))
    request = {"inputs": [path], "output_collection": f"{picturing.home}/out", "resource": compute}
    with picturing.working(compute):
        facts = picturing.run(request)
    collection = succeeded(facts)
    thumbnails = f"{collection}/grey_thumbnails"
    found = {one.logical_path.rpartition("/")[2] for one in picturing.alice.children(thumbnails)}
    assert found == {f"grey_{size}.jpg" for size in (128, 256, 512, 1024)} | {"grey_metadata.json"}
    for thumbnail in (f"{thumbnails}/grey_128.jpg", f"{thumbnails}/grey_1024.jpg"):
        avus = picturing.alice.avus(Entity(EntityKind.DATA_OBJECT, thumbnail))
        facts = {avu.attribute: avu.value for avu in avus}
        assert (facts["image::width"], facts["image::height"], facts["image::format"]) == ("1500", "1000", "PNG")
        assert picturing.replicas(thumbnail) == {compute: "GOOD"}
        assert data_object(picturing, thumbnail).replicas[0].checksum.startswith("sha2:")


@pytest.mark.skipif(
    not (os.environ.get(STOP) and os.environ.get(START)),
    reason=f"no real zone is configured (set {STOP} and {START})",
)
def test_a_server_that_restarts_while_a_worker_runs(site: RealSite) -> None:
    """The job ends while the zone is down. The worker ends the task when the zone is back."""
    compute = site.compute_resource(site.role)
    path = site.put("through_it", b"12345")
    program = f"echo began >> /outputs/log; {WAITS}; cat /inputs/through_it > /outputs/n"
    with site.working(compute) as (serving,):
        submitted = site.submit(site.request("/bin/sh", "-c", program, inputs=[path], resource=compute))
        until(lambda: site.state(submitted) is State.RUNNING, "the job to run")
        outputs = outputs_of(site, submitted.collection, compute)
        call(STOP)
        try:
            (outputs / "go").touch()
            wait_until(lambda: f"{submitted.collection} waits" in serving.said, "the worker to miss its zone")
        finally:
            call(START)
        facts = site.ended(submitted)
    collection = succeeded(facts)
    assert site.alice.read(f"{collection}/log", ENOUGH) == b"began\n", "it ran once"
    assert site.alice.read(f"{collection}/n", ENOUGH) == b"12345"
    assert facts["attempt"] == "1"


@pytest.mark.skipif(
    not (os.environ.get(STOP) and os.environ.get(START)),
    reason=f"no real zone is configured (set {STOP} and {START})",
)
def test_a_server_killed_while_it_replicates_an_input(site: RealSite) -> None:
    """The worker must unlock the data object. If it did not, even the owner could not read it."""
    compute = site.compute_resource(site.role)
    content = os.urandom(1 << 20) * MEGABYTES
    path = site.put("cut_off", content)
    (origin,) = site.replicas(path)
    with site.working(compute):
        submitted = site.submit(site.request(*COUNT, inputs=[path], resource=compute))
        wait_until(lambda: compute in site.replicas(path), "the transfer to begin")
        call(KILL if os.environ.get(KILL) else STOP)
        call(START)
        facts = site.ended(submitted)
    collection = succeeded(facts)
    assert site.replicas(path) == {origin: "GOOD", compute: "GOOD"}
    assert int(site.alice.read(f"{collection}/count", ENOUGH)) == len(content)
    assert hashlib.sha256(site.alice.read(path, ENOUGH)).digest() == hashlib.sha256(content).digest()
    site.alice.remove(path)
