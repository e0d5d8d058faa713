"""A site on a real iRODS zone, for tests: users, resources and workers of its own, all removed.

``tests/contract/irods_zone.py`` says which environment variables name the zone. Workers run as the
service account, as everywhere: the server must be able to read what tasks leave. They run the code
under test with ``C2D_TEST_IRODS_PYTHON``, a Python with python-irodsclient and Docker's client that
that account may run; by default the one that runs the tests. ``C2D_TEST_IRODS_STOP`` and
``C2D_TEST_IRODS_START`` are shell commands that stop and start the iRODS server: tests that take it
away from their workers need both.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import compute_to_data
from compute_to_data import configuration as configuration_module
from compute_to_data import submission
from compute_to_data.configuration import Configuration
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.ports import Catalog
from compute_to_data.record import State, TaskRecord
from compute_to_data.submission import Submitted
from support.site import PATIENCE, ROLE_ATTRIBUTE, wait_until

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

ENVIRONMENT = "C2D_TEST_IRODS_ENVIRONMENT_FILE"
STOP, START = "C2D_TEST_IRODS_STOP", "C2D_TEST_IRODS_START"
PYTHON = "C2D_TEST_IRODS_PYTHON"
NO_ZONE = f"no real zone is configured (set {ENVIRONMENT})"
SOURCES = Path(compute_to_data.__file__).parents[1]
_DOCKER = "/var/run/docker.sock"


def open_zone() -> IrodsZoneUnderTest:
    """The zone that the environment names."""
    from contract.irods_zone import IrodsZoneUnderTest

    return IrodsZoneUnderTest(os.environ[ENVIRONMENT])


COUNT = ("/bin/sh", "-c", "cat /inputs/* | wc -c > /outputs/count; pwd > /outputs/where")
"""What a task of these tests often does."""


class Serving:
    """A worker's process, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def said(self) -> str:
        return self._log.read_text()


