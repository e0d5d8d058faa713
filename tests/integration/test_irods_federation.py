"""A user of another zone, which this zone trusts, works here: ``c2d``, rules and rights.

``C2D_TEST_IRODS_FEDERATED`` names the environment file of such a user, whose own zone checks the password, at a server
of this zone; her home is ``/<this zone>/home/<user>#<her zone>``. ``C2D_TEST_IRODS_FEDERATED_HOST`` is a server of her
own zone. ``support/zone_of_two.py`` makes both.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.irods_server import CORE, rules
from support.irods_site import ENVIRONMENT, RealSite, plain_site
from support.reading import ENOUGH
from support.real_people import Person, own_environment
from support.site import PATIENCE, until

from compute_to_data.cli.exits import ExitCode
from compute_to_data.errors import NotFound
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.zones.irods.session import IrodsSession

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

FEDERATED = "C2D_TEST_IRODS_FEDERATED"
OWN_HOST = f"{FEDERATED}_HOST"
POLICIES = "\nfrom compute_to_data.policies import *\n"
TAG, CLAIM = "irods::compute_to_data::trigger", "irods::compute_to_data_task"
pytestmark = pytest.mark.skipif(
    not (os.environ.get(ENVIRONMENT) and os.environ.get(FEDERATED)),
    reason=f"no real zone that trusts another one is configured (set {ENVIRONMENT} and {FEDERATED})",
)


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


@pytest.fixture
def carol() -> Iterator[IrodsSession]:
    session = IrodsSession.open(os.environ[FEDERATED])
    yield session
    session.close()


@pytest.fixture
def here(carol: IrodsSession, tmp_path: Path) -> Iterator[str]:
    collection = f"{carol.home}/{tmp_path.name}"
    carol.create_collection(collection)
    yield collection
    carol.remove(collection, recursive=True)


@pytest.fixture
def terminal(carol: IrodsSession, tmp_path: Path) -> Person:
    environment = own_environment(os.environ[FEDERATED], tmp_path)
    return Person(carol.user, environment)


def types(*command: str) -> subprocess.CompletedProcess[str]:
    """An icommand of hers."""
    password = str(Path(os.environ[FEDERATED]).with_name(".irodsA"))
    environment = {"IRODS_ENVIRONMENT_FILE": os.environ[FEDERATED], "IRODS_AUTHENTICATION_FILE": password}
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        stdin=subprocess.DEVNULL,
    )


def has_ended(record: TaskRecord) -> bool:
    """Also of a task that is only claimed so far."""
    try:
        state = record.state()
    except NotFound:
        return False
    return state is not None and state.is_final


def nothing(site: RealSite, resource: str, output_collection: str) -> bytes:
    """A request that does nothing."""
    process = {"image": site.image, "exec": "/bin/true", "argv": []}
    named = {"role": site.role, "resource": resource, "output_collection": output_collection}
    return json.dumps({**named, "inputs": [], "process": process}).encode()


def test_she_is_herself(carol: IrodsSession, zone: IrodsZoneUnderTest) -> None:
    assert carol.user.zone != zone.storage().zone
    assert carol.home == f"/{zone.storage().zone}/home/{carol.user}"


def test_from_a_submission_to_a_fetched_result(
    site: RealSite, compute: str, carol: IrodsSession, terminal: Person, here: str, tmp_path: Path
) -> None:
    carol.write(f"{here}/a#1.txt", b"axbxc\n")
    process = {"image": site.image, "exec": "/bin/sh", "argv": ["-c", "cat /inputs/* | tr -d x > '/outputs/b#2.txt'"]}
    request = {"role": site.role, "resource": compute, "inputs": [f"{here}/a#1.txt"], "process": process}
    content = json.dumps({**request, "output_collection": here}).encode()
    task = terminal.gets("submit", "-", content=content)
    status = terminal.gets("wait", task["task_id"])
    assert status[0]["state"] == "COMPLETED", status
    assert status[0]["owner"] == str(carol.user)
    assert [one["task_id"] for one in terminal.gets("list", "--resource", compute)] == [task["task_id"]]
    fetched = terminal.gets("fetch", task["task_id"], str(tmp_path))
    assert (Path(fetched["directory"]) / "b#2.txt").read_bytes() == b"abc\n"
    found = carol.stat(f"{here}/{task['task_id']}/b#2.txt")
    assert isinstance(found, DataObject)
    assert found.owner == carol.user
    assert terminal.gets("rm", task["task_id"], "--yes")


def test_the_worker_has_only_her_rights(
    zone: IrodsZoneUnderTest, site: RealSite, compute: str, carol: IrodsSession, terminal: Person, here: str
) -> None:
    """Also where a local user has her name, and may read what she may not."""
    secret = site.put("secret", b"alice's")
    process = {"image": site.image, "exec": "/bin/true", "argv": []}
    request = {
        "role": site.role,
        "resource": compute,
        "inputs": [secret],
        "process": process,
        "output_collection": here,
    }
    done = terminal.types("submit", "-", content=json.dumps(request).encode())
    assert done.returncode == ExitCode.NOT_FOUND, done.stderr
    site.alice.set_access(os.path.dirname(secret), carol.user, Access.READ_OBJECT)
    site.alice.set_access(secret, carol.user, Access.READ_OBJECT)
    task = terminal.gets("submit", "-", content=json.dumps(request).encode())
    assert terminal.gets("wait", task["task_id"])[0]["state"] == "COMPLETED"
    site.alice.set_access(secret, carol.user, Access.NULL)
    hidden = terminal.types("rerun", task["task_id"])
    assert hidden.returncode == ExitCode.NOT_FOUND, hidden.stderr
    assert site.alice.access(f"{here}/{task['task_id']}") is Access.NULL


def test_each_call_names_the_other_zone(carol: IrodsSession, here: str, tmp_path: Path) -> None:
    """Her own zone lets no server of another one ask on her behalf: it answers only -39000."""
    there = f"/{carol.user.zone}/home/{carol.user.name}"
    collection, one, mine = Entity(EntityKind.COLLECTION, there), f"{there}/x", Avu("a", "b")
    calls: dict[str, Callable[[], object]] = {
        "access": lambda: carol.access(there),
        "permissions": lambda: carol.permissions(there),
        "children": lambda: carol.children(there),
        "stat": lambda: carol.stat(there),
        "avus": lambda: carol.avus(collection),
        "annotate": lambda: carol.annotate(collection, add=[mine]),
        "set_avu": lambda: carol.set_avu(there, mine),
        "read": lambda: carol.read(one, ENOUGH),
        "get": lambda: carol.get(one, str(tmp_path / "x")),
        "checksum": lambda: carol.checksum(one),
        "object_id": lambda: carol.object_id(one),
        "remove": lambda: carol.remove(one),
        "rename": lambda: carol.rename(one, f"{here}/x"),
        "set_access": lambda: carol.set_access(one, carol.user, Access.OWN),
        "set_inheritance": lambda: carol.set_inheritance(there, True),
        "replicate": lambda: carol.replicate(one, "demoResc"),
        "trim": lambda: carol.trim(one, 0),
    }
    for name, call in calls.items():
        with pytest.raises(NotFound) as caught:
            call()
        assert f"is in the zone {carol.user.zone}" in str(caught.value), name


@pytest.mark.skipif(CORE not in os.environ, reason=f"no real zone is configured whose core.py is named ({CORE})")
def test_her_rule_submits_for_her(
    zone: IrodsZoneUnderTest, site: RealSite, compute: str, carol: IrodsSession, here: str
) -> None:
    process = {"image": site.image, "exec": "/bin/true", "argv": []}
    request = {"role": site.role, "resource": compute, "inputs": [], "process": process, "output_collection": here}
    carol.write(f"{here}/task.json", json.dumps(request).encode())
    with rules(zone, site):
        file = site.place / "federated.r"
        call = f'container_dispatch("containers.run", "{here}/task.json", "", "", "")'
        file.write_text(f"main {{\n  {call}\n}}\nINPUT null\nOUTPUT ruleExecOut\n")
        done = types("irule", "-F", str(file))
    assert "COMPLETED" in done.stdout, (done.stdout, done.stderr)
    (collection,) = (one.logical_path for one in carol.children(here) if not isinstance(one, DataObject))
    found = carol.stat(f"{collection}/task.json")
    assert isinstance(found, DataObject)
    assert found.owner == carol.user


def test_a_path_of_her_own_zone_is_refused(
    compute: str, site: RealSite, carol: IrodsSession, terminal: Person, here: str
) -> None:
    """Its data would have to cross zones, and its rights are that zone's."""
    process = {"image": site.image, "exec": "/bin/true", "argv": []}
    theirs = f"/{carol.user.zone}/home/{carol.user.name}/x"
    for changed in ({"inputs": [theirs]}, {"output_collection": f"/{carol.user.zone}/home/{carol.user.name}"}):
        request = {"role": site.role, "resource": compute, "inputs": [], "process": process, "output_collection": here}
        done = terminal.types("submit", "-", content=json.dumps({**request, **changed}).encode())
        assert done.returncode in (ExitCode.REFUSED, ExitCode.NOT_FOUND), done.stderr
        assert f"is in the zone {carol.user.zone}, and only what is in " in done.stderr.decode()


