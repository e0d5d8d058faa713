"""Whole tasks with inputs as a used zone holds them: replicas in every state and place.

``tests/support/irods_site.py`` says what they need.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.irods_site import (
    COUNT,
    ENVIRONMENT,
    NO_ZONE,
    RealSite,
    data_object,
    let_go,
    outputs_of,
    plain_site,
    succeeded,
)
from support.reading import ENOUGH
from support.site import WAITS, wait_until

from compute_to_data.errors import Code, ZoneError
from compute_to_data.model import Access, Entity, EntityKind, Query, Registration, ReplicaStatus
from compute_to_data.zones.irods import older_servers

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE)


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


def test_a_physical_path_outside_the_vault(zone: IrodsZoneUnderTest, site: RealSite, compute: str) -> None:
    path = f"{site.home}/in/registered"
    file = Path(zone.place_file(compute, f"{site.home}/in/quite-another-name", b"as it is"))
    zone.storage().on_behalf_of(site.alice.user).register(compute, [Registration(path, str(file), 8, "")])
    facts = site.run(site.request("/bin/sh", "-c", "cp /inputs/registered /outputs/y", inputs=[path],
                                  resource=compute))  # fmt: skip
    assert site.alice.read(f"{succeeded(facts)}/y", ENOUGH) == b"as it is"
    assert site.replicas(path) == {compute: "GOOD"}


def test_a_renamed_input(site: RealSite, compute: str) -> None:
    before, path = site.put("before", b"moved", resource=compute), f"{site.home}/in/it's ü & %"
    site.alice.rename(before, path)
    facts = site.run(site.request("/bin/sh", "-c", "cat /inputs/* > /outputs/y", inputs=[path], resource=compute))
    assert site.alice.read(f"{succeeded(facts)}/y", ENOUGH) == b"moved"


@pytest.mark.parametrize("is_there", [True, False], ids=["there", "elsewhere"])
def test_an_input_whose_collection_got_a_quote(
    zone: IrodsZoneUnderTest, site: RealSite, compute: str, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """As ``imv`` renames it. iRODS 4.3 cannot replicate it (``irods_names.is_broken_by_43``)."""
    monkeypatch.setattr(older_servers, "need_one_that_keeps_members", lambda *_: None)
    before, after = f"{site.home}/in/plain-{is_there}", f"{site.home}/in/it's-{is_there}"
    site.alice.create_collection(before)
    origin = compute if is_there else zone.make_resource()
    site.alice.write(f"{before}/salt and pepper", b"moved", resource=origin)
    site.alice.rename(before, after)
    program = ("/bin/sh", "-c", "cat /inputs/* > /outputs/y")
    facts = site.run(site.request(*program, inputs=[f"{after}/salt and pepper"], resource=compute))
    site.alice.rename(after, before)  # or nobody can remove it alone
    if is_there or zone.server_version >= (5,):
        assert site.alice.read(f"{succeeded(facts)}/y", ENOUGH) == b"moved"
    else:
        assert (facts["state"], facts["error_code"]) == ("FAILED", "-317000"), facts
        assert "Rename it" in facts["reason"]


def test_a_stale_replica_on_the_compute_resource(zone: IrodsZoneUnderTest, site: RealSite, compute: str) -> None:
    origin = zone.make_resource()
    path = site.put("stale", b"old", resource=origin)
    zone.storage().replicate(path, compute)
    site.alice.write(path, b"new, and longer", force=True, resource=origin)
    assert site.replicas(path)[compute] == "STALE"
    facts = site.run(site.request("/bin/sh", "-c", "cat /inputs/stale > /outputs/y", inputs=[path],
                                  resource=compute))  # fmt: skip
    assert site.alice.read(f"{succeeded(facts)}/y", ENOUGH) == b"new, and longer"
    assert site.replicas(path)[compute] == "GOOD"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (ReplicaStatus.READ_LOCKED, Code.LOCKED_DATA_OBJECT_ACCESS),
        (ReplicaStatus.WRITE_LOCKED, Code.LOCKED_DATA_OBJECT_ACCESS),
    ],
)
def test_an_input_being_written(
    zone: IrodsZoneUnderTest, site: RealSite, compute: str, status: ReplicaStatus, code: Code
) -> None:
    path = site.put(f"at_work_{status.name}", b"x", resource=compute)
    zone.set_replica_status(path, 0, status)
    facts = site.run(site.request(*COUNT, inputs=[path], resource=compute))
    assert (facts["state"], facts["error_code"]) == ("FAILED", str(int(code))), facts
    assert status.name.lower() in facts["reason"]
    assert site.replicas(path) == {compute: status.name}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (ReplicaStatus.INTERMEDIATE, Code.INTERMEDIATE_REPLICA_ACCESS),
        (ReplicaStatus.STALE, Code.SYS_REPLICA_DOES_NOT_EXIST),
    ],
)
def test_an_input_that_was_never_complete(
    zone: IrodsZoneUnderTest, site: RealSite, compute: str, status: ReplicaStatus, code: Code
) -> None:
    path = site.put(f"never_{status.name}", b"x", resource=compute)
    zone.set_replica_status(path, 0, status)
    with pytest.raises(ZoneError, match=status.name.lower()) as refused:
        site.submit(site.request(*COUNT, inputs=[path], resource=compute))
    assert refused.value.code is code
    assert site.replicas(path) == {compute: status.name}


def test_an_input_that_is_overwritten_meanwhile(site: RealSite, compute: str) -> None:
    path = site.put("overwritten", b"before", resource=compute)
    script = f"{WAITS}; cat /inputs/overwritten > /outputs/y"
    submitted = site.submit(site.request("/bin/sh", "-c", script, inputs=[path], resource=compute))
    outputs = outputs_of(site, submitted.collection, compute)
    wait_until((outputs / "started").exists, "the program to run")
    site.alice.write(path, b"after!", force=True, resource=compute)
    let_go(site, submitted.collection, compute)
    facts = site.ended(submitted)
    assert site.alice.read(f"{succeeded(facts)}/y", ENOUGH) == b"after!"
    assert facts["inputs_changed"] == path
    assert "fingerprint" not in facts


def test_an_input_without_a_checksum(zone: IrodsZoneUnderTest, site: RealSite, compute: str) -> None:
    path, origin = f"{site.home}/in/unsummed", zone.make_resource()
    file = zone.place_file(origin, path, b"12345")
    zone.storage().on_behalf_of(site.alice.user).register(origin, [Registration(path, file, 5, "")])
    facts = site.run(site.request(*COUNT, inputs=[path], resource=compute))
    assert site.alice.read(f"{succeeded(facts)}/count", ENOUGH).strip() == b"5"
    read = f"sha2:{base64.b64encode(hashlib.sha256(b'12345').digest()).decode()}"
    avus = site.alice.avus(Entity(EntityKind.COLLECTION, facts["collection"]))
    assert any(read in (avu.value, avu.units) for avu in avus), "the input is recorded all the same"


def test_an_input_that_does_not_match_its_checksum(site: RealSite, compute: str) -> None:
    path = site.put("rotten", b"as it was")
    site.alice.checksum(path)
    (replica,) = data_object(site, path).replicas
    Path(replica.physical_path).write_bytes(b"as it is!")
    facts = site.run(site.request(*COUNT, inputs=[path], resource=compute))
    assert (facts["state"], facts["error_code"]) == ("FAILED", "-314000"), facts
    assert compute not in site.replicas(path)
    assert [one.logical_path for one in site.alice.children(facts["collection"])] == [
        f"{facts['collection']}/task.json"
    ]


def test_an_input_missing_from_the_vault(site: RealSite, compute: str) -> None:
    path = site.put("gone", b"x", resource=compute)
    os.unlink(data_object(site, path).replicas[0].physical_path)
    facts = site.run(site.request(*COUNT, inputs=[path], resource=compute))
    assert facts["state"] == "FAILED"
    assert "is not in the vault" in facts["reason"]
    site.alice.remove(path)


def test_an_input_only_on_a_resource_that_is_down(zone: IrodsZoneUnderTest, site: RealSite, compute: str) -> None:
    other = zone.make_resource()
    path = site.put("unreachable", b"x", resource=other)
    zone.set_resource_status(other, "down")
    try:
        submitted = site.submit(site.request(*COUNT, inputs=[path], resource=compute))
        wait_until(lambda: "is marked down" in site.record(submitted).facts("held_up").get("held_up", ""), "it to wait")
        assert site.replicas(path) == {other: "GOOD"}
    finally:
        zone.set_resource_status(other, "up")
    collection = succeeded(site.ended(submitted))
    assert site.alice.read(f"{collection}/count", ENOUGH).strip() == b"1"
    assert not site.alice.find(
        Query(EntityKind.DATA_OBJECT, site.configuration.attributes.claim, within=f"{site.home}/in")
    )


def test_other_users_cannot_see_the_results(zone: IrodsZoneUnderTest, site: RealSite, compute: str) -> None:
    path = site.put("mine", b"x")
    bob = zone.session(zone.make_user())
    collection = succeeded(site.run(site.request(*COUNT, inputs=[path], resource=compute)))
    for child in (collection, path, *(one.logical_path for one in site.alice.children(collection))):
        assert bob.access(child) is Access.NULL
        assert site.alice.access(child) is Access.OWN
