"""A whole site in a folder, for tests: an embedded zone, its configuration, an engine, a worker."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compute_to_data import site_file
from compute_to_data.catalog_tree import data_objects
from compute_to_data.configuration import Configuration
from compute_to_data.coordination.lock import ResourceLock, scope
from compute_to_data.engines import open_engine
from compute_to_data.model import Avu, Collection, DataObject, Entity, EntityKind, User
from compute_to_data.ports.engine import Engine
from compute_to_data.ports.zone import Catalog, Storage
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission import submit
from compute_to_data.submission.submit import Submitted
from compute_to_data.worker.service import Worker
from compute_to_data.zones.embedded import EmbeddedZone
from support.processes import end_processes
from support.reading import ENOUGH

if TYPE_CHECKING:
    from compute_to_data.client.tasks import TaskHandle

ZONE = "tempZone"
ALICE, BOB, RODS = User("alice", ZONE), User("bob", ZONE), User("rods", ZONE)
HOME = f"/{ZONE}/home/alice"
ROLE_ATTRIBUTE = "COMPUTE_RESOURCE_ROLE"
COMPUTE = "dsp_resc"
BASE_IMAGE = "compute-to-data/base:bookworm"
PATIENCE = float(os.environ.get("C2D_TEST_PATIENCE", "60"))
"""Seconds after which a test gives up waiting for an event; never a wait by itself. An emulated machine needs more."""
SLOWNESS = max(1.0, PATIENCE / 60)
"""How many times as long things may take as on any other machine, where a test says that they take little time."""


WAITS = "echo > /outputs/started; while [ ! -e /outputs/go ]; do sleep 0.02; done; rm /outputs/go /outputs/started"
"""A script that runs until :meth:`TrialSite.let_go`, and at most for its task's walltime."""


OPENED: list[TrialSite] = []
"""The sites that nobody has closed yet."""


@contextlib.contextmanager
def closing_sites() -> Iterator[None]:
    """Close at the end all sites that were opened inside."""
    before = len(OPENED)
    try:
        yield
    finally:
        while len(OPENED) > before:
            OPENED.pop().close()