@pytest.mark.skipif(CORE not in os.environ, reason=f"no real zone is configured whose core.py is named ({CORE})")
def test_what_she_stores_in_a_tagged_collection_gets_a_task_of_hers(
    zone: IrodsZoneUnderTest, site: RealSite, compute: str, carol: IrodsSession, here: str
) -> None:
    inbox, template = f"{here}/in", f"{here}/template.json"
    carol.create_collection(inbox)
    request = {**json.loads(nothing(site, compute, here)), "inputs": [{"arriving_in": inbox}]}
    carol.write(template, json.dumps(request).encode())
    carol.annotate(Entity(EntityKind.COLLECTION, inbox), add=[Avu(TAG, template)])
    with rules(zone, site) as installed:
        installed.write_core(installed.block() + POLICIES)
        file = site.place / "arriving"
        file.write_text("x")
        done = types("iput", str(file), f"{inbox}/a#1")
        assert done.returncode == 0, done.stderr
    arrived = Entity(EntityKind.DATA_OBJECT, f"{inbox}/a#1")
    until(lambda: carol.avus(arrived, CLAIM), "the task of what has arrived")
    (claim,) = carol.avus(arrived, CLAIM)
    record = TaskRecord(carol, site.configuration.attributes, f"{here}/{claim.value}", compute)
    until(lambda: has_ended(record), "its end")
    assert record.state() is State.COMPLETED, record.facts()
    found = carol.stat(f"{here}/{claim.value}/task.json")
    assert isinstance(found, DataObject)
    assert found.owner == carol.user


