"""A zone of iRODS 4.3 whose ``acAclPolicy`` is not STRICT shows all names and AVUs to all. Rights stay what they are.

``tests/support/irods_site.py`` and ``irods_server.py`` say what the tests need. ``core.re`` is beside ``core.py``, and
is changed meanwhile. iRODS 5 knows no other policy than STRICT.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.irods_server import CORE, Installed, rules
from support.irods_site import ENVIRONMENT, NO_ZONE, RealSite, plain_site, succeeded
from support.reading import ENOUGH
from support.real_people import Person, own_environment

from compute_to_data.cli.exits import ExitCode
from compute_to_data.errors import AccessDenied, Code, NotFound, Refused, ZoneError
from compute_to_data.model import Access, Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(
    not (os.environ.get(ENVIRONMENT) and os.environ.get(CORE)), reason=f"{NO_ZONE[:-1]} and {CORE})"
)
STRICT = re.compile(r"^acAclPolicy\s*\{[^}]*\}", re.MULTILINE)
UNREADABLE = (AccessDenied, NotFound)
READS = "cat /inputs/* > /outputs/copy"


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


@pytest.fixture(scope="module", autouse=True)
def shown_to_all(zone: IrodsZoneUnderTest) -> Iterator[None]:
    if zone.server_version >= (5,):
        pytest.skip("iRODS 5 has no policy but STRICT")
    file = Path(os.environ[CORE]).with_name("core.re")
    before = file.read_text()
    changed, count = STRICT.subn("acAclPolicy { }", before)
    assert count == 1, "its core.re says nothing of acAclPolicy"
    file.write_text(changed)
    zone.begin_anew()
    try:
        yield
    finally:
        file.write_text(before)
        zone.begin_anew()


@pytest.fixture(scope="module")
def installed(zone: IrodsZoneUnderTest, site: RealSite, shown_to_all: None) -> Iterator[Installed]:
    with rules(zone, site) as found:
        yield found


@pytest.fixture(scope="module")
def worker(installed: Installed) -> Iterator[str]:
    """The compute resource that it serves."""
    with installed.site.working(installed.compute):
        yield installed.compute


@dataclass
class Bob:
    """A user who has no right to anything of alice's."""

    session: Catalog
    home: str
    site: RealSite
    resource: str

    def request(self, *inputs: Any, **more: Any) -> dict[str, Any]:
        document = self.site.request("/bin/sh", "-c", READS, resource=self.resource)
        return {**document, "inputs": list(inputs), "output_collection": self.home, **more}

    def submit(self, *inputs: Any, **more: Any) -> Submitted:
        return submit.submit(self.session, self.site.configuration, self.request(*inputs, **more))


@pytest.fixture(scope="module")
def bob(zone: IrodsZoneUnderTest, site: RealSite, worker: str) -> Bob:
    session = zone.session(zone.make_user())
    return Bob(session, zone.scratch(session.user), site, worker)


@pytest.fixture(scope="module")
def private(site: RealSite, bob: Bob) -> str:
    """What only alice may read; and bob sees that it is there."""
    path = site.put("private", b"alice's")
    assert bob.session.stat(path).owner == site.alice.user, "the policy is STRICT"
    assert bob.session.access(path) is Access.NULL
    with pytest.raises(UNREADABLE):
        bob.session.read(path, ENOUGH)
    return path


@pytest.fixture(scope="module")
def hers(site: RealSite, worker: str, private: str) -> str:
    """The collection of a task of alice's that has completed."""
    request = site.request("/bin/sh", "-c", f"{READS}; echo said", inputs=[private], resource=worker)
    return succeeded(site.run(request))


def collection_of(path: str) -> str:
    return path.rpartition("/")[0]


INPUTS: dict[str, Callable[[str], Any]] = {
    "a data object": lambda path: path,
    "a collection": lambda path: {"collection": collection_of(path)},
    "the next of a collection": lambda path: {"next_of": collection_of(path)},
}


@pytest.mark.parametrize("kind", INPUTS)
def test_an_input_that_bob_may_not_read(bob: Bob, private: str, kind: str) -> None:
    with pytest.raises(UNREADABLE):
        bob.submit(INPUTS[kind](private))


def test_a_result_of_a_task_that_bob_may_not_read(bob: Bob, site: RealSite, hers: str) -> None:
    """The submission only looks up the task; the worker asks for the right, as before it reads any input."""
    try:
        submitted = bob.submit({"task": hers.rpartition("/")[2], "path": "copy"})
    except (*UNREADABLE, Refused):
        return
    assert site.ended(submitted)["state"] == "FAILED"
    assert names_in(bob.session, submitted.collection) == {"task.json"}


def names_in(catalog: Catalog, collection: str) -> set[str]:
    return {one.logical_path.rpartition("/")[2] for one in catalog.children(collection)}


def test_an_unreadable_member_of_his_own_collection(bob: Bob, site: RealSite) -> None:
    """Alice put it there. Where it is hidden, his task does not see it; here it is refused, or passed over."""
    shared = f"{bob.home}/shared"
    bob.session.create_collection(shared)
    bob.session.set_access(bob.home, site.alice.user, Access.READ_OBJECT)
    bob.session.set_access(shared, site.alice.user, Access.MODIFY_OBJECT)
    site.alice.write(f"{shared}/a", b"alice's")
    bob.session.write(f"{shared}/b", b"bob's")
    with pytest.raises(AccessDenied):
        bob.submit({"collection": shared})
    submitted = bob.submit({"next_of": shared})
    assert bob.session.read(f"{ended(bob, submitted)}/copy", ENOUGH) == b"bob's"


