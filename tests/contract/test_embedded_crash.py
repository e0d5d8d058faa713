"""A process may be killed at any instant: the zone is then as before the operation or as after it.

Each operation runs in a process of its own that is killed at its n-th call of a C function, for
many n from the first to the last: before and after each write, link, unlink and commit. What was
not done is then done again, over what the killed process left.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import pytest
from support.reading import ENOUGH

from compute_to_data.errors import ZoneError
from compute_to_data.model import Access, Avu, Collection, DataObject, Entity, EntityKind, Registration, User
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.embedded import EmbeddedZone
from compute_to_data.zones.embedded.audit import audit

ALICE = User("alice", "tempZone")
# Another one is another history: worth a loop after changing how files are made.
SEED = int(os.environ.get("C2D_TEST_SEED", "20261121"))
HOME = "/tempZone/home/alice"
INSTANTS = 14
"""How many of an operation's instants are tried, the first and the last among them."""

Operation = Callable[[EmbeddedZone, Catalog], object]


def _registrations(zone: EmbeddedZone) -> list[Registration]:
    output = Path(zone.directory, "vaults", "second", "home", "alice", "a")
    return [Registration(f"{HOME}/a/{file.name}", str(file), 6, "") for file in sorted(output.glob("output*"))]


OPERATIONS: dict[str, Operation] = {
    "write": lambda zone, alice: alice.write(f"{HOME}/a/new", b"new"),
    "write to a hierarchy": lambda zone, alice: alice.write(f"{HOME}/a/new", b"new", resource="both"),
    "overwrite": lambda zone, alice: alice.write(f"{HOME}/a/x", b"newer", force=True),
    "overwrite in a hierarchy": lambda zone, alice: alice.write(f"{HOME}/a/wide", b"newer", force=True),
    "replicate": lambda zone, alice: alice.replicate(f"{HOME}/a/x", "second"),
    "mend": lambda zone, alice: alice.replicate(f"{HOME}/a/stale", "second"),
    "trim": lambda zone, alice: alice.trim(f"{HOME}/a/y", 0),
    "rename a data object": lambda zone, alice: alice.rename(f"{HOME}/a/y", f"{HOME}/b/y2"),
    "rename a collection": lambda zone, alice: alice.rename(f"{HOME}/a", f"{HOME}/b/a2"),
    "remove": lambda zone, alice: alice.remove(f"{HOME}/a/y"),
    "remove a collection": lambda zone, alice: alice.remove(f"{HOME}/a", recursive=True),
    "register": lambda zone, alice: zone.storage().on_behalf_of(ALICE).register("second", _registrations(zone)),
    "annotate": lambda zone, alice: alice.annotate(
        Entity(EntityKind.COLLECTION, f"{HOME}/a"),
        remove=[Avu("state", "QUEUED")],
        add=[Avu("state", "RUNNING")],
    ),
    "share": lambda zone, alice: alice.set_access(
        f"{HOME}/a", User("public", "tempZone"), Access.READ_OBJECT, recursive=True
    ),
}


def _make_zone(directory: Path) -> None:
    """A zone with something for each operation, and files that no row names."""
    with EmbeddedZone.create(directory) as zone:
        zone.add_user("alice")
        zone.add_resource("second")
        zone.add_resource("both", "replication")
        for leaf in ("left", "right"):
            zone.add_resource(leaf, parent="both")
        alice = zone.session(ALICE)
        alice.create_collection(f"{HOME}/b")
        alice.create_collection(f"{HOME}/a/deep", parents=True)
        for name in ("x", "y", "stale", "deep/z"):
            alice.write(f"{HOME}/a/{name}", name.encode())
        alice.write(f"{HOME}/a/wide", b"wide", resource="both")
        for name in ("y", "stale"):
            alice.replicate(f"{HOME}/a/{name}", "second")
        alice.write(f"{HOME}/a/stale", b"fresher", force=True)
        alice.annotate(Entity(EntityKind.COLLECTION, f"{HOME}/a"), add=[Avu("state", "QUEUED")])
        for number in range(5):
            _place_output(zone, f"output{number}")


def _place_output(zone: EmbeddedZone, name: str) -> None:
    directory = Path(zone.directory, "vaults", "second", "home", "alice", "a")
    directory.joinpath(name).write_bytes(b"output")


def _state(directory: Path) -> list[object]:
    """All that alice can tell about her collections."""
    with EmbeddedZone(directory) as zone:
        alice = zone.session(ALICE)
        seen: list[object] = []
        pending = [HOME]
        while pending:
            for member in alice.children(pending.pop()):
                path = member.logical_path
                seen += [path, alice.permissions(path)]
                if isinstance(member, Collection):
                    pending.append(path)
                    seen.append(alice.avus(Entity(EntityKind.COLLECTION, path)))
                else:
                    shown = [(r.number, r.hierarchy, r.status, r.size, r.checksum) for r in member.replicas]
                    seen += [alice.read(path, ENOUGH), shown]
        return seen


def _vault_files(directory: Path) -> set[str]:
    return {str(path) for path in (directory / "vaults").rglob("*") if path.is_file()}


