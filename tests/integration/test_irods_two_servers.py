"""Two servers in one zone: data, workers, rules and users on either side.

``tests/support/second_server.py`` says what these tests need.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from support.irods_server import CORE, rules
from support.irods_site import COUNT, ENVIRONMENT, RealSite, call, data_object, plain_site, succeeded
from support.irods_site import START as START_HERE
from support.irods_site import STOP as STOP_HERE
from support.reading import ENOUGH
from support.second_server import (
    CORE as CORE_THERE,
)
from support.second_server import (
    ENVIRONMENT as ENVIRONMENT_THERE,
)
from support.second_server import (
    FIND,
    HOST,
    LOSE,
    NO_SECOND,
    START,
    STOP,
    session_there,
    working_there,
)
from support.service_worker import PYTHON, SOURCES
from support.site import ROLE_ATTRIBUTE, until

from compute_to_data import log_file
from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog, ClientCatalog
from compute_to_data.records.state import State
from compute_to_data.task import LIVE_LOG_NAME

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(
    not all(os.environ.get(name) for name in (ENVIRONMENT, HOST, CORE, CORE_THERE)), reason=NO_SECOND
)

RUNS = int(os.environ.get("C2D_TEST_IRODS_RUNS", "5"))
AWAY_SECONDS = float(os.environ.get("C2D_TEST_IRODS_AWAY_SECONDS", "60"))


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


@pytest.fixture(scope="module")
def there() -> str:
    """The consumer's host name."""
    return os.environ[HOST]


@pytest.fixture
def alice_there(zone: IrodsZoneUnderTest, site: RealSite) -> Iterator[Catalog]:
    """Alice, connected to the consumer."""
    session = session_there(zone, site.alice.user)
    yield session
    session.close()


def text(catalog: Catalog, path: str) -> str:
    return catalog.read(path, ENOUGH).decode().strip()


def test_a_role_goes_to_the_server_that_holds_the_input(site: RealSite, there: str, alice_there: Catalog) -> None:
    here, away = site.compute_resource(site.role), site.compute_resource(site.role, host=there)
    inputs = {name: site.put(f"on_{name}", b"0123456789", resource=name) for name in (here, away)}
    with site.working(here), working_there(site, away):
        for name, path in inputs.items():
            facts = site.run(site.request(*COUNT, inputs=[path], role=site.role))
            collection = succeeded(facts)
            assert facts["resource"] == name
            assert site.replicas(f"{collection}/count") == {name: "GOOD"}
            assert site.replicas(path) == {name: "GOOD"}, "nothing was copied"
            assert text(alice_there, f"{collection}/count") == text(site.alice, f"{collection}/count") == "10"


@pytest.mark.parametrize("worker_is_there", [False, True], ids=["data there, worker here", "data here, worker there"])
def test_an_input_of_the_other_server_comes_to_the_worker(site: RealSite, there: str, worker_is_there: bool) -> None:
    name = site.compute_resource(site.role, host=there if worker_is_there else "")
    origin = site.zone.make_resource(host="" if worker_is_there else there)
    path = site.put(f"for_{name}", b"12345", resource=origin)
    with working_there(site, name) if worker_is_there else site.working(name):
        collection = succeeded(site.run(site.request(*COUNT, inputs=[path], resource=name)))
    assert text(site.alice, f"{collection}/count") == "5"
    assert site.replicas(path) == {origin: "GOOD", name: "GOOD"}


@pytest.mark.parametrize("receiver_is_there", [True, False], ids=["received there", "received here"])
def test_results_move_to_the_other_server(zone: IrodsZoneUnderTest, there: str, receiver_is_there: bool) -> None:
    receiver = zone.make_resource(host=there if receiver_is_there else "")
    zone.storage().catalog.annotate(Entity(EntityKind.RESOURCE, receiver), add=[Avu(ROLE_ATTRIBUTE, receiver)])
    keeping = plain_site(zone, results_to=receiver, staged_inputs="trim")
    name = keeping.compute_resource(keeping.role, host="" if receiver_is_there else there)
    path = keeping.put("x", b"123")
    with keeping.working(name) if receiver_is_there else working_there(keeping, name):
        facts = keeping.run(keeping.request(*COUNT, inputs=[path], resource=name))
    collection = succeeded(facts)
    assert facts["moved_to"] == receiver
    assert keeping.replicas(f"{collection}/count") == {receiver: "GOOD"}
    assert data_object(keeping, f"{collection}/count").replicas[0].checksum.startswith("sha2:")
    assert name not in keeping.replicas(path)


