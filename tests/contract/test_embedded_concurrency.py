"""Many processes and threads work in one collection at once: nothing is lost, nothing is half seen."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.reading import ENOUGH
from support.site import PATIENCE

from compute_to_data.errors import AlreadyExists, NotFound
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, Query, User, name_of
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.embedded import EmbeddedZone, database
from compute_to_data.zones.embedded.audit import audit
from compute_to_data.zones.embedded.database import Database

ALICE = User("alice", "tempZone")
PLACE = "/tempZone/home/alice/place"
WORKERS = 8
TURNS = 12


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    with EmbeddedZone.create(tmp_path / "zone") as zone:
        zone.add_user("alice")
        zone.add_resource("second")
        zone.session(ALICE).create_collection(PLACE)
    yield tmp_path / "zone"
    assert audit(str(tmp_path / "zone")) == []


@contextmanager
def processes(count: int, work: Callable[[int], None]) -> Iterator[None]:
    """So many forked processes; at the end all must have succeeded."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            try:
                work(number)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the parent sees the status, the reader the text
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    yield
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


@contextmanager
def threads(count: int, work: Callable[[int], None]) -> Iterator[None]:
    """So many threads; at the end all must have succeeded."""
    failures: list[str] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException:  # noqa: BLE001 - shown by the assertion below
            failures.append(traceback.format_exc())

    running = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        for thread in running:
            thread.join()
    assert failures == []


def _add(alice: Catalog, who: str) -> None:
    """Each turn makes, overwrites, marks and replicates a data object, and marks the collection."""
    for turn in range(TURNS):
        path = f"{PLACE}/{who}-{turn}"
        alice.write(path, b"first")
        alice.write(path, path.encode(), force=True)
        alice.annotate(Entity(EntityKind.DATA_OBJECT, path), add=[Avu("by", who)])
        alice.annotate(Entity(EntityKind.COLLECTION, PLACE), add=[Avu("turn", f"{who}-{turn}")])
        if turn % 4 == 0:
            alice.replicate(path, "second")


def test_nothing_is_lost(directory: Path) -> None:
    def in_process(number: int) -> None:
        with EmbeddedZone(directory) as zone:
            _add(zone.session(ALICE), f"p{number}")

    # The processes first: a fork takes no threads along.
    with processes(WORKERS, in_process), EmbeddedZone(directory) as zone:
        alice = zone.session(ALICE)
        with threads(WORKERS, lambda number: _add(alice, f"t{number}")):
            pass
    expected = {f"{kind}{number}-{turn}" for kind in "pt" for number in range(WORKERS) for turn in range(TURNS)}
    with EmbeddedZone(directory) as zone:
        alice = zone.session(ALICE)
        assert {name_of(child.logical_path) for child in alice.children(PLACE)} == expected
        assert {alice.read(f"{PLACE}/{name}", ENOUGH) for name in expected} == {
            f"{PLACE}/{name}".encode() for name in expected
        }
        marks = alice.avus(Entity(EntityKind.COLLECTION, PLACE))
        assert {avu.value for avu in marks} == expected
        assert len(alice.find(Query(EntityKind.DATA_OBJECT, "by"))) == len(expected)


def test_one_of_many_makes_it(directory: Path) -> None:
    """Making a data object without force serves as a lock."""

    def race(number: int) -> None:
        with EmbeddedZone(directory) as zone:
            alice = zone.session(ALICE)
            for turn in range(TURNS):
                try:
                    alice.write(f"{PLACE}/lock{turn}", str(number).encode())
                except AlreadyExists:
                    continue
                alice.annotate(Entity(EntityKind.COLLECTION, PLACE), add=[Avu(f"lock{turn}", str(number))])

    with processes(WORKERS, race):
        pass
    with EmbeddedZone(directory) as zone:
        alice = zone.session(ALICE)
        winners = {avu.attribute: avu.value for avu in alice.avus(Entity(EntityKind.COLLECTION, PLACE))}
        assert len(alice.avus(Entity(EntityKind.COLLECTION, PLACE))) == TURNS
        assert winners == {f"lock{turn}": alice.read(f"{PLACE}/lock{turn}", ENOUGH).decode() for turn in range(TURNS)}