class TrialSite:
    """demoResc, and dsp_resc with the role CONTAINER; alice and bob; one allowed image."""

    def __init__(self, folder: Path, engine: Mapping[str, Any], image: str, **changes: Any) -> None:
        self.folder = folder
        self.image = image
        self.zone = EmbeddedZone.create(str(folder / "zone"), zone=ZONE)
        for name in ("alice", "bob"):
            self.zone.add_user(name)
        self.zone.add_resource(COMPUTE)
        self.storage: Storage = self.zone.storage()
        self.give_role(COMPUTE, "CONTAINER")
        self.configuration_file = folder / "compute_to_data.json"
        self.configuration = self.configure(engine=dict(engine), **changes)
        self.engine: Engine = open_engine(self.configuration.engine, self.configuration.worker.state_directory)
        self.alice: Catalog = self.zone.session(ALICE)
        self.bob: Catalog = self.zone.session(BOB)
        self.alice.create_collection(f"{HOME}/out")
        OPENED.append(self)

    def close(self) -> None:
        """End its workers on demand and its plain processes, which would run on after the tests, and let go of its
        files. Tests that have another engine end its jobs themselves, or have broken it."""
        end_processes("cmdline", str(self.configuration_file), PATIENCE)
        if self.configuration.engine.name == "process":
            for key in self.engine.jobs(scope(self.configuration, ZONE, COMPUTE)):
                self.engine.remove(key)
        self.zone.close()

    def configure(self, **sections: Any) -> Configuration:
        """Write and load the configuration: ours, with ``sections`` laid over it."""
        document: dict[str, Any] = {
            "zone": {"kind": "embedded", "directory": str(self.folder / "zone")},
            "images": [self.image],
            "worker": {
                "state_directory": str(self.folder / "state"),
                "on_demand": True,
                "idle_seconds": 1,
                "poll_seconds": 0.2,
                "stop_grace_seconds": 1,
            },
        }
        for name, section in sections.items():
            merged = {**document[name], **section} if isinstance(document.get(name), dict) else section
            document[name] = merged
        self.configuration_file.write_text(json.dumps(document), encoding="utf-8")
        return site_file.load(str(self.configuration_file))

    def give_role(self, resource: str, role: str) -> None:
        entity = Entity(EntityKind.RESOURCE, resource)
        self.storage.catalog.annotate(entity, add=[Avu(ROLE_ATTRIBUTE, role)])

    def take_role(self, resource: str, role: str) -> None:
        entity = Entity(EntityKind.RESOURCE, resource)
        self.storage.catalog.annotate(entity, remove=[Avu(ROLE_ATTRIBUTE, role)])

    def process(self, *argv: str, **more: Any) -> dict[str, Any]:
        """A process definition in the allowed image."""
        return {"image": self.image, "exec": argv[0], "argv": list(argv[1:]), **more}

    def request(self, *argv: str, inputs: Any = (), process: Mapping[str, Any] | None = None, **more: Any) -> Any:
        """A request that runs ``argv`` on dsp_resc, with outputs in alice's ``out``."""
        return {
            "resource": COMPUTE,
            "inputs": list(inputs),
            "output_collection": f"{HOME}/out",
            "process": self.process(*argv, **(process or {})),
            **more,
        }

    def submit(self, document: Any, *, catalog: Catalog | None = None, **more: Any) -> Submitted:
        return submit.submit(catalog or self.alice, self.configuration, document, **more)

    def record(self, submitted: Submitted, catalog: Catalog | None = None) -> TaskRecord:
        return TaskRecord(
            catalog or self.alice, self.configuration.attributes, submitted.collection, submitted.resource
        )

    def worker(self, *, storage: Storage | None = None, engine: Engine | None = None) -> Worker:
        return Worker(self.configuration, COMPUTE, storage or self.storage, engine or self.engine)

    @contextlib.contextmanager
    def working(self, *, storage: Storage | None = None, engine: Engine | None = None) -> Iterator[Worker]:
        """A worker serving dsp_resc in a thread while inside."""
        worker = self.worker(storage=storage, engine=engine)
        lock = ResourceLock(self.configuration, ZONE, COMPUTE)
        with serving(worker):
            wait_until(lock.is_held, "the worker to serve")
            yield worker

    def run(
        self, document: Any, *, storage: Storage | None = None, engine: Engine | None = None, **more: Any
    ) -> dict[str, str]:
        """Submit as alice, work until the task has ended; its facts, and its ``collection``."""
        submitted = self.submit(document, **more)
        with self.working(storage=storage, engine=engine):
            return self.ended(submitted)

    def ended(self, submitted: Submitted, catalog: Catalog | None = None) -> dict[str, str]:
        """Wait for the final state; the facts, with ``collection`` added."""
        record = self.record(submitted, catalog)
        wait_until(lambda: (record.state() or State.QUEUED).is_final, f"the end of {submitted.collection}")
        return {**record.facts(), "collection": submitted.collection}

    def outputs(self, submitted: Submitted | TaskHandle) -> Path:
        """Wait until a task that WAITS runs; where its outputs lie."""
        found: list[Path] = []

        def runs() -> bool:
            task = self.folder / "zone" / "vaults" / COMPUTE / submitted.collection[len(f"/{ZONE}/") :]
            found[:] = [one.parent for one in task.glob("*/outputs/started")]
            return bool(found)

        wait_until(runs, f"{submitted.collection} to run")
        return found[0]

    def let_go(self, submitted: Submitted | TaskHandle) -> None:
        """A task that WAITS goes on."""
        (self.outputs(submitted) / "go").touch()

    def contents(self, collection: str, catalog: Catalog | None = None) -> dict[str, bytes]:
        """Every data object below a collection, by its name relative to it."""
        return contents(catalog or self.alice, collection)

    def snapshot(self, *, without: str = "") -> dict[str, Any]:
        """All that failing must leave as it was: alice's tree with replicas, AVUs and access
        lists, and every file in the vaults; ``without`` the record of one task."""
        seen: dict[str, Any] = {}
        pile = [HOME]
        while pile:
            collection = pile.pop()
            for child in self.alice.children(collection):
                if child.logical_path == without:
                    continue
                seen[child.logical_path] = self._described(child)
                if isinstance(child, Collection):
                    pile.append(child.logical_path)
        skipped = without[len(f"/{ZONE}/") :]
        for folder, _, names in os.walk(self.folder / "zone" / "vaults"):
            for name in names:
                physical = os.path.join(folder, name)
                if not skipped or f"/{skipped}/" not in physical:
                    seen[physical] = os.lstat(physical).st_size
        return seen

    def _described(self, thing: Collection | DataObject) -> Any:
        kind = EntityKind.COLLECTION if isinstance(thing, Collection) else EntityKind.DATA_OBJECT
        replicas = () if isinstance(thing, Collection) else thing.replicas
        avus = self.alice.avus(Entity(kind, thing.logical_path))
        return replicas, avus, self.alice.permissions(thing.logical_path)

    def make_a_link(self, logical_path: str, target: str) -> None:
        """Put a link to ``target`` where the data object's file was, as a vault never should hold one."""
        found = self.alice.stat(logical_path)
        assert isinstance(found, DataObject)
        file = Path(found.replicas[0].physical_path)
        file.unlink()
        file.symlink_to(target)

    def leftovers(self, submitted: Submitted) -> list[str]:
        """Files of a task in the vaults that no replica in its collection accounts for."""
        return leftovers(self.alice, submitted, [self.folder / "zone" / "vaults"])