def test_a_secret_on_the_other_server(site: RealSite, there: str) -> None:
    name, origin = site.compute_resource(site.role), site.zone.make_resource(host=there)
    folder = f"/{site.alice.user.zone}/home/{site.alice.user.name}/.compute_to_data/secrets"
    site.alice.create_collection(folder, parents=True)
    site.alice.write(f"{folder}/TOKEN", b"hush", resource=origin)
    request = site.request("/bin/sh", "-c", "wc -c < /run/secrets/TOKEN > /outputs/n", secrets=["TOKEN"], resource=name)
    with site.working(name):
        assert text(site.alice, f"{succeeded(site.run(request))}/n") == "4"


@pytest.mark.parametrize("worker_is_there", [False, True], ids=["worker here", "worker there"])
def test_a_user_of_the_other_server_follows_the_log(
    site: RealSite, there: str, alice_there: Catalog, worker_is_there: bool
) -> None:
    name = site.compute_resource(site.role, host=there if worker_is_there else "")
    reader = cast("ClientCatalog", site.alice if worker_is_there else alice_there)
    script = "echo one; while [ ! -e /outputs/go ]; do sleep 0.05; done; rm /outputs/go; echo two"
    with working_there(site, name) if worker_is_there else site.working(name):
        submitted = site.submit(site.request("/bin/sh", "-c", script, resource=name))
        reader.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[Avu(FOLLOW, "1")])
        until(lambda: live(reader, submitted.collection) == b"one\n", "the first line")
        vault = next(one.vault for one in site.alice.resources() if one.name == name)
        (log,) = Path(vault).rglob("LOG")
        (log.parent / "outputs" / "go").write_text("")
        collection = succeeded(site.ended(submitted))
    assert text(reader, f"{collection}/STDOUT.txt") == "one\ntwo"


FOLLOW = "irods::compute_to_data::follow"


def live(catalog: ClientCatalog, collection: str) -> bytes:
    """What a follower reads of the standard output."""
    try:
        with catalog.open_to_read(f"{collection}/{LIVE_LOG_NAME}") as found:
            reader = log_file.LogReader(found.read)
            return reader.read(reader.header(), 0, 0).content
    except ComputeToDataError:  # not yet there, or being written
        return b""


class TestRulesThere:
    """Called by a user who is connected to the consumer."""

    def test_a_rule_reaches_the_worker_of_the_other_server(self, zone: IrodsZoneUnderTest, site: RealSite) -> None:
        poll = site.configuration.worker.poll_seconds
        with rules(zone, site, CORE_THERE) as installed:
            installed.environment = _moved(installed.environment)
            request = _written(site, installed.compute)
            with site.working(installed.compute):
                output = installed.dispatch(request)
        assert " COMPLETED\n" in output.stdout, output.stdout + output.stderr
        (task,) = [one for one in site.alice.children(f"{site.home}/out") if one.logical_path in output.stdout]
        facts = {one.attribute.rpartition("::")[2]: one.value for one in _avus(site, task.logical_path)}
        queued, taken = (_seconds(facts[f"{state}_at"]) for state in ("queued", "staging_in"))
        print(f"poll interval {poll} s; the worker took it after {taken - queued:.2f} s")
        assert taken - queued < poll + 15

    def test_a_worker_on_demand_is_started_on_the_host_of_its_resource(self, zone: IrodsZoneUnderTest) -> None:
        site = _demanding(zone)
        with rules(zone, site, CORE), rules(zone, site, CORE_THERE) as installed:
            installed.environment = _moved(installed.environment)
            began = time.monotonic()
            output = installed.dispatch(_written(site, installed.compute))
            print(f"a worker was started on the other server, and ran the task, in {time.monotonic() - began:.1f} s")
        assert " COMPLETED\n" in output.stdout, output.stdout + output.stderr

    def test_an_alias_that_only_irods_knows_is_this_host(self, zone: IrodsZoneUnderTest, alias: str) -> None:
        """A worker on demand for its resource is started by the server itself."""
        site = _demanding(zone)
        resource = site.compute_resource(site.role, host=alias)
        with rules(zone, site, CORE), rules(zone, site, CORE_THERE) as installed:
            installed.environment = _moved(installed.environment)
            output = installed.dispatch(_written(site, resource))
        zone.move_resource(resource)  # nobody knows the alias after the test
        assert " COMPLETED\n" in output.stdout, output.stdout + output.stderr