def test_readers_see_whole_states(directory: Path) -> None:
    """While one overwrites, swaps two AVUs, moves and removes, every look is of one moment."""
    here = Entity(EntityKind.COLLECTION, PLACE)
    with EmbeddedZone(directory) as zone:
        zone.session(ALICE).annotate(here, add=[Avu("one", "0"), Avu("two", "0")])
        zone.session(ALICE).write(f"{PLACE}/x", b"0" * 1000)

    def change(_: int) -> None:
        with EmbeddedZone(directory) as zone:
            alice = zone.session(ALICE)
            for turn in range(1, 120):
                alice.write(f"{PLACE}/x", str(turn % 10).encode() * (1000 + turn), force=True)
                old, new = str(turn - 1), str(turn)
                alice.annotate(here, remove=[Avu("one", old), Avu("two", old)], add=[Avu("one", new), Avu("two", new)])
                alice.rename(f"{PLACE}/x", f"{PLACE}/y")
                alice.rename(f"{PLACE}/y", f"{PLACE}/x")
            alice.remove(f"{PLACE}/x")

    looks = 0
    with processes(1, change), EmbeddedZone(directory) as zone:
        alice = zone.session(ALICE)
        while True:
            members = alice.children(PLACE)
            if not members:
                break
            (found,) = members
            assert isinstance(found, DataObject)
            assert len(found.replicas) == 1
            one, two = alice.avus(here)
            assert (one.attribute, two.attribute, one.value) == ("one", "two", two.value)
            try:
                content = alice.read(found.logical_path, ENOUGH)
            except NotFound:
                continue  # it has just been moved on
            assert len(set(content)) == 1
            looks += 1
    assert looks > 10


def test_a_forked_process_may_go_on_with_a_session(directory: Path) -> None:
    with EmbeddedZone(directory) as zone:
        alice = zone.session(ALICE)
        alice.write(f"{PLACE}/before", b"")
        with processes(2, lambda number: alice.write(f"{PLACE}/child{number}", b"")):
            alice.write(f"{PLACE}/parent", b"")
        names = [name_of(child.logical_path) for child in alice.children(PLACE)]
        assert names == ["before", "child0", "child1", "parent"]


def test_closing_waits_for_the_transaction_of_another_thread(tmp_path: Path) -> None:
    """To close a connection that another thread uses crashes the process."""
    database = Database(str(tmp_path / "db"))
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    found: list[int] = []

    def read() -> None:
        with database.reading() as connection:
            begun.set()
            assert go_on.wait(PATIENCE)
            assert not closed.is_set()
            found.append(connection.execute("SELECT 1").fetchone()[0])
        with database.reading() as connection:  # on a new connection
            found.append(connection.execute("SELECT 2").fetchone()[0])

    def close() -> None:
        database.close()
        closed.set()

    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(read)
        assert begun.wait(PATIENCE)
        closing = pool.submit(close)
        assert not closed.wait(0.2)
        go_on.set()
        closing.result(PATIENCE)
        reading.result(PATIENCE)
    assert found == [1, 2]
    database.close()


def test_threads_wait_for_each_other_and_not_for_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would let a thread sleep for up to 100 ms while another one writes; here it may not wait at all."""
    monkeypatch.setattr(database, "_BUSY_SECONDS", 0)
    catalog = Database(str(tmp_path / "catalog"))
    with catalog.writing() as connection:
        connection.execute("CREATE TABLE numbers (number INTEGER)")

    def work(number: int) -> None:
        for _ in range(TURNS):
            with catalog.writing() as connection:
                connection.execute("INSERT INTO numbers VALUES (?)", (number,))

    with threads(WORKERS, work):
        pass
    assert catalog.connection().execute("SELECT count(*) FROM numbers").fetchone() == (WORKERS * TURNS,)
    catalog.close()
