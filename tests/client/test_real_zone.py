"""``c2d`` on a real iRODS zone, as an ordinary user who has only run ``iinit``.

``tests/contract/irods_zone.py`` says which environment variables name a zone. The worker runs plain
processes, because other tests cover sandboxes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.irods_site import zone_section
from support.reading import ENOUGH
from support.real_people import Person, own_environment
from support.service_worker import working

from compute_to_data import site_file
from compute_to_data.cli.exits import ExitCode
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

ENVIRONMENT_VARIABLE = "C2D_TEST_IRODS_ENVIRONMENT_FILE"
IMAGE = "tools"

pytestmark = pytest.mark.skipif(
    not os.environ.get(ENVIRONMENT_VARIABLE), reason=f"no real zone is configured (set {ENVIRONMENT_VARIABLE})"
)


@pytest.fixture(scope="module")
def zone() -> Iterator[IrodsZoneUnderTest]:
    from contract.irods_zone import IrodsZoneUnderTest

    under_test = IrodsZoneUnderTest(os.environ[ENVIRONMENT_VARIABLE])
    yield under_test
    under_test.close()


@pytest.fixture(scope="module")
def resource(zone: IrodsZoneUnderTest) -> Iterator[str]:
    """A compute resource with a worker."""
    name = zone.make_resource()
    entity = Entity(EntityKind.RESOURCE, name)
    zone.storage().catalog.annotate(entity, add=[Avu("COMPUTE_RESOURCE_ROLE", "CONTAINER")])
    place = zone.make_place("worker")
    (place / "tools").mkdir()
    engine = {"name": "process", "images": {IMAGE: str(place / "tools")}}
    worker = {"state_directory": str(zone.make_place("state")), "poll_seconds": 0.5}
    document = {"zone": zone_section(), "images": [IMAGE], "engine": engine, "worker": worker}
    file = place / "configuration.json"
    file.write_text(json.dumps(document))
    with working(zone.storage().catalog, site_file.load(str(file)), name, place / "log"):
        yield name


@pytest.fixture
def person(zone: IrodsZoneUnderTest, tmp_path: Path) -> Person:
    user = zone.make_user()
    return Person(user, own_environment(zone.environment_of(user), tmp_path))


def test_from_one_command_to_a_fetched_result(
    zone: IrodsZoneUnderTest, resource: str, person: Person, tmp_path: Path
) -> None:
    home = f"/{person.user.zone}/home/{person.user.name}"
    zone.session(person.user).write(f"{home}/a.txt", b"axbxc\n")
    script = "tr -d x < /inputs/a.txt | tee /outputs/b.txt; echo beside >&2"
    done = person.types("run", IMAGE, "--resource", resource, "--input", "a.txt", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, b"abc\n"), done.stderr.decode()
    assert b"beside\n" in done.stderr
    (listed,) = person.gets("list")
    assert (listed["state"], listed["resource"], listed["owner"]) == ("COMPLETED", resource, str(person.user))
    status = person.gets("status", listed["task_id"][:8])
    assert status["inputs"][0]["object"] == f"{home}/a.txt"
    assert status["seconds"].keys() == {"queued", "stage_in", "processing", "stage_out"}
    fetched = person.gets("fetch", listed["task_id"], str(tmp_path))
    assert (Path(fetched["directory"]) / "b.txt").read_bytes() == b"abc\n"
    found = zone.session(person.user).stat(f"{listed['collection']}/b.txt")
    assert isinstance(found, DataObject)
    assert found.owner == person.user
    again = person.gets("rerun", listed["task_id"], "--wait")
    assert again["state"] == "COMPLETED"
    assert len(person.gets("list", "--state", "COMPLETED", "--resource", resource, "--limit", "1")) == 1


def test_a_process_definition_is_kept_shared_and_run_by_name(
    zone: IrodsZoneUnderTest, resource: str, person: Person, tmp_path: Path
) -> None:
    home = f"/{person.user.zone}/home/{person.user.name}"
    catalog = zone.session(person.user)
    catalog.write(f"{home}/a.txt", b"axbxc\n")
    stream = {"input_type": "file", "input_params": {"file_type": "stream", "stream_name": "STDIN"}}
    definition = {"exec": "tr", "application": IMAGE, "argv": ["-d", "x"], "input_adapter": stream}
    made = person.gets("process", "create", "-", "--name", "tr", content=json.dumps(definition).encode())
    task = person.gets("run", "--process", "tr", "--resource", resource, "--input", "a.txt")
    assert person.gets("logs", task["task_id"])["stdout"] == "abc\n"
    recorded = json.loads(catalog.read(f"{task['collection']}/task.json", ENOUGH))
    assert recorded["definition"]["checksum"] == made["checksum"] == catalog.checksum(made["data_object"])
    other = zone.make_user()
    stranger = Person(other, own_environment(zone.environment_of(other), tmp_path / "other"))
    assert stranger.types("process", "show", str(made["id"])).returncode == ExitCode.NOT_FOUND
    for path in (home, f"{home}/processes", made["data_object"]):
        catalog.set_access(path, other, Access.READ_OBJECT)
    catalog.rename(made["data_object"], f"{home}/processes/translate.json")
    assert stranger.gets("process", "show", str(made["id"]))["data_object"] == f"{home}/processes/translate.json"
    assert stranger.types("process", "delete", str(made["id"])).returncode == ExitCode.REFUSED
    changed = person.gets(
        "process", "update", "tr", "-", content=json.dumps({**definition, "argv": ["-d", "b"]}).encode()
    )
    assert changed["id"] == made["id"]
    assert person.types("process", "delete", "tr").returncode == 0
    assert person.gets("process", "list") == []


def test_a_running_task_is_cancelled_by_its_owner_only(
    zone: IrodsZoneUnderTest, resource: str, person: Person, tmp_path: Path
) -> None:
    file = tmp_path / "long.json"
    process = {"image": IMAGE, "exec": "sleep", "argv": ["120"]}
    file.write_text(json.dumps({"resource": resource, "inputs": [], "process": process}))
    task = person.gets("submit", str(file))
    other = zone.make_user()
    stranger = Person(other, own_environment(zone.environment_of(other), tmp_path))
    assert stranger.types("cancel", task["collection"]).returncode in (ExitCode.NOT_FOUND, ExitCode.REFUSED)
    assert stranger.types("cancel", "--admin", task["task_id"]).returncode == ExitCode.REFUSED
    (ended,) = person.gets("cancel", task["task_id"], "--wait")
    assert ended["state"] == "CANCELLED"
    assert person.types("wait", task["task_id"]).returncode == ExitCode.CANCELLED


def test_mistakes_give_one_sentence_and_an_exit_code(
    zone: IrodsZoneUnderTest, resource: str, person: Person, tmp_path: Path
) -> None:
    idle = zone.make_resource()
    entity = Entity(EntityKind.RESOURCE, idle)
    zone.storage().catalog.annotate(entity, add=[Avu("COMPUTE_RESOURCE_ROLE", "CONTAINER")])

    def said(*words: str) -> tuple[int, str]:
        done = person.types(*words)
        assert done.stdout == b""
        assert done.stderr.count(b"\n") == 1, done.stderr.decode()
        return done.returncode, done.stderr.decode()

    code, text = said("run", IMAGE, "--resource", idle, "--", "true")
    assert (code, f"resource {idle}: has no live worker" in text) == (ExitCode.REFUSED, True)
    assert said("run", "another", "--resource", resource, "--", "true")[0] == ExitCode.REFUSED
    assert said("run", IMAGE, "--resource", "nowhere", "--", "true")[0] == ExitCode.NOT_FOUND
    assert said("run", IMAGE, "--resource", resource, "--input", "none", "--", "true")[0] == ExitCode.NOT_FOUND
    assert said("status", "nothing")[0] == ExitCode.NOT_FOUND
    assert said("project", "set", "nowhere")[0] == ExitCode.NOT_FOUND
    environment_file = Path(person.environment["IRODS_ENVIRONMENT_FILE"])
    settings = json.loads(environment_file.read_text())
    environment_file.write_text(json.dumps({**settings, "irods_user_name": "nobody-of-that-name"}))
    code, text = said("list")
    assert (code, "no such user" in text) == (ExitCode.NOT_FOUND, True)
    environment_file.write_text(json.dumps(settings))
    environment_file.with_name(".irodsA").unlink()
    person.environment["HOME"] = str(tmp_path)
    code, text = said("list")
    assert (code, "not logged in" in text, "iinit" in text) == (ExitCode.REFUSED, True, True)


def test_a_wrong_password(zone: IrodsZoneUnderTest, person: Person) -> None:
    from irods import password_obfuscation

    file = Path(person.environment["IRODS_ENVIRONMENT_FILE"]).with_name(".irodsA")
    file.write_text(password_obfuscation.encode("another"))
    done = person.types("list")
    assert done.returncode == ExitCode.REFUSED
    assert b"the password is wrong, or has expired. Log in with: iinit." in done.stderr


def test_only_its_owner_can_read_a_secret(zone: IrodsZoneUnderTest, person: Person) -> None:
    made = person.gets("secret", "create", "k", content=b"hush\0")
    assert made["readers"] == [str(person.user)]
    assert zone.session(person.user).read(made["data_object"], ENOUGH) == b"hush\0"
    assert [one["name"] for one in person.gets("secret", "list")] == ["k"]
    assert person.types("secret", "delete", "k").returncode == 0
    assert person.gets("secret", "list") == []