@pytest.fixture
def alias(there: str) -> Iterator[str]:
    """A name of the consumer that is in ``host_resolution`` of both servers, and nowhere else."""
    name = f"{there}-alias"
    settings = {Path(os.environ[core]).with_name("server_config.json"): core for core in (CORE, CORE_THERE)}
    before = {file: file.read_bytes() for file in settings}
    try:
        for file, core in settings.items():
            entry = {"address_type": "local" if core == CORE_THERE else "remote", "addresses": [there, name]}
            document = json.loads(before[file])
            document["host_resolution"]["host_entries"].append(entry)
            file.write_text(json.dumps(document))
        _restart()
        yield name
    finally:
        for file, content in before.items():
            file.write_bytes(content)
        _restart()


def _restart() -> None:
    for command in (STOP, STOP_HERE, START_HERE, START):
        call(command)


def _demanding(zone: IrodsZoneUnderTest) -> RealSite:
    """A site that starts workers on demand."""
    tools = zone.make_place("tools")
    python = ["/usr/bin/env", f"PYTHONPATH={SOURCES}", "PYTHONDONTWRITEBYTECODE=1", os.environ[PYTHON], "-m"]
    worker = {
        "state_directory": str(zone.make_place("state")),
        "poll_seconds": 0.5,
        "idle_seconds": 1,
        "on_demand": True,
        "command": [*python, "compute_to_data.worker"],
    }
    roles = {tools.name: {"implementation": "compute_to_data.roles.container:Container"}}
    return RealSite(zone, "tools", {"name": "process", "images": {"tools": str(tools)}}, roles=roles, worker=worker)


def _written(site: RealSite, resource: str) -> str:
    request = f"{site.home}/{resource}.json"
    document = site.request("/bin/sh", "-c", "echo x > /outputs/y", resource=resource)
    site.alice.write(request, json.dumps(document).encode(), force=True)
    return request


def _moved(environment: str) -> str:
    """The same user's environment, but connected to the consumer."""
    settings = json.loads(Path(environment).read_text())
    settings["irods_host"] = json.loads(Path(os.environ[ENVIRONMENT_THERE]).read_text())["irods_host"]
    Path(environment).write_text(json.dumps(settings))
    return environment


def _seconds(timestamp: str) -> float:
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def _avus(site: RealSite, collection: str) -> tuple[Avu, ...]:
    return site.alice.avus(Entity(EntityKind.COLLECTION, collection))


@pytest.mark.parametrize(("lose", "find"), [(LOSE, FIND), (STOP, START)], ids=["its host hangs", "its server is down"])
def test_the_server_with_the_data_goes_away_and_comes_back(site: RealSite, there: str, lose: str, find: str) -> None:
    name, origin = site.compute_resource(site.role), site.zone.make_resource(host=there)
    path = site.put(f"of_{name}", b"12345", resource=origin)
    other = site.put(f"on_{name}", b"123", resource=name)
    with site.working(name):
        call(lose)
        try:
            needing = site.submit(site.request(*COUNT, inputs=[path], resource=name))
            facts = site.run(site.request(*COUNT, inputs=[other], resource=name))
            assert text(site.alice, f"{succeeded(facts)}/count") == "3", "a task that needs nothing of it"
            time.sleep(AWAY_SECONDS)  # how long it is away
            assert site.state(needing) in (State.QUEUED, State.STAGING_IN), "it is tried again"
        finally:
            call(find)
        until(lambda: (site.state(needing) or State.QUEUED).is_final, "its end", 240)
        assert text(site.alice, f"{succeeded(site.ended(needing))}/count") == "5"


def test_how_much_longer_it_takes_with_the_data_on_the_other_server(site: RealSite, there: str) -> None:
    name, origin = site.compute_resource(site.role), site.zone.make_resource(host=there)
    seconds: dict[str, list[float]] = {name: [], origin: []}
    with site.working(name):
        for number in range(RUNS):
            for resource, taken in seconds.items():
                path = site.put(f"{resource}_{number}", b"12345", resource=resource)
                began = time.monotonic()
                succeeded(site.run(site.request(*COUNT, inputs=[path], resource=name)))
                taken.append(time.monotonic() - began)
    here, away = statistics.median(seconds[name]), statistics.median(seconds[origin])
    print(f"data beside the worker {here:.2f} s, on the other server {away:.2f} s: {away - here:+.2f} s")
    assert away - here < 10
