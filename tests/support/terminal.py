"""People at terminals on a real zone, and a compute resource of their own, for tests.

Needs icommands, the package and its ``core.py`` on the server (``docs/administrators.md``), and to
run on the server's host, as root or as the service's account.

``C2D_TEST_IRODS_ENVIRONMENT_FILE`` names a rodsadmin's ``irods_environment.json`` and
``C2D_TEST_IRODS_USER_ENVIRONMENT_FILE`` an ordinary user's. A resource is made in
``C2D_TEST_IRODS_VAULTS``, by default beside the vault of the administrator's default resource.
``service_worker.py`` says how workers run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from compute_to_data import site_file
from compute_to_data.configuration import Configuration
from compute_to_data.zones.irods import IrodsStorage
from support.service_worker import working

ADMINISTRATOR = "C2D_TEST_IRODS_ENVIRONMENT_FILE"
USER = "C2D_TEST_IRODS_USER_ENVIRONMENT_FILE"
VAULTS = "C2D_TEST_IRODS_VAULTS"
NATIVE = "irods_rule_engine_plugin-irods_rule_language-instance"
PATIENCE = 90.0

NO_ZONE = f"no real zone is configured (set {ADMINISTRATOR} and {USER})"


class Terminal:
    """Somebody's icommands."""

    def __init__(self, environment_file: str, folder: Path) -> None:
        self.environment_file = environment_file
        self.environment = {**os.environ, "IRODS_ENVIRONMENT_FILE": environment_file}
        password = Path(environment_file).with_name(".irodsA")
        if password.exists():
            self.environment["IRODS_AUTHENTICATION_FILE"] = str(password)
        self._folder = folder
        settings = json.loads(Path(environment_file).read_text())
        self.user = settings["irods_user_name"]
        self.zone = settings["irods_zone_name"]
        self.default_resource = settings.get("irods_default_resource", "demoResc")

    def run(self, *command: str, content: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, input=content, capture_output=True, text=True, timeout=PATIENCE
        )

    def get(self, *command: str, content: str = "") -> str:
        done = self.run(*command, content=content)
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


@contextlib.contextmanager
def opened_bench(folder: Path) -> Iterator[Bench]:
    """A bench in the configured zone, with files of its own in ``folder``; all of it goes at the end."""
    administrator = Terminal(os.environ[ADMINISTRATOR], folder)
    user = Terminal(os.environ[USER], folder)
    configuration = site_file.load(site_file.path())
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


@contextlib.contextmanager
def serving(bench: Bench, *, containers: bool = False) -> Iterator[None]:
    """A worker of the resource. It runs plain processes, or ``containers`` in the site's own engine."""
    document = json.loads(Path(bench.configuration.source).read_text())
    if not containers:
        tools = bench.place / "tools"  # nothing else writes there: an image that changes is refused
        tools.mkdir(exist_ok=True)
        document["engine"] = {"name": "process", "images": {bench.image: str(tools)}}
    file = bench.place / "configuration.json"
    file.write_text(json.dumps(document))
    file.chmod(0o644)
    storage = IrodsStorage.open(bench.administrator.environment_file)
    try:
        configuration = site_file.load(str(file))
        with working(storage.catalog, configuration, bench.resource, bench.place / "log"):
            yield
    finally:
        storage.close()
