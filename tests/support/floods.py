"""How one user may flood a zone and a worker, with nothing but a user's rights.

Each flood is a context: something is in place while it lasts, and most go on making more. What the catalog or the
worker refuses of it is no error; that nothing was done at all is one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from compute_to_data.errors import ComputeToDataError
from compute_to_data.model import Avu
from compute_to_data.records.state import queue_units
from compute_to_data.submission.submit import Submitted
from support.neighbours import UNTIL_STOPPED, Neighbours


@dataclass(frozen=True)
class Sizes:
    """How much of each. A real zone takes some minutes for what an embedded one takes in seconds."""

    record_bytes: int = 700 << 20
    records: int = 4
    avus: int = 30_000
    collections: int = 1000
    tasks: int = 300
    outputs: int = 3000
    metadata: int = 60


def huge_records(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Records of queued tasks, made by hand, and of a running one are overwritten with huge files again and again."""
    huge = scene.folder / "huge"
    huge.touch()
    os.truncate(huge, sizes.record_bytes)
    collections = _made(scene, "huge", sizes.records)
    for collection in collections:
        scene.hands.put(huge, f"{collection}/task.json")
    scene.hands.tag([pair for one in collections for pair in _queued(scene, one)])
    with running_task(scene) as running, going_on(lambda: scene.hands.put(huge, f"{running.collection}/task.json")):
        yield


