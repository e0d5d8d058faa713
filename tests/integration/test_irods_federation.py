"""A user of another zone, which this zone trusts, works here: ``c2d``, rules and rights.

``C2D_TEST_IRODS_FEDERATED`` names the environment file of such a user, whose own zone checks the password, at a server
of this zone; her home is ``/<this zone>/home/<user>#<her zone>``. ``support/zone_of_two.py`` makes one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.irods_server import CORE, rules
from support.irods_site import ENVIRONMENT, RealSite, plain_site
from support.real_people import Person, own_environment
from support.site import PATIENCE

from compute_to_data.cli.exits import ExitCode
from compute_to_data.model import Access, DataObject
from compute_to_data.zones.irods.session import IrodsSession

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

FEDERATED = "C2D_TEST_IRODS_FEDERATED"
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
        password = str(Path(os.environ[FEDERATED]).with_name(".irodsA"))
        environment = {"IRODS_ENVIRONMENT_FILE": os.environ[FEDERATED], "IRODS_AUTHENTICATION_FILE": password}
        done = subprocess.run(
            ["irule", "-F", str(file)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            stdin=subprocess.DEVNULL,
        )
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
