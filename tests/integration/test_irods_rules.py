"""The rules on a real zone, called as users call them: ``irule``, at a terminal of their own.

Needs icommands, the package and its ``core.py`` on the server (``docs/administrators.md``), and to
run on the server's host, as root or as the service's account.

``C2D_TEST_IRODS_ENVIRONMENT_FILE`` names a rodsadmin's ``irods_environment.json`` and
``C2D_TEST_IRODS_USER_ENVIRONMENT_FILE`` an ordinary user's. A resource is made in
``C2D_TEST_IRODS_VAULTS``, by default beside the vault of the administrator's default resource.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compute_to_data import configuration as configuration_module
from compute_to_data.configuration import Configuration
from compute_to_data.rule_boundary import CONFIGURATION, CONFIGURATION_VARIABLE

ADMINISTRATOR = "C2D_TEST_IRODS_ENVIRONMENT_FILE"
USER = "C2D_TEST_IRODS_USER_ENVIRONMENT_FILE"
VAULTS = "C2D_TEST_IRODS_VAULTS"
NATIVE = "irods_rule_engine_plugin-irods_rule_language-instance"
PATIENCE = 90.0

pytestmark = pytest.mark.skipif(
    not (os.environ.get(ADMINISTRATOR) and os.environ.get(USER)),
    reason=f"no real zone is configured (set {ADMINISTRATOR} and {USER})",
)


class Terminal:
    """Somebody's icommands."""

    def __init__(self, environment_file: str, folder: Path) -> None:
        self._environment = {**os.environ, "IRODS_ENVIRONMENT_FILE": environment_file}
        self._folder = folder
        settings = json.loads(Path(environment_file).read_text())
        self.user = settings["irods_user_name"]
        self.zone = settings["irods_zone_name"]
        self.default_resource = settings.get("irods_default_resource", "demoResc")

    def run(self, *command: str, content: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self._environment, input=content, capture_output=True, text=True, timeout=PATIENCE
        )

    def get(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def put(self, logical_path: str, content: str) -> None:
        file = self._folder / uuid.uuid4().hex
        file.write_text(content)
        self.get("iput", "-f", str(file), logical_path)

    def irule(self, body: str, *options: str) -> subprocess.CompletedProcess[str]:
        file = self._folder / f"{uuid.uuid4().hex}.r"
        file.write_text(f"main {{\n  {body}\n}}\nINPUT null\nOUTPUT ruleExecOut\n")
        return self.run("irule", *options, "-F", str(file))

    def avus(self, collection: str) -> dict[str, str]:
        listed = self.get("imeta", "ls", "-C", collection)
        return dict(re.findall(r"attribute: (?:irods::compute_to_data::)?(.*)\nvalue: (.*)\n", listed))


@dataclasses.dataclass
class Bench:
    """A user's place in the zone and a compute resource, both of this test run."""

    user: Terminal
    administrator: Terminal
    resource: str
    home: str
    place: Path
    configuration: Configuration

    @property
    def image(self) -> str:
        return next(rule.name for rule in self.configuration.images if rule.name)

    def request(self, **changes: object) -> str:
        document = {
            "role": "CONTAINER",
            "resource": self.resource,
            "inputs": [f"{self.home}/in/x.txt"],
            "output_collection": f"{self.home}/out",
            "process": {"image": self.image, "exec": "/bin/sh", "argv": ["-c", "rev /inputs/x.txt > /outputs/y.txt"]},
            **changes,
        }
        return json.dumps(document)

    def written(self, **changes: object) -> str:
        self.user.put(f"{self.home}/task.json", self.request(**changes))
        return f"{self.home}/task.json"

    def seen(self) -> str:
        return self.user.get("ils", "-Alr", self.home)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("terminal")
    administrator = Terminal(os.environ[ADMINISTRATOR], folder)
    user = Terminal(os.environ[USER], folder)
    configuration = configuration_module.load(os.environ.get(CONFIGURATION_VARIABLE, CONFIGURATION))
    tag = f"c2dt{uuid.uuid4().hex[:6]}"
    listed = administrator.get("ilsresc", "-l", administrator.default_resource)
    host = re.search(r"location: (.*)", listed)[1]  # type: ignore[index]
    beside = Path(re.search(r"vault: (.*)", listed)[1])  # type: ignore[index]
    place = Path(os.environ.get(VAULTS) or beside.parent, tag)
    for directory in (place, place / "vault"):
        directory.mkdir()
        os.chown(directory, beside.stat().st_uid, beside.stat().st_gid)
    administrator.get("iadmin", "mkresc", tag, "unixfilesystem", f"{host}:{place}/vault")
    home = f"/{user.zone}/home/{user.user}/{tag}"
    user.get("imkdir", "-p", f"{home}/in", f"{home}/out")
    user.put(f"{home}/in/x.txt", "abc\n")
    administrator.get("imeta", "add", "-R", tag, configuration.attributes.role, "CONTAINER")
    yield Bench(user, administrator, tag, home, place, configuration)
    user.get("irm", "-rf", home)
    administrator.get("iadmin", "rmresc", tag)
    shutil.rmtree(place)


@pytest.fixture
def sign_of_life(bench: Bench) -> Iterator[None]:
    """The resource looks as if a worker served it, and none does: what is queued stays queued."""
    sign = (bench.configuration.attributes.named("worker"), "test:0", str(int(time.time())))
    bench.administrator.get("imeta", "add", "-R", bench.resource, *sign)
    yield
    bench.administrator.get("imeta", "rm", "-R", bench.resource, *sign)


@pytest.fixture
def worker(bench: Bench) -> Iterator[None]:
    """A worker of the resource, run by the service's account as everywhere: the server must be able
    to read what it leaves. It runs plain processes: the container engine has tests of its own."""
    document = json.loads(Path(bench.configuration.source).read_text())
    document["engine"] = {"name": "process", "images": {bench.image: str(bench.place)}}
    file = bench.place / "configuration.json"
    file.write_text(json.dumps(document))
    file.chmod(0o644)
    owner = bench.place.stat()
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    with (bench.place / "log").open("w+") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "compute_to_data.worker", "--configuration", file, "--resource", bench.resource],
            env={"PATH": os.environ["PATH"], "HOME": pwd.getpwuid(owner.st_uid).pw_dir},
            cwd="/",
            stderr=log,
            **account,
        )
        deadline = time.monotonic() + PATIENCE
        sign = bench.configuration.attributes.named("worker")
        while sign not in bench.administrator.get("imeta", "ls", "-R", bench.resource):
            assert running.poll() is None and time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.05)
        yield
        running.terminate()
        assert running.wait(PATIENCE) == 0, Path(log.name).read_text()


