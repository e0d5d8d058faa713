"""A site where tasks run, and what kills parts of it: on an embedded zone, or on a real one."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import APIError

from compute_to_data.configuration import Configuration
from compute_to_data.model import DataObject
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit as audit_of_embedded
from support.docker_daemon import BASE_IMAGE, OwnDaemon
from support.irods_site import KILL, START, STOP, RealSite, call
from support.service_worker import ServiceWorker
from support.site import COMPUTE, HOME, TrialSite

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

WORKER = {"attempts": 50, "slots": 4, "poll_seconds": 0.2, "stop_grace_seconds": 1}


@dataclass
class Site:
    """Where inputs come from, where they are computed on, and whose they are.

    ``audit`` tells in words what is wrong with the zone and its vaults, once nothing runs there.
    ``pause``: the least and the most seconds between two kills.
    """

    alice: Catalog
    storage: Storage
    configuration: Configuration
    home: str
    origin: str
    compute: str
    vaults: Sequence[Path]
    log: Path
    audit: Callable[[], list[str]]
    pause: tuple[float, float]
    has_server: bool = False

    def request(self, *argv: str, **more: Any) -> dict[str, Any]:
        """Runs ``argv`` on the compute resource, with outputs in ``out``."""
        process = {"image": BASE_IMAGE, "exec": argv[0], "argv": list(argv[1:])}
        return {"resource": self.compute, "output_collection": f"{self.home}/out", "process": process, **more}

    def submit(self, document: Any) -> Submitted:
        return submit.submit(self.alice, self.configuration, document)

    def record(self, submitted: Submitted) -> TaskRecord:
        return TaskRecord(self.alice, self.configuration.attributes, submitted.collection, self.compute)

    def data_object(self, logical_path: str) -> DataObject:
        found = self.alice.stat(logical_path)
        assert isinstance(found, DataObject)
        return found


def embedded_site(folder: Path, daemon: OwnDaemon) -> Site:
    """In a folder of the test's own."""
    site = TrialSite(folder, _engine(daemon), BASE_IMAGE, worker=WORKER)
    site.alice.create_collection(f"{HOME}/in")
    return Site(
        alice=site.alice,
        storage=site.storage,
        configuration=site.configuration,
        home=HOME,
        origin="demoResc",
        compute=COMPUTE,
        vaults=[folder / "zone" / "vaults"],
        log=folder / "worker.log",
        audit=lambda: audit_of_embedded(str(folder / "zone")),
        pause=(0.1, 1.0),
    )


def real_site(zone: IrodsZoneUnderTest, daemon: OwnDaemon) -> Site:
    """On the configured zone, with resources and a user of the test's own."""
    worker = {**WORKER, "on_demand": True, "state_directory": str(zone.make_place("state"))}
    role = {"implementation": "compute_to_data.roles.container:Container"}
    site = RealSite(zone, BASE_IMAGE, _engine(daemon), roles={"CONTAINER": role}, worker=worker)
    origin, compute = zone.make_resource(), site.compute_resource("CONTAINER")
    vaults = [Path(one.vault) for one in zone.storage().catalog.resources() if one.name in (origin, compute)]
    return Site(
        alice=site.alice,
        storage=zone.storage(),
        configuration=site.configuration,
        home=site.home,
        origin=origin,
        compute=compute,
        vaults=vaults,
        log=site.place / "worker.log",
        audit=lambda: zone.audit([origin, compute]),
        pause=(0.5, 4.0),
        has_server=True,
    )


def _engine(daemon: OwnDaemon) -> dict[str, Any]:
    return {"name": "docker", "socket": daemon.socket, "timeout_seconds": 20}


@dataclass
class Killer:
    """Kills what the tasks of a site need, again and again, and starts it again."""

    site: Site
    daemon: OwnDaemon
    chance: random.Random
    worker: ServiceWorker | None = None
    kills: Counter[str] = field(default_factory=Counter)
    victims: set[str] = field(default_factory=set)
    """Ids of the tasks whose containers were killed."""

    def start_worker(self) -> None:
        self.worker = ServiceWorker(self.site.configuration, self.site.compute, self.site.log)

    def keep_worker(self) -> None:
        """As an init system does: one that found no engine or no zone when it began is started again."""
        assert self.worker is not None
        if self.worker.ended is not None:
            assert self.worker.ended == 1, self.worker.said[-3000:]
            self.kills["worker found nothing"] += 1
            self.start_worker()

    def end_worker(self, number: int) -> int:
        assert self.worker is not None
        return self.worker.end(number)

    def kill_something(self) -> None:
        kinds = ["worker", "container", "daemon", "server"]
        (kind,) = self.chance.choices(kinds, (5, 6, 2, 2 if self.site.has_server else 0))
        self._kill(kind)

    def _kill(self, kind: str) -> None:
        if kind == "worker":
            self.end_worker(signal.SIGKILL)
            self.start_worker()
        elif kind == "daemon":
            self.daemon.kill()
            time.sleep(self.chance.uniform(0, 0.5))
            self.daemon.start()
        elif kind == "server":
            kind = self._restart_server()
        else:
            kind = self._kill_a_container()
        self.kills[kind] += 1

    def _restart_server(self) -> str:
        """Killed or stopped; and while there is none, other things are killed."""
        kind, how = self.chance.choice((("server", KILL), ("server", KILL), ("server stopped", STOP)))
        call(how if os.environ.get(how) else STOP)
        try:
            for _ in range(self.chance.randrange(3)):
                self._kill(self.chance.choice(("worker", "container", "daemon")))
        finally:
            call(START)
        return kind

    def _kill_a_container(self) -> str:
        running = self.daemon.running()
        if not running:
            return "nothing"
        one = self.chance.choice(running)
        how = self.chance.choice(("killed", "process killed", "removed"))
        with contextlib.suppress(APIError, ProcessLookupError), self.daemon.client() as client:  # it may just end
            # Docker kills a container before it removes it, and the worker may see that end in between.
            self.victims.add(one["compute_to_data.task"])
            if how == "removed":
                client.remove_container(one["Id"], force=True)
                return "container removed"
            if how == "process killed":
                process = client.inspect_container(one["Id"])["State"]["Pid"]
                if process:
                    os.kill(process, signal.SIGKILL)
            else:
                client.kill(one["Id"], signal.SIGKILL)
        return f"container {how}"


@contextlib.contextmanager
def killing(site: Site, daemon: OwnDaemon, chance: random.Random) -> Iterator[Killer]:
    """One whose worker does not outlive the test."""
    killer = Killer(site, daemon, chance)
    try:
        yield killer
    finally:
        if killer.worker is not None and killer.worker.ended is None:
            killer.end_worker(signal.SIGKILL)
