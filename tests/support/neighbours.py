"""Two users of one compute resource, on an embedded or a real zone: one floods the zone, the other only works there.

The flood is in ``floods.py``; here is what the neighbour and the worker notice of it.
"""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import wakeup
from compute_to_data.errors import Refused
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted
from support.irods_site import RealSite
from support.service_worker import ServiceWorker, working
from support.site import COMPUTE, HOME, PATIENCE, ZONE, TrialSite, wait_until
from support.terminal import NATIVE, Terminal

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

SLOTS = 4
WORKER = {"slots": SLOTS, "per_user": {"running": SLOTS - 1}, "poll_seconds": 2}
"""One slot stays free of each user, as ``docs/administrators.md`` recommends where tasks take long."""
UNTIL_STOPPED = ("/bin/sh", "-c", "trap 'exit 1' TERM; while :; do sleep 0.1; done")
WALLTIME = 3
_AVUS_OF_ONE_CALL = 500
_RULE_TEXT = 15_000
"""The most characters of one rule: iRODS takes 20,480 bytes."""


class Hands(Protocol):
    """With what a user changes the catalog: a session, or iCommands."""

    def make(self, collections: Sequence[str]) -> None:
        """Make collections."""

    def put(self, file: Path, logical_path: str) -> None:
        """Upload a file, over what is there."""

    def tag(self, pairs: Sequence[tuple[str, Avu]]) -> None:
        """Add AVUs, each to its collection."""


@dataclass
class SessionHands:
    """A session of an embedded zone."""

    catalog: Any

    def make(self, collections: Sequence[str]) -> None:
        for collection in collections:
            self.catalog.create_collection(collection)

    def put(self, file: Path, logical_path: str) -> None:
        self.catalog.put(str(file), logical_path, force=True)

    def tag(self, pairs: Sequence[tuple[str, Avu]]) -> None:
        for collection, some in itertools.groupby(pairs, lambda pair: pair[0]):
            avus = [avu for _, avu in some]
            for first in range(0, len(avus), _AVUS_OF_ONE_CALL):
                added = avus[first : first + _AVUS_OF_ONE_CALL]
                self.catalog.annotate(Entity(EntityKind.COLLECTION, collection), add=added)


@dataclass
class ICommandHands:
    """A user's iCommands."""

    terminal: Terminal

    def make(self, collections: Sequence[str]) -> None:
        for first in range(0, len(collections), 100):
            self.terminal.get("imkdir", *collections[first : first + 100])

    def put(self, file: Path, logical_path: str) -> None:
        self.terminal.get("iput", "-f", str(file), logical_path)

    def tag(self, pairs: Sequence[tuple[str, Avu]]) -> None:
        """As many as fit into the text of one ``irule``: an ``imeta`` adds one only."""
        calls = [_in_rule_language("-C", path, "add", avu.attribute, avu.value, avu.units) for path, avu in pairs]
        while calls:
            body = ""
            while calls and len(body) + len(calls[0]) < _RULE_TEXT:
                body += calls.pop(0)
            done = self.terminal.irule(body, "-r", NATIVE)
            assert done.returncode == 0, done.stdout + done.stderr


def _in_rule_language(*words: str) -> str:
    quoted = ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    return f"  msiModAVUMetadata({quoted});\n"


