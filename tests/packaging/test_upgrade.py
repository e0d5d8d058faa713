"""An upgrade while tasks run and wait: the next worker takes over what the version before has begun, and loses nothing.

The version before is that of the commit before. Where there is no such commit, as in a shallow clone, it is the same
version again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
from support.site import COMPUTE, HOME, PATIENCE, ROLE_ATTRIBUTE, ZONE, contents, wait_until

from compute_to_data import site_file
from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.model import User
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.zones.embedded import EmbeddedZone
from compute_to_data.zones.embedded.audit import audit

from .conftest import (
    CHECKOUT,
    ScratchServer,
    build_debian_package,
    make_package_database,
    make_server,
    make_wheels,
    must_dpkg,
)

VENV = "/opt/compute-to-data/venv/bin/python"
IMAGE = "tools"
MAKE_ZONE = f"""
import sys
from compute_to_data.model import Avu, Entity, EntityKind, User
from compute_to_data.zones.embedded import EmbeddedZone
zone = EmbeddedZone.create(sys.argv[1], zone="{ZONE}")
zone.add_user("alice")
zone.add_resource("{COMPUTE}")
zone.session(User("alice", "{ZONE}")).create_collection("{HOME}/out")
role = Avu("{ROLE_ATTRIBUTE}", "CONTAINER")
zone.storage().catalog.annotate(Entity(EntityKind.RESOURCE, "{COMPUTE}"), add=[role])
zone.close()
"""
RUNS = "echo x >> times; echo begun; echo > started; while [ ! -e go ]; do sleep 0.02; done; rm go started; echo ended"
WAITS = "echo x >> times; echo later"


def _version_before(folder: Path) -> Path:
    """A checkout of the version before."""
    command = ["git", "-C", str(CHECKOUT), "archive", "--format=tar", "HEAD~1"]
    try:
        archive = subprocess.run(command, capture_output=True, check=True).stdout
    except (subprocess.CalledProcessError, OSError):
        shutil.copytree(CHECKOUT / "compute_to_data", folder / "compute_to_data")
        for name in ("packaging", "rules", "docs"):
            shutil.copytree(CHECKOUT / name, folder / name)
        for name in ("core.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(CHECKOUT / name, folder)
        return folder
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        tar.extractall(folder)
    return folder


@dataclass(frozen=True)
class VersionBefore:
    """``server``: one on which the installer installed this version. Tests copy its root."""

    server: ScratchServer
    wheels: Path


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> VersionBefore:
    checkout = _version_before(tmp_path_factory.mktemp("before"))
    wheels = make_wheels(tmp_path_factory, checkout, seconds=600)
    server = make_server(tmp_path_factory.mktemp("server-before") / "root", checkout)
    server.must("install", "--wheels", str(wheels))
    return VersionBefore(server, wheels)


Upgrade = Callable[[ScratchServer], object]


@pytest.fixture
def by_the_installer(
    before: VersionBefore, checkout: Path, wheels: Path, tmp_path: Path
) -> tuple[ScratchServer, Upgrade]:
    """A server with the version before, and what upgrades it."""
    server = ScratchServer(tmp_path / "root", checkout)
    shutil.copytree(before.server.root, server.root, symlinks=True)
    return server, lambda one: one.must("install", "--wheels", str(wheels))


@pytest.fixture(scope="session")
def package_before(tmp_path_factory: pytest.TempPathFactory, before: VersionBefore) -> Path:
    return build_debian_package(before.server, before.wheels, tmp_path_factory.mktemp("deb-before"))


@pytest.fixture
def by_the_package(package_before: Path, package: Path, server: ScratchServer) -> tuple[ScratchServer, Upgrade]:
    """As :func:`by_the_installer`, with the Debian packages of both versions."""
    make_package_database(server)
    must_dpkg(server, "--install", str(package_before))
    return server, lambda one: must_dpkg(one, "--install", str(package))


@pytest.fixture(params=["by_the_installer", "by_the_package"])
def upgraded(request: pytest.FixtureRequest, wheels: Path) -> tuple[ScratchServer, Upgrade]:
    if request.param == "by_the_package" and not shutil.which("dpkg-deb"):
        pytest.skip("no Debian: dpkg-deb is missing")
    found: tuple[ScratchServer, Upgrade] = request.getfixturevalue(request.param)
    return found


@dataclass
class Site:
    """A site whose worker and client are those that are installed on a server."""

    server: ScratchServer
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "image").mkdir()
        (self.folder / "image" / "README").write_text("no program of its own")
        self.configuration = self.folder / "compute_to_data.json"
        document = {
            "zone": {"kind": "embedded", "directory": str(self.folder / "zone")},
            "images": [IMAGE],
            "engine": {"name": "process", "images": {IMAGE: str(self.folder / "image")}},
            "worker": {"state_directory": str(self.folder / "state"), "slots": 2, "on_demand": False},
        }
        self.configuration.write_text(json.dumps(document))
        zone = {"kind": "embedded", "directory": str(self.folder / "zone"), "user": "alice"}
        (self.folder / "alice.json").write_text(json.dumps({"zone": zone, "site": str(self.configuration)}))
        self.run("-c", MAKE_ZONE, str(self.folder / "zone"))

    def run(self, *words: str) -> str:
        """Run the installed Python."""
        files = {"C2D_CONFIG_FILE": self.folder / "alice.json", "C2D_SESSION_FILE": self.folder / "session.json"}
        environment = {**os.environ, **{name: str(file) for name, file in files.items()}}
        command = [str(self.server.path(VENV)), "-I", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def begin_work(self) -> subprocess.Popen[bytes]:
        """Start the installed worker; returns when it serves."""
        words = ["-I", "-m", "compute_to_data.worker", "--configuration", str(self.configuration)]
        with open(self.folder / "worker.log", "ab") as log:
            worker = subprocess.Popen(
                [str(self.server.path(VENV)), *words, "--resource", COMPUTE], stdout=log, stderr=log, cwd="/"
            )
        self.workers.append(worker)
        lock = ResourceLock(site_file.load(str(self.configuration)), ZONE, COMPUTE)
        wait_until(lambda: worker.poll() is not None or lock.is_held(), "the worker to serve")
        assert worker.poll() is None, self.log()
        return worker

    def log(self) -> str:
        return (self.folder / "worker.log").read_text()

    def submit(self, script: str) -> str:
        """Submit a task with the installed client; returns its collection."""
        process = {"image": IMAGE, "exec": "/bin/sh", "argv": ["-c", script]}
        request = {"resource": COMPUTE, "output_collection": f"{HOME}/out", "process": process}
        file = self.folder / "request.json"
        file.write_text(json.dumps(request))
        said = json.loads(self.run("-m", "compute_to_data.cli.main", "submit", str(file), "--output", "json"))
        return str((said[0] if isinstance(said, list) else said)["collection"])

    def places(self) -> list[Path]:
        """Where the outputs lie of the tasks that run."""
        return [one.parent for one in (self.folder / "zone" / "vaults" / COMPUTE).rglob("started")]

    def facts(self, collection: str) -> dict[str, str]:
        """A task's facts, as the code of this checkout reads them; with ``state``."""
        zone = EmbeddedZone(str(self.folder / "zone"))
        try:
            attributes = site_file.load(str(self.configuration)).attributes
            record = TaskRecord(zone.session(User("alice", ZONE)), attributes, collection, COMPUTE)
            state = record.state()
            return {**record.facts(), "state": state.value if state else ""}
        finally:
            zone.close()

    def contents(self, collection: str) -> dict[str, bytes]:
        zone = EmbeddedZone(str(self.folder / "zone"))
        try:
            return contents(zone.session(User("alice", ZONE)), collection)
        finally:
            zone.close()

    def close(self) -> None:
        """End the workers, and let jobs end that still run."""
        for worker in self.workers:
            worker.kill()
            worker.wait()
        for place in self.places():
            (place / "go").touch()


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Callable[[ScratchServer], Site]]:
    made: list[Site] = []

    def open_one(server: ScratchServer) -> Site:
        folder = tmp_path / "site"
        folder.mkdir()
        made.append(Site(server, folder))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, None], ids=["stopped", "killed", "running on"])