def dispatch(request: str, resource: str = "", task_id: str = "") -> str:
    return f'container_dispatch("containers.run", "{request}", "{resource}", "", "{task_id}");'


def test_a_task_from_the_users_terminal_to_its_results(bench: Bench, worker: None) -> None:
    done = bench.user.irule(dispatch(bench.written(), task_id="whole"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task whole COMPLETED" in done.stdout
    assert bench.user.get("iget", f"{bench.home}/out/whole/y.txt", "-") == "cba\n"
    listed = bench.user.get("ils", "-l", f"{bench.home}/out/whole")
    assert re.search(rf"{bench.user.user} +0 {bench.resource} .* & y.txt", listed), listed
    assert re.search(rf" 1 {bench.resource} .* & x.txt", bench.user.get("ils", "-l", f"{bench.home}/in"))


def test_a_failing_task_tells_why_and_gives_its_code(bench: Bench, worker: None) -> None:
    request = bench.written(process={"image": bench.image, "exec": "/bin/sh", "argv": ["-c", "echo no >&2; exit 3"]})
    told = bench.user.irule(dispatch(request, task_id="fails"))
    assert "task fails FAILED" in told.stdout
    assert "(iRODS code -344000)" in told.stdout
    coded = bench.user.irule(dispatch(request, task_id="fails-too"), "-r", NATIVE)
    assert coded.returncode != 0
    assert "task fails-too FAILED" in coded.stdout, "irule -r shows the sentence, too"
    assert "-344000" in coded.stderr


def test_submitting_hands_back_the_id_at_once(bench: Bench, sign_of_life: None) -> None:
    body = '*id = ""; container_submit("containers.run", "%s", "", "", *id); writeLine("stdout", "id=*id");'
    done = bench.user.irule(body % bench.written(), "-r", NATIVE)
    found = re.search(r"^id=([0-9a-f-]{36})$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    collection = f"{bench.home}/out/{found[1]}"
    facts = bench.user.avus(collection)
    assert (facts["state"], facts["role"], facts["resource"]) == ("QUEUED", "CONTAINER", bench.resource)
    assert json.loads(bench.user.get("iget", f"{collection}/task.json", "-"))["version"] == 1


def test_a_delayed_rule_queues_and_does_not_wait(bench: Bench, sign_of_life: None) -> None:
    settings = f"<PLUSET>1s</PLUSET><INST_NAME>{NATIVE}</INST_NAME>"
    body = f'delay("{settings}") {{ {dispatch(bench.written(), task_id="later")} }}'
    assert bench.user.irule(body).returncode == 0
    collection, deadline = f"{bench.home}/out/later", time.monotonic() + PATIENCE
    while bench.user.run("imeta", "ls", "-C", collection, "irods::compute_to_data::state").stdout.count("QUEUED") == 0:
        assert time.monotonic() < deadline, "the delay server has not queued the task"
        time.sleep(0.5)
    while bench.user.get("iqstat").strip().startswith("id"):
        assert time.monotonic() < deadline, "the delayed rule has not ended"
        time.sleep(0.5)
    assert bench.user.avus(collection)["state"] == "QUEUED"


REFUSALS = {
    "another docker command": (lambda b: dispatch(b.written()).replace("containers.run", "images.pull"), -130000),
    "no such request": (lambda b: dispatch(f"{b.home}/none.json"), -358000),
    "a collection as request": (lambda b: dispatch(f"{b.home}/in"), -358000),
    "not JSON": (lambda b: dispatch(f"{b.home}/in/x.txt"), -130000),
    "an option in the path": (lambda b: dispatch(f"{b.home}/none.json++++openFlags=O_RDWR"), -317000),
    "unknown resource": (lambda b: dispatch(b.written(), "no_such_resource"), -78000),
    "no compute resource": (lambda b: dispatch(b.written(), b.administrator.default_resource), -130000),
    "a role it does not bear": (lambda b: dispatch(b.written(role="SIGNAL_PROCESSING")), -130000),
    "missing input": (lambda b: dispatch(b.written(inputs=[f"{b.home}/in/none.txt"])), -310000),
    "somebody else's input": (lambda b: dispatch(b.written(inputs=[_foreign(b)])), -310000),
    "somebody else's collection": (lambda b: dispatch(b.written(output_collection=_foreign(b))), -310000),
    "image not allowed": (lambda b: dispatch(b.written(process={"image": "no/such:1", "exec": "x"})), -130000),
    "malformed": (lambda b: dispatch(b.written(limits={"walltime_seconds": "long"})), -130000),
    "a path as task id": (lambda b: dispatch(b.written(), task_id="../x"), -130000),
    "too few arguments": (lambda b: 'container_dispatch("containers.run");', -130000),
}


def _foreign(bench: Bench) -> str:
    return f"/{bench.administrator.zone}/home/{bench.administrator.user}"


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_is_told_with_its_code(bench: Bench, sign_of_life: None, name: str) -> None:
    body, code = REFUSALS[name]
    called = body(bench)
    before = bench.seen()
    told = bench.user.irule(called)
    assert f"(iRODS code {code})" in told.stdout, told.stdout + told.stderr
    coded = bench.user.irule(called, "-r", NATIVE)
    assert coded.returncode != 0
    assert f"status = {code} " in coded.stderr
    assert "container_dispatch: " in coded.stdout
    assert bench.seen() == before


def test_without_a_worker_nothing_is_queued(bench: Bench) -> None:
    if bench.configuration.worker.on_demand:
        pytest.skip("this site starts workers on demand")
    request, before = bench.written(), bench.seen()
    told = bench.user.irule(dispatch(request))
    assert "has no live worker" in told.stdout
    assert bench.seen() == before