def contents(catalog: Catalog, collection: str) -> dict[str, bytes]:
    """Every data object below a collection, by its name relative to it."""
    found = [one.logical_path for one in data_objects(catalog, collection)]
    return {path[len(collection) + 1 :]: catalog.read(path, ENOUGH) for path in found}


def leftovers(catalog: Catalog, submitted: Submitted, vaults: Sequence[Path]) -> list[str]:
    """Files and directories of a task below ``vaults`` that no replica in its collection accounts for."""
    found = data_objects(catalog, submitted.collection)
    known = {replica.physical_path for one in found for replica in one.replicas}
    left = []
    for vault in vaults:
        for folder, folders, names in os.walk(vault):
            if f"/{submitted.task_id}" in folder:
                left += [os.path.join(folder, name) for name in (*names, *folders)]
    return [path for path in left if path not in known and not any(one.startswith(f"{path}/") for one in known)]


@contextlib.contextmanager
def serving(worker: Worker) -> Iterator[None]:
    """``worker.serve()`` in a thread; what it raises is raised at the end."""
    problems: list[BaseException] = []

    def serve() -> None:
        try:
            worker.serve()
        except BaseException as error:  # noqa: BLE001 - raised again where the test sees it
            problems.append(error)

    thread = threading.Thread(target=serve, name="worker")
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the worker did not stop"
    if problems:
        raise problems[0]


def wait_until(condition: Any, what: str, patience: float = PATIENCE) -> None:
    """Return as soon as ``condition()`` holds; fail naming ``what`` after ``patience`` seconds. On an emulated machine,
    asking takes at most a fifth of the time, so that what it waits for gets the processor."""
    began = time.monotonic()
    deadline = began + patience
    while not condition():
        now = time.monotonic()
        assert now < deadline, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.005 if SLOWNESS == 1 else min(1.0, max(0.005, 4 * (now - began))))
        began = time.monotonic()


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """As ``wait_until``, asking a server that others use no more often than people would."""

    def asked() -> object:
        time.sleep(0.1)
        return condition()

    wait_until(asked, what, patience)