def _named_files(directory: Path) -> set[str]:
    """The files that replicas name."""
    named: set[str] = set()
    with EmbeddedZone(directory) as zone:
        alice = zone.session(ALICE)
        pending = [HOME]
        while pending:
            for member in alice.children(pending.pop()):
                if isinstance(member, DataObject):
                    named |= {replica.physical_path for replica in member.replicas}
                else:
                    pending.append(member.logical_path)
    return named


def _run_in_child(directory: Path, operation: Operation, last_call: int | None) -> int:
    """Run an operation in a forked process that is killed at a C call; None: to the end.

    Returns how many C calls were made, or 0 when it was killed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_child(directory, operation, last_call, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, text.decode()
    return int(text or 0)


def _be_the_child(directory: Path, operation: Operation, last_call: int | None, answer: int) -> NoReturn:
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        if event in ("c_call", "c_return"):
            calls += 1
            if calls == last_call:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        zone = EmbeddedZone(directory)
        alice = zone.session(ALICE)
        sys.setprofile(count)
        operation(zone, alice)
        sys.setprofile(None)
        os.write(answer, str(calls).encode())
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent shall say so
        sys.setprofile(None)
        os.write(answer, repr(error).encode())
        os._exit(1)


@pytest.fixture(scope="module")
def workplace() -> Iterator[Path]:
    """In memory where there is such a place: hundreds of zones are copied, on a disk for minutes."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        yield Path(directory)


@pytest.fixture(scope="module")
def template(workplace: Path) -> Path:
    """A zone made at ``workplace/zone``, which its vault paths name, and put aside."""
    _make_zone(workplace / "zone")
    return (workplace / "zone").rename(workplace / "template")


@pytest.fixture
def copy(workplace: Path, template: Path) -> Iterator[Callable[[], Path]]:
    """Puts a fresh copy of the zone where its vault paths name it."""

    def fresh() -> Path:
        shutil.rmtree(workplace / "zone", ignore_errors=True)
        return Path(shutil.copytree(template, workplace / "zone"))

    yield fresh
    shutil.rmtree(workplace / "zone")


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_any_instant(copy: Callable[[], Path], name: str) -> None:
    directory = copy()
    before = _state(directory)
    strangers = _vault_files(directory) - _named_files(directory)
    calls = _run_in_child(directory, OPERATIONS[name], None)
    after = _state(directory)
    assert after != before
    for instant in sorted({1 + step * (calls - 1) // (INSTANTS - 1) for step in range(INSTANTS)}):
        directory = copy()
        assert _run_in_child(directory, OPERATIONS[name], instant) == 0
        where = f"killed at call {instant} of {calls}"
        assert audit(str(directory)) == [], where
        assert _state(directory) in (before, after), where
        if _state(directory) == before:
            _run_in_child(directory, OPERATIONS[name], None)
            assert _state(directory) == after, f"{where}, then done again"
        with EmbeddedZone(directory) as zone:
            zone.sweep()
            assert zone.sweep() == 0
        assert audit(str(directory)) == [], where
        assert _vault_files(directory) == _named_files(directory) | strangers, where


def _move_at_random(zone: EmbeddedZone, alice: Catalog, chance: random.Random) -> None:
    names = [f"{HOME}/a/{name}" for name in ("x", "y", "stale", "n1", "n2", "n3")]
    one, other = chance.choice(names), chance.choice(names)
    moves: list[Callable[[], object]] = [
        lambda: alice.write(one, os.urandom(chance.randrange(5000)), force=True),
        lambda: alice.write(one, b"w", resource="both"),
        lambda: alice.replicate(one, chance.choice(["second", "both", "demoResc"])),
        lambda: alice.rename(one, other),
        lambda: alice.remove(one),
        lambda: alice.annotate(Entity(EntityKind.DATA_OBJECT, one), add=[Avu("by", str(os.getpid()))]),
        lambda: alice.rename(f"{HOME}/a", f"{HOME}/c"),
        lambda: alice.rename(f"{HOME}/c", f"{HOME}/a"),
        zone.sweep,
    ]
    # Most moves meet something that is not there, or there already.
    with suppress(ZoneError):
        chance.choice(moves)()


def _hammer(directory: Path, seed: int, ready: int) -> NoReturn:
    """One of several processes that do everything at random until they are killed."""
    try:
        zone = EmbeddedZone(directory)
        alice = zone.session(ALICE)
        chance = random.Random(seed)
        os.write(ready, b".")
        while True:
            _move_at_random(zone, alice, chance)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the parent shall say so
        os.write(ready, repr(error).encode())
        os._exit(1)


def test_many_killed_at_random(copy: Callable[[], Path]) -> None:
    directory = copy()
    chance = random.Random(SEED)
    strangers = _vault_files(directory) - _named_files(directory)
    reading, writing = os.pipe()
    for turn in range(25):
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                os.close(reading)
                _hammer(directory, SEED + turn * 10 + number, writing)
            children.append(child)
        for _ in children:
            assert os.read(reading, 1) == b"."
        time.sleep(chance.uniform(0.0, 0.08))  # the instant of the kill is what is tried
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert audit(str(directory)) == []
    os.close(writing)
    with os.fdopen(reading, "rb") as complaints:
        assert complaints.read() == b""
    with EmbeddedZone(directory) as zone:
        zone.sweep()
    assert audit(str(directory)) == []
    moved = {stranger.replace("/a/", "/c/") for stranger in strangers}
    left = _vault_files(directory) - _named_files(directory)
    assert left in (strangers, moved)