class RealSite:
    """A user, a place in her home, a configuration whose engine runs plain processes or Docker."""

    def __init__(self, zone: IrodsZoneUnderTest, image: str, engine: dict[str, Any], **sections: Any) -> None:
        self.zone = zone
        self.image = image
        self.place = zone.make_place("site")
        self.alice: Catalog = zone.session(zone.make_user())
        self.home = zone.scratch(self.alice.user)
        for name in ("in", "out"):
            self.alice.create_collection(f"{self.home}/{name}")
        self.configuration = self._configure(engine, sections)
        self.role = next(iter(sections["roles"]))

    def _configure(self, engine: dict[str, Any], sections: dict[str, Any]) -> Configuration:
        state = self.zone.make_place("state")
        document = {
            "zone": {"kind": "irods"},
            "images": [self.image],
            "engine": engine,
            "worker": {"state_directory": str(state), "poll_seconds": 0.5, "stop_grace_seconds": 1},
            **sections,
        }
        file = self.place / "compute_to_data.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        return configuration_module.load(str(file))

    def compute_resource(self, *roles: str, parent: str = "") -> str:
        """A storage resource with a vault of its own that bears these roles."""
        name = self.zone.make_resource(parent=parent)
        for role in roles:
            self.zone.storage().catalog.annotate(Entity(EntityKind.RESOURCE, name), add=[Avu(ROLE_ATTRIBUTE, role)])
        return name

    @contextlib.contextmanager
    def working(self, *resources: str) -> Iterator[list[Serving]]:
        """A worker for each resource while inside; each must end well when it is told to stop."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(self._worker(resource)) for resource in resources]

    @contextlib.contextmanager
    def _worker(self, resource: str) -> Iterator[Serving]:
        log = self.place / f"{resource}.log"
        python = os.environ.get(PYTHON) or sys.executable
        command = [python, "-m", "compute_to_data.worker", "--configuration", self.configuration.source]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"}
        account, home = _service_account(self.place)
        with log.open("ab") as written:
            running = subprocess.Popen(
                [*command, "--resource", resource],
                env={**environment, "HOME": home},
                cwd="/",
                stderr=written,
                **account,
            )
        serving = Serving(running, log)
        try:
            until(lambda: running.poll() is not None or self._is_served(resource), f"a worker of {resource}")
            assert running.poll() is None, serving.said
            yield serving
        finally:
            running.terminate()
            ended = running.wait(PATIENCE)
        assert ended == 0, serving.said

    def _is_served(self, resource: str) -> bool:
        sign = self.configuration.attributes.named("worker")
        found = self.zone.storage().catalog.avus(Entity(EntityKind.RESOURCE, resource))
        return any(avu.attribute == sign for avu in found)

    def put(self, name: str, content: bytes, resource: str = "") -> str:
        """A data object in alice's ``in``; its logical path."""
        path = f"{self.home}/in/{name}"
        self.alice.write(path, content, resource=resource)
        return path

    def request(self, *argv: str, inputs: Sequence[str] = (), **more: Any) -> dict[str, Any]:
        """A request that runs ``argv``, with outputs in alice's ``out``."""
        process = {"image": self.image, "exec": argv[0], "argv": list(argv[1:])}
        return {"inputs": list(inputs), "output_collection": f"{self.home}/out", "process": process, **more}

    def submit(self, document: Any) -> Submitted:
        return submission.submit(self.alice, self.configuration, document)

    def record(self, submitted: Submitted) -> TaskRecord:
        return TaskRecord(self.alice, self.configuration.attributes, submitted.collection, submitted.resource)

    def state(self, submitted: Submitted) -> State | None:
        return self.record(submitted).state()

    def ended(self, submitted: Submitted) -> dict[str, str]:
        """Wait for the final state; the facts, with ``collection`` added."""
        until(lambda: (self.state(submitted) or State.QUEUED).is_final, f"the end of {submitted.collection}")
        return {**self.record(submitted).facts(), "collection": submitted.collection}

    def run(self, document: Any) -> dict[str, str]:
        """Submit to resources that are being served, and wait for the end."""
        return self.ended(self.submit(document))

    def replicas(self, path: str) -> dict[str, str]:
        """Where a data object lies: leaf, and the name of the replica's status."""
        found = self.alice.stat(path)
        assert isinstance(found, DataObject)
        return {replica.leaf: replica.status.name for replica in found.replicas}


def plain_site(zone: IrodsZoneUnderTest, **settings: Any) -> RealSite:
    """A site whose tasks are plain processes. Its role is its own: on a zone that others use, theirs
    would be candidates, too."""
    tools = zone.make_place("tools")
    role = {"implementation": "compute_to_data.roles.container:Container", **settings}
    return RealSite(zone, "tools", {"name": "process", "images": {"tools": str(tools)}}, roles={tools.name: role})


def succeeded(facts: dict[str, str]) -> str:
    """The collection of a task; fails with the reason when it did not end well."""
    assert facts["state"] == "COMPLETED", facts
    return facts["collection"]


def data_object(site: RealSite, path: str) -> DataObject:
    """What stands at a path, which is one."""
    found = site.alice.stat(path)
    assert isinstance(found, DataObject)
    return found


def call(variable: str) -> None:
    """Run the shell command that an environment variable holds."""
    subprocess.run(["/bin/sh", "-c", os.environ[variable]], check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, close_fds=True)  # fmt: skip


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """As ``wait_until``, asking a server that others use no more often than people would."""

    def asked() -> object:
        time.sleep(0.1)
        return condition()

    wait_until(asked, what, patience)


def _service_account(owned: Path) -> tuple[dict[str, Any], str]:
    """What starts a process as the account that owns the vaults, and its home; whoever runs the
    tests without being root is that account. Only workers get at the engine."""
    owner = owned.stat()
    home = pwd.getpwuid(owner.st_uid).pw_dir
    if os.geteuid() != 0:
        return {}, home
    groups = [os.stat(_DOCKER).st_gid] if os.path.exists(_DOCKER) else []
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": groups}, home