def test_tasks_that_run_and_wait_are_taken_over(
    number: signal.Signals | None,
    upgraded: tuple[ScratchServer, Upgrade],
    open_site: Callable[[ScratchServer], Site],
) -> None:
    """``running on``: as workers do that no systemd has started, until the administrator restarts them."""
    server, upgrade = upgraded
    site = open_site(server)
    worker = site.begin_work()
    wait_until(lambda: "no live worker" not in site.run("-m", "compute_to_data.cli.main", "resources"), "its heartbeat")
    running = [site.submit(RUNS) for _ in range(2)]
    wait_until(lambda: len(site.places()) == len(running), "two tasks to run")
    queued = [site.submit(WAITS) for _ in range(3)]

    upgrade(server)
    if number is not None:
        worker.send_signal(number)
        worker.wait(PATIENCE)
    states = [site.facts(one)["state"] for one in (*running, *queued)]
    assert states == [State.RUNNING.value] * 2 + [State.QUEUED.value] * 3

    if number is not None:
        site.begin_work()
    for place in site.places():
        (place / "go").touch()
    for one in (*running, *queued):
        wait_until(lambda one=one: State(site.facts(one)["state"]).is_final, f"the end of {one}")
        facts, found = site.facts(one), site.contents(one)
        assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), site.log()
        assert found["times"] == b"x\n"
        assert found["STDOUT.txt"] == (b"begun\nended\n" if one in running else b"later\n")
    assert audit(str(site.folder / "zone")) == []
