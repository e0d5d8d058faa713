"""A site on a real iRODS zone, for tests: users, resources and workers of its own, all removed.

``tests/contract/irods_zone.py`` says which environment variables name the zone, and
``service_worker.py`` how workers run. ``C2D_TEST_IRODS_STOP`` and ``C2D_TEST_IRODS_START`` are shell
commands that stop and start the iRODS server, the second returning when it listens; tests that take it
away from their workers need both. ``C2D_TEST_IRODS_KILL`` kills it with -9, and all that it started.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compute_to_data import site_file
from compute_to_data.configuration import Configuration
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted
from support.service_worker import ServiceWorker, working
from support.site import BASE_IMAGE, PATIENCE, ROLE_ATTRIBUTE, until, wait_until

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

ENVIRONMENT = "C2D_TEST_IRODS_ENVIRONMENT_FILE"
SERVICE = "C2D_TEST_IRODS_SERVICE_ENVIRONMENT_FILE"
STOP, START, KILL = "C2D_TEST_IRODS_STOP", "C2D_TEST_IRODS_START", "C2D_TEST_IRODS_KILL"
NO_ZONE = f"no real zone is configured (set {ENVIRONMENT})"


def zone_section(variable: str = SERVICE) -> dict[str, str]:
    """A configuration's ``zone``. ``variable``: what names the service account's environment, if it is not at the
    place where the account of a server on this host has it."""
    named = os.environ.get(variable)
    return {"kind": "irods", **({"environment_file": named} if named else {})}


def open_zone() -> IrodsZoneUnderTest:
    """The zone that the environment names."""
    from contract.irods_zone import IrodsZoneUnderTest

    return IrodsZoneUnderTest(os.environ[ENVIRONMENT])


COUNT = ("/bin/sh", "-c", "cat /inputs/* | wc -c > /outputs/count; pwd > /outputs/where")
"""What a task of these tests often does."""


JOB_UIDS = {"job_uids": "300000-365535"}
"""The account of a real zone's server may have no subordinate ids on this machine."""


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
            "zone": zone_section(),
            "images": [self.image],
            "engine": {**JOB_UIDS, **engine} if engine["name"] == "docker" else engine,
            "worker": {"state_directory": str(state), "poll_seconds": 0.5, "stop_grace_seconds": 1},
            **sections,
        }
        file = self.place / "compute_to_data.json"
        file.write_text(json.dumps(document), encoding="utf-8")
        return site_file.load(str(file))

    def compute_resource(self, *roles: str, parent: str = "", host: str = "") -> str:
        """A storage resource with a vault of its own that bears these roles."""
        name = self.zone.make_resource(parent=parent, host=host)
        for role in roles:
            self.zone.storage().catalog.annotate(Entity(EntityKind.RESOURCE, name), add=[Avu(ROLE_ATTRIBUTE, role)])
        return name

    @contextlib.contextmanager
    def working(self, *resources: str) -> Iterator[list[ServiceWorker]]:
        """A worker for each resource while inside; each must end well when it is told to stop."""
        catalog = self.zone.storage().catalog
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(working(catalog, self.configuration, one, self.place / f"{one}.log"))
                for one in resources
            ]

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
        return submit.submit(self.alice, self.configuration, document)

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


def sandboxed_site(zone: IrodsZoneUnderTest, *images: str) -> RealSite:
    """A site whose tasks run in sandboxes of Docker, with a role of its own. ``images``: more that may run."""
    role = zone.make_place("role").name
    roles = {role: {"implementation": "compute_to_data.roles.container:Container"}}
    return RealSite(zone, BASE_IMAGE, {"name": "docker"}, roles=roles, images=[BASE_IMAGE, *images])


def outputs_of(site: RealSite, collection: str, resource: str) -> Path:
    """The outputs of a task that runs: in the vault, below the physical path of its collection."""
    vault = next(one.vault for one in site.alice.resources() if one.name == resource)
    place = Path(vault, *collection.split("/")[2:])
    wait_until(lambda: any(one.is_dir() for one in place.rglob("outputs")), f"the outputs of {collection}")
    (outputs,) = place.rglob("outputs")
    return outputs


def let_go(site: RealSite, collection: str, resource: str) -> None:
    """A task that WAITS goes on."""
    (outputs_of(site, collection, resource) / "go").touch()


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
    subprocess.run(["/bin/sh", "-c", os.environ[variable]], check=True, timeout=10 * PATIENCE, stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, close_fds=True)  # fmt: skip