def ended(bob: Bob, submitted: Submitted) -> str:
    """The collection of a task of his that has completed."""
    record = bob.site.record(submitted)
    bob.site.ended(submitted)
    facts = type(record)(bob.session, record.attributes, submitted.collection, "").facts()
    assert facts["state"] == "COMPLETED", facts
    return submitted.collection


def test_a_right_that_is_taken_away_before_the_task_begins(bob: Bob, site: RealSite, private: str) -> None:
    """The worker asks again, in his session, before it reads anything for him."""
    first = bob.submit(process={**bob.request()["process"], "argv": ["-c", "sleep 3"]})
    for path in (collection_of(private), private):
        site.alice.set_access(path, bob.session.user, Access.READ_OBJECT)
    try:
        submitted = bob.submit(private, after=[first.task_id])
    finally:
        for path in (collection_of(private), private):
            site.alice.set_access(path, bob.session.user, Access.NULL)
    facts = site.ended(submitted)
    assert facts["state"] == "FAILED", facts
    assert names_in(bob.session, submitted.collection) == {"task.json"}


def test_an_output_collection_of_hers(bob: Bob, site: RealSite) -> None:
    with pytest.raises(AccessDenied):
        bob.submit(output_collection=f"{site.home}/out")


def test_by_rule(zone: IrodsZoneUnderTest, bob: Bob, installed: Installed, private: str) -> None:
    theirs = Installed(**{**vars(installed), "environment": zone.environment_of(bob.session.user)})
    for name, document in (
        ("input", bob.request(private)),
        ("output", bob.request(output_collection=f"{bob.site.home}/out")),
    ):
        bob.session.write(f"{bob.home}/{name}.json", json.dumps(document).encode())
        done = theirs.dispatch(f"{bob.home}/{name}.json")
        assert "COMPLETED" not in done.stdout and "needs" in done.stdout + done.stderr, (name, done.stdout, done.stderr)


def test_a_request_of_hers_that_he_may_not_read(
    bob: Bob, zone: IrodsZoneUnderTest, installed: Installed, hers: str
) -> None:
    theirs = Installed(**{**vars(installed), "environment": zone.environment_of(bob.session.user)})
    done = theirs.dispatch(f"{hers}/task.json")
    assert "COMPLETED" not in done.stdout, done.stdout


def test_her_task_and_its_results(bob: Bob, zone: IrodsZoneUnderTest, hers: str, tmp_path: Path) -> None:
    """He sees what the zone shows him. He fetches, cancels, removes and changes nothing."""
    person = Person(bob.session.user, own_environment(zone.environment_of(bob.session.user), tmp_path))
    assert [one["collection"] for one in person.gets("list", "--limit", "0") if one["collection"] == hers] == []
    for words in (["fetch", hers, str(tmp_path / "x")], ["cancel", hers], ["rm", "--yes", hers]):
        done = person.types(*words)
        assert done.returncode not in (ExitCode.DONE, 1), (words, done)
    log = person.types("logs", hers)
    assert log.stdout == b"" and log.returncode not in (ExitCode.DONE, 1), log
    with pytest.raises(UNREADABLE):
        bob.session.read(f"{hers}/copy", ENOUGH)
    for entity in (Entity(EntityKind.COLLECTION, hers), Entity(EntityKind.DATA_OBJECT, f"{hers}/task.json")):
        with pytest.raises(ZoneError) as refused:
            bob.session.annotate(entity, add=[Avu("irods::compute_to_data::cancel", "bob")])
        assert refused.value.code in (Code.CAT_NO_ACCESS_PERMISSION, Code.CAT_INVALID_ARGUMENT)


def test_at_a_gateway(bob: Bob, zone: IrodsZoneUnderTest, private: str) -> None:
    there = zone.at_a_gateway(bob.session.user)
    with pytest.raises(UNREADABLE), there.open_to_read(private) as found:
        found.read(0, 1)
    with pytest.raises(ZoneError), there.open_to_write(f"{private}2") as written:
        written.write([b"x"])


def test_her_results_are_not_reused_for_him(bob: Bob, site: RealSite, worker: str) -> None:
    """Both may read the input, so that both tasks have one fingerprint."""
    path = site.put("open", b"for both")
    for one in (site.home, collection_of(path), path):
        site.alice.set_access(one, bob.session.user, Access.READ_OBJECT)
    succeeded(site.run(site.request("/bin/sh", "-c", READS, inputs=[path], resource=worker)))
    submitted = submit.submit(bob.session, site.configuration, bob.request(path), reuse_earlier=True)
    assert not submitted.reused


def test_her_secrets(bob: Bob, site: RealSite) -> None:
    folder = f"/{site.alice.user.zone}/home/{site.alice.user.name}/.compute_to_data/secrets"
    site.alice.create_collection(folder, parents=True)
    site.alice.write(f"{folder}/KEY", b"hidden")
    with pytest.raises((NotFound, Refused)):
        bob.submit(secrets=["KEY"])
    with pytest.raises(UNREADABLE):
        bob.session.read(f"{folder}/KEY", ENOUGH)