def malformed_records(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Queued tasks, made by hand, whose records are no requests, or nearly as large as one may be."""
    contents = [
        b"[" * 500_000 + b"]" * 500_000,
        b"[" + b"[]," * 349_000 + b"[]]",
        b'{"version": 1, "a": ' + b"9" * 900_000 + b"}",
        b'{"version": 1,' + b",".join(b'"%d":{}' % number for number in range(90_000)) + b"}",
        b"\xff" * 1_000_000,
    ]
    files = []
    for number, content in enumerate(contents):
        files.append(scene.folder / f"malformed{number}")
        files[-1].write_bytes(content)

    def make() -> None:
        collections = _made(scene, "malformed", len(files))
        for collection, file in zip(collections, files):
            scene.hands.put(file, f"{collection}/task.json")
        scene.hands.tag([pair for one in collections for pair in _queued(scene, one)])

    make()
    with going_on(make):
        yield


def junk(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Collections that look queued: without a record, with names of no task, with priorities of their own."""
    names = itertools.cycle(["junk", "-not a name ", "junk", "x" * 70])

    def make(count: int) -> None:
        collections = [one for _ in range(count) for one in _made(scene, next(names), 1, quiet=True)]
        scene.hands.make(collections)
        units = [queue_units(scene.resource, number % 21 - 10) for number in range(count)]
        state = scene.configuration.attributes.state
        scene.hands.tag([(one, Avu(state, "QUEUED", unit)) for one, unit in zip(collections, units)])

    make(sizes.collections)
    with going_on(lambda: make(10)):
        yield


def requests_to_cancel(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Collections that are no tasks ask to be cancelled and to be followed."""
    named = scene.configuration.attributes.named

    def make(count: int) -> None:
        collections = _made(scene, "cancel", count)
        who = str(scene.flooder.user)
        scene.hands.tag([(one, Avu(named("cancel"), who, scene.resource)) for one in collections])
        scene.hands.tag([(one, Avu(named("follow"), "1")) for one in collections])

    make(sizes.collections)
    with running_task(scene), going_on(lambda: make(10)):
        yield


def avus_on_a_task(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """A running task's collection bears thousands of AVUs: of any name, and of the worker's own."""
    named = scene.configuration.attributes.named
    others = ["mine", named("cancel"), scene.configuration.attributes.state]
    with running_task(scene) as running:

        def add(attribute: str, count: int) -> None:
            new = [Avu(attribute, uuid.uuid4().hex, "x") for _ in range(count)]
            scene.hands.tag([(running.collection, avu) for avu in new])

        add(named("reason"), sizes.avus // 2)  # more than are read of an attribute
        for attribute in others:
            add(attribute, sizes.avus // 2 // len(others))
        with going_on(lambda: add("mine", 10)):
            yield


def avus_on_collections(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Thousands of collections bear the AVUs of tasks that have begun, of tasks that wait, and of workloads."""
    attributes = scene.configuration.attributes
    states = ["RUNNING", "STAGING_IN", "WAITING", "COMPLETED"]

    def make(count: int) -> None:
        collections = _made(scene, "facts", count)
        pairs = [(one, Avu(attributes.state, state, scene.resource)) for one, state in zip(collections, states * count)]
        more = [(one, Avu(attributes.named("workload_state"), "STARTED", scene.resource)) for one in collections]
        waits = [(one, Avu(attributes.named("after"), collections[0])) for one in collections]
        scene.hands.tag([*pairs, *more, *waits])

    make(sizes.collections)
    with going_on(lambda: make(10)):
        yield


def tasks(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Hundreds of short tasks are queued, and more are submitted meanwhile."""
    for _ in range(sizes.tasks):
        scene.submit("/bin/true")
    with going_on(lambda: scene.submit("/bin/true")):
        yield


def many_outputs(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Tasks with thousands of outputs, each of which gets the task's metadata."""
    metadata = [{"attribute": f"a{number}", "value": "v" * 200} for number in range(sizes.metadata)]
    script = f"cd /outputs && seq {sizes.outputs} | xargs touch"
    for _ in range(2):
        scene.submit("/bin/sh", "-c", script, metadata=metadata)
    with going_on(lambda: time.sleep(0.2)):
        yield


def sparse_outputs(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Tasks that leave a file with a hole of nearly as many bytes as they may write, for the worker to read."""
    script = f"truncate -s {scene.configuration.default_limits.output_bytes} /outputs/hole"

    def submit() -> None:
        scene.ended(scene.flooder, scene.submit("/bin/sh", "-c", script))

    with going_on(submit), going_on(submit):
        yield


MOVING = """
cd /outputs; for t in $(seq 20); do mkdir -p t$t/d; (cd t$t/d && seq 100 | xargs touch); done
while :; do for t in $(seq 20); do mv t$t/d t$t/e; mv t$t/e t$t/d; done; done
"""


def moving_directories(scene: Neighbours, sizes: Sizes) -> Iterator[None]:
    """Jobs that move their directories about, so that no look at them finds all."""
    with running_task(scene, "/bin/sh", "-c", MOVING), running_task(scene, "/bin/sh", "-c", MOVING):
        yield


FLOODS: dict[str, Callable[[Neighbours, Sizes], AbstractContextManager[None]]] = {
    flood.__name__.replace("_", " "): contextlib.contextmanager(flood)
    for flood in (
        huge_records,
        malformed_records,
        junk,
        requests_to_cancel,
        avus_on_a_task,
        avus_on_collections,
        tasks,
        many_outputs,
        sparse_outputs,
        moving_directories,
    )
}
"""By their names."""


def _made(scene: Neighbours, name: str, count: int, *, quiet: bool = False) -> list[str]:
    """New collections of the flooder's in ``out``. ``quiet``: only their names."""
    collections = [f"{scene.home}/out/{name}{uuid.uuid4().hex[:10]}" for _ in range(count)]
    if not quiet:
        scene.hands.make(collections)
    return collections


def _queued(scene: Neighbours, collection: str) -> Sequence[tuple[str, Avu]]:
    attributes = scene.configuration.attributes
    role = Avu(attributes.named("role"), next(iter(scene.configuration.roles)))
    return [(collection, role), (collection, Avu(attributes.state, "QUEUED", scene.resource))]


@contextlib.contextmanager
def running_task(scene: Neighbours, *command: str) -> Iterator[Submitted]:
    """A task of the flooder's that runs while inside."""
    submitted = scene.submit(*(command or UNTIL_STOPPED))
    scene.runs(scene.flooder, submitted)
    scene.running.append(submitted)
    try:
        yield submitted
    finally:
        scene.running.remove(submitted)
        with contextlib.suppress(ComputeToDataError, AssertionError):  # a flood may have made it impossible
            scene.cancelled(scene.flooder, submitted)


@contextlib.contextmanager
def going_on(action: Callable[[], object]) -> Iterator[None]:
    """Repeat an action in a thread while inside."""
    over = threading.Event()
    done: list[bool] = []
    problems: list[BaseException] = []

    def go_on() -> None:
        while not over.is_set():
            try:
                action()
                done.append(True)
            except (ComputeToDataError, AssertionError) as error:  # refused
                problems.append(error)
                over.wait(0.1)

    thread = threading.Thread(target=go_on, name="flood")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert done, problems[-3:]