@dataclass
class Neighbours:
    """The one who floods (``flooder``, with ``hands``), and the neighbour; both have a collection ``out`` at home."""

    flooder: Catalog
    hands: Hands
    home: str
    neighbour: Catalog
    neighbours_home: str
    storage: Storage
    configuration: Configuration
    resource: str
    image: str
    folder: Path
    log: Path
    site: RealSite | None = None
    """On a real zone: the flooder's site."""
    worker: ServiceWorker = field(init=False)
    running: list[Submitted] = field(default_factory=list)
    """The flooder's tasks that run while a flood lasts."""

    def request(self, *argv: str, **more: Any) -> dict[str, Any]:
        """A request of the flooder's."""
        process = {"image": self.image, "exec": argv[0], "argv": list(argv[1:])}
        return {"resource": self.resource, "output_collection": f"{self.home}/out", "process": process, **more}

    def submit(self, *argv: str, **more: Any) -> Submitted:
        """A task of the flooder's."""
        return self.submitted(self.flooder, self.request(*argv, **more))

    def neighbour_submits(self, *argv: str) -> Submitted:
        """A task of the neighbour's."""
        document = {**self.request(*argv), "output_collection": f"{self.neighbours_home}/out"}
        return self.submitted(self.neighbour, document)

    def submitted(self, catalog: Catalog, document: Any) -> Submitted:
        """A task as a request describes it. The worker is called."""
        submitted = submit.submit(catalog, self.configuration, document)
        wakeup.call_worker(self.configuration, self.storage.zone, self.resource)
        return submitted

    def record(self, catalog: Catalog, submitted: Submitted) -> TaskRecord:
        return TaskRecord(catalog, self.configuration.attributes, submitted.collection, self.resource)

    def runs(self, catalog: Catalog, submitted: Submitted) -> None:
        """Wait until a task's job runs."""
        record = self.record(catalog, submitted)
        _wait(lambda: record.state() is State.RUNNING, f"{submitted.collection} to run")

    def ended(self, catalog: Catalog, submitted: Submitted) -> dict[str, str]:
        """Wait for a task's end; how it ended."""
        _wait(lambda: self._has_ended(catalog, submitted), f"the end of {submitted.collection}")
        return self.record(catalog, submitted).facts("state", "reason", "reason_code")

    def _has_ended(self, catalog: Catalog, submitted: Submitted) -> bool:
        try:
            return (self.record(catalog, submitted).state() or State.QUEUED).is_final
        except Refused:  # a flood has given it states of its own
            return False

    def seconds_of_true(self) -> float:
        """How long the neighbour's ``true`` takes, from its submission to its end."""
        began = time.monotonic()
        facts = self.ended(self.neighbour, self.neighbour_submits("/bin/true"))
        took = time.monotonic() - began
        assert facts["state"] == "COMPLETED", facts
        return took

    def seconds_of_cancel(self) -> float:
        """How long a running task of the neighbour's takes from the request to cancel it to its end."""
        submitted = self.neighbour_submits(*UNTIL_STOPPED)
        self.runs(self.neighbour, submitted)
        return self.cancelled(self.neighbour, submitted)

    def seconds_of_own_cancels(self) -> list[float]:
        """How long each of the flooder's running tasks takes from the request to cancel it to its end. A task that the
        flood itself has ended is left out."""
        return [self.cancelled(self.flooder, one) for one in self.running if not self._has_ended(self.flooder, one)]

    def seconds_over_walltime(self) -> float:
        """How long after its walltime a running task of the neighbour's has ended."""
        limits = {"walltime_seconds": WALLTIME}
        document = {**self.request("/bin/sleep", "60"), "output_collection": f"{self.neighbours_home}/out"}
        submitted = self.submitted(self.neighbour, {**document, "limits": limits})
        self.runs(self.neighbour, submitted)
        began = time.monotonic()
        facts = self.ended(self.neighbour, submitted)
        took = time.monotonic() - began
        assert facts["reason_code"] == "walltime_exceeded", facts
        return took - WALLTIME

    def cancelled(self, catalog: Catalog, submitted: Submitted) -> float:
        """Cancel a task as its owner; how many seconds its end takes."""
        attribute = self.configuration.attributes.named("cancel")
        request = Avu(attribute, str(catalog.user), self.resource)
        began = time.monotonic()
        catalog.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[request])
        facts = self.ended(catalog, submitted)
        took = time.monotonic() - began
        assert facts["state"] == "CANCELLED", facts
        return took

    @contextlib.contextmanager
    def served(self) -> Iterator[Neighbours]:
        """A worker in a process of its own while inside."""
        with working(self.storage.catalog, self.configuration, self.resource, self.log) as self.worker:
            yield self


def _wait(condition: Any, what: str) -> None:
    """As ``wait_until``, asking rarely enough to take nothing from what is measured."""

    def asked() -> object:
        time.sleep(0.02)
        return condition()

    wait_until(asked, what, 3 * PATIENCE)


def embedded_neighbours(folder: Path, engine: dict[str, Any], image: str) -> Neighbours:
    """Alice floods, and bob works."""
    site = TrialSite(folder, engine, image, worker={**WORKER, "on_demand": False})
    neighbours_home = f"/{ZONE}/home/bob"
    site.bob.create_collection(f"{neighbours_home}/out")
    return Neighbours(
        flooder=site.alice,
        hands=SessionHands(site.alice),
        home=HOME,
        neighbour=site.bob,
        neighbours_home=neighbours_home,
        storage=site.storage,
        configuration=site.configuration,
        resource=COMPUTE,
        image=image,
        folder=folder,
        log=folder / "worker.log",
    )


def real_neighbours(zone: IrodsZoneUnderTest, engine: dict[str, Any], image: str) -> Neighbours:
    """Two new users of a real zone. The one who floods has iCommands."""
    role = f"ROLE{uuid.uuid4().hex[:6]}"
    roles = {role: {"implementation": "compute_to_data.roles.container:Container"}}
    worker = {**WORKER, "state_directory": str(zone.make_place("state"))}
    site = RealSite(zone, image, engine, roles=roles, worker=worker)
    neighbour = zone.session(zone.make_user())
    neighbours_home = zone.scratch(neighbour.user)
    neighbour.create_collection(f"{neighbours_home}/out")
    terminal = Terminal(zone.environment_of(site.alice.user), site.place)
    return Neighbours(
        flooder=site.alice,
        hands=ICommandHands(terminal),
        home=site.home,
        neighbour=neighbour,
        neighbours_home=neighbours_home,
        storage=zone.storage(),
        configuration=site.configuration,
        resource=site.compute_resource(role),
        image=image,
        folder=site.place,
        log=site.place / "worker.log",
        site=site,
    )