def test_a_namesake_here_is_somebody_else(
    zone: IrodsZoneUnderTest,
    site: RealSite,
    compute: str,
    carol: IrodsSession,
    terminal: Person,
    here: str,
    tmp_path: Path,
) -> None:
    """A local user with her name neither sees nor gets her tasks, nor she theirs."""
    local = zone.make_user(name=carol.user.name)
    namesake = Person(local, own_environment(zone.environment_of(local), tmp_path / "namesake"))
    people = {carol.user: (terminal, here), local: (namesake, zone.scratch(local))}
    tasks = {}
    for user, (person, home) in people.items():
        task = person.gets("submit", "-", content=nothing(site, compute, home))["task_id"]
        (status,) = person.gets("wait", task)
        assert (status["state"], status["owner"]) == ("COMPLETED", str(user))
        tasks[user] = task
    for user, other in ((carol.user, local), (local, carol.user)):
        person, _ = people[user]
        assert [one["task_id"] for one in person.gets("list", "--resource", compute)] == [tasks[user]]
        for words in (["cancel"], ["fetch"], ["rm", "--yes"]):
            done = person.types(*words, tasks[other])
            assert done.returncode == ExitCode.NOT_FOUND, (words, done.stdout, done.stderr)
    for user, (person, _) in people.items():
        assert person.gets("rm", tasks[user], "--yes")


@pytest.mark.skipif(not os.environ.get(OWN_HOST), reason=f"no server of her own zone is named ({OWN_HOST})")
def test_at_a_server_of_her_own_zone_what_is_here_is_refused(carol: IrodsSession, here: str, tmp_path: Path) -> None:
    """The sentence says which server to name."""
    given = Path(os.environ[FEDERATED])
    settings = {**json.loads(given.read_text()), "irods_host": os.environ[OWN_HOST]}
    file = tmp_path / "irods_environment.json"
    file.write_text(json.dumps({**settings, "irods_home": f"/{carol.user.zone}/home/{carol.user.name}"}))
    person = Person(carol.user, own_environment(str(file), tmp_path))
    assert person.gets("list") == []
    done = person.types("ls", here)
    assert done.returncode == ExitCode.NOT_FOUND
    assert f"or name a server of {here.split('/')[1]} in irods_host" in done.stderr.decode()
