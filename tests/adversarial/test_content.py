"""What a user writes into the catalog must not bring down the worker: its memory and its processor serve all users."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.reading import ENOUGH
from support.service_worker import ServiceWorker
from support.site import BOB, COMPUTE, HOME, TrialSite, wait_until

from compute_to_data import bounds
from compute_to_data.documents import request, task_json
from compute_to_data.documents.json_text import read_json
from compute_to_data.errors import InvalidRequest, TooLarge
from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.pipeline.vault import outputs, survey
from compute_to_data.ports.zone import Catalog
from compute_to_data.records import manifest
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord

PREFIX = "irods::compute_to_data::"
MOST_MEMORY = 150 << 20
HUGE = 700 << 20
FLOOD = 30_000


@contextmanager
def serving(site: TrialSite) -> Iterator[ServiceWorker]:
    """A worker in a process of its own. At the end, its memory must have stayed below 150 MB."""
    worker = ServiceWorker(site.configuration, COMPUTE, site.folder / "worker.log")
    try:
        yield worker
        assert worker.most_memory < MOST_MEMORY
    finally:
        worker.end()


def put_task(site: TrialSite, name: str, content: bytes = b"", **facts: str) -> TaskRecord:
    """A collection of alice's that looks like a queued task."""
    collection = f"{HOME}/out/{name}"
    site.alice.create_collection(collection)
    valid = json.dumps(task_json.recorded_document(request.parse(site.request("/bin/true")))).encode()
    site.alice.write(f"{collection}/task.json", content or valid)
    avus = [Avu(PREFIX + fact, value) for fact, value in {"role": "CONTAINER", **facts}.items()]
    state = Avu(f"{PREFIX}state", "QUEUED", COMPUTE)
    site.alice.annotate(Entity(EntityKind.COLLECTION, collection), add=[*avus, state])
    return TaskRecord(site.alice, site.configuration.attributes, collection, COMPUTE)


def inflate(site: TrialSite, logical_path: str, size: int, *, told: bool = True) -> None:
    """Make a data object's file huge without using disk. ``told``: the catalog knows its size."""
    found = site.alice.stat(logical_path)
    assert isinstance(found, DataObject)
    physical_path = found.replicas[0].physical_path
    os.truncate(physical_path, size)
    if told:
        with sqlite3.connect(Path(site.zone.directory) / "zone.db") as catalog:
            catalog.execute("UPDATE replica SET size = ? WHERE physical_path = ?", (size, physical_path))
        catalog.close()


def flood(catalog: Catalog, entity: Entity, attribute: str, count: int = FLOOD, value: str = "") -> None:
    catalog.annotate(entity, add=[Avu(attribute, f"{number}{value}") for number in range(count)])


def bobs_task_completes(site: TrialSite) -> None:
    site.bob.create_collection(f"/tempZone/home/{BOB.name}/out", parents=True)
    document = {**site.request("/bin/true"), "output_collection": f"/tempZone/home/{BOB.name}/out"}
    assert site.ended(site.submit(document, catalog=site.bob), site.bob)["state"] == "COMPLETED"


@pytest.mark.parametrize("told", [True, False], ids=["that the catalog knows", "that the catalog does not know"])
def test_a_huge_request_ends_with_a_reason_and_stops_no_other_task(site: TrialSite, told: bool) -> None:
    records = [put_task(site, f"huge{number}") for number in range(4)]
    for record in records:
        inflate(site, record.request_path, HUGE, told=told)
    with serving(site):
        bobs_task_completes(site)
        for record in records:
            wait_until(lambda record=record: (record.state() or State.QUEUED).is_final, "the end of a huge task")  # type: ignore[misc]
    said = f"has {HUGE} bytes, and at most 1048576" if told else "has more than the 1048576 bytes"
    for record in records:
        facts = record.facts("state", "reason", "reason_code")
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
        assert said in facts["reason"]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 500_000 + b"]" * 500_000,
        b"[" + b"[]," * 349_000 + b"[]]",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"version": 1, "a": ' + b"9" * 900_000 + b"}",
        b'{"version": 1, "a": NaN}',
        b'{"version": 1, "version": 1}',
        b'{"version": 1, "a": "\xff"}',
        b'{"version": 1, "a": "\\ud800"}',
        b'{"version": 1,' + b",".join(b'"%d":{}' % number for number in range(90_000)) + b"}",
    ],
    ids=["deep", "wide", "deep objects", "long number", "NaN", "twice", "not UTF-8", "half a character", "properties"],
)
def test_a_malicious_document_ends_with_a_reason(site: TrialSite, content: bytes) -> None:
    record = put_task(site, "malicious", content)
    with serving(site):
        wait_until(lambda: (record.state() or State.QUEUED).is_final, "the end of the task")
        bobs_task_completes(site)
    facts = record.facts("state", "reason", "reason_code")
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
    assert len(facts["reason"]) < 2700


@pytest.mark.parametrize("attribute", ["mine", f"{PREFIX}anything", f"{PREFIX}reason", f"{PREFIX}input", "trigger"])
def test_a_flood_of_avus_on_a_task_costs_nothing(site: TrialSite, attribute: str) -> None:
    """The state and the requests of a task are found all the same, and it can be cancelled at once."""
    script = "echo > /outputs/started; while :; do sleep 0.05; done"
    with serving(site) as worker:
        submitted = site.submit(site.request("/bin/sh", "-c", script))
        site.outputs(submitted)
        flood(site.alice, Entity(EntityKind.COLLECTION, submitted.collection), attribute)
        before = worker.processor_seconds
        bobs_task_completes(site)
        site.alice.annotate(
            Entity(EntityKind.COLLECTION, submitted.collection), add=[Avu(f"{PREFIX}cancel", "alice", COMPUTE)]
        )
        record = site.record(submitted)
        wait_until(lambda: (record.state() or State.QUEUED).is_final, "the end of the flooded task")
        assert worker.processor_seconds - before < 2.0
        assert record.facts("state")["state"] == "CANCELLED"


@pytest.mark.parametrize("name", ["state", "cancel", "follow", "reason"])
def test_a_flood_of_the_workers_own_facts_harms_only_its_task(site: TrialSite, name: str) -> None:
    """It ends all the same, and the worker does not return to it each second."""
    script = "echo > /outputs/started; while :; do sleep 0.05; done"
    with serving(site) as worker:
        submitted = site.submit(site.request("/bin/sh", "-c", script))
        site.outputs(submitted)
        entity = Entity(EntityKind.COLLECTION, submitted.collection)
        flood = [Avu(PREFIX + name, str(number), COMPUTE) for number in range(FLOOD)]
        site.alice.annotate(entity, add=[*flood, Avu(f"{PREFIX}cancel", "alice", COMPUTE)])
        bobs_task_completes(site)
        if name != "state":
            record = site.record(submitted)
            wait_until(lambda: (record.state() or State.QUEUED).is_final, "the end of the flooded task")
            assert record.facts("state")["state"] == "CANCELLED"
        bobs_task_completes(site)
        before = worker.processor_seconds
        time.sleep(3)
        assert worker.processor_seconds - before < 0.6


def test_the_largest_request_is_read_whole(site: TrialSite) -> None:
    """One byte less than the bound is not refused for its size."""
    path = f"{HOME}/request.json"
    site.alice.write(path, b" " * task_json.LARGEST)
    assert len(site.alice.read(path, task_json.LARGEST)) == task_json.LARGEST
    with pytest.raises(TooLarge):
        site.alice.read(path, task_json.LARGEST - 1)
    site.alice.write(path, b" " * task_json.LARGEST + b" ", force=True)
    assert len(site.alice.read(path, ENOUGH)) == task_json.LARGEST + 1


def test_as_many_avus_as_a_task_can_need_are_read(site: TrialSite) -> None:
    entity = Entity(EntityKind.COLLECTION, f"{HOME}/out")
    flood(site.alice, entity, "a", bounds.MOST_AVUS)
    assert len(site.alice.avus(entity)) == bounds.MOST_AVUS


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"[]," * 1_000_000 + b"[]]",
        b'{"version": 1, "files": [' + b"[]," * 1_000_000 + b"[]]}",
        b'{"version": 1, "files": [{"path": ' + b"[]," * 1_000_000 + b"}]}",
        b'{"version": 1, "a": [' + b"[]," * 1_000_000 + b"[]]}",
        b'{"version": 1, "files": [' + b"[" * 15_000 + b"]" * 15_000 + b"]}",
        b'{"version": 1, "version": 1, "files": []}',
        b'{"version": 1, "files": [{"path": "a", "path": "b"}]}',
        b'{"version": NaN, "files": []}',
        b'{"version": 1, "files": []} x',
        b'{"version": 1',
        b'{"a": "' + b"x" * 3_000_000 + b'"}',
        b"\xff\xfe",
    ],
    ids=[
        *("no object", "wide", "wide entry", "wide member", "deep", "twice", "twice in an entry", "NaN", "more"),
        *("cut", "long text", "not UTF-8"),
    ],
)
def test_a_malicious_manifest_takes_little_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            manifest.parsed(content, "manifest.json")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"[" + b"[]," * 349_000 + b"[]]",
        b'{"version": 1,' + b",".join(b'"%d":{}' % number for number in range(90_000)) + b"}",
        b'{"version": 1, "a": ["", ' + b'"\\"", ' * 140_000 + b'""]}',
    ],
    ids=["lists", "properties", "strings with a quote"],
)
def test_a_record_of_many_values_takes_little_memory_and_time(content: bytes) -> None:
    began = time.process_time()
    with pytest.raises(InvalidRequest, match="holds more than 65536 values"):
        task_json.recorded_task(content, "task.json")
    assert time.process_time() - began < 0.5
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            task_json.recorded_task(content, "task.json")
        assert tracemalloc.get_traced_memory()[1] < 15_000_000
    finally:
        tracemalloc.stop()


def test_text_with_many_commas_is_one_value() -> None:
    commas = '[,{\\"' * 100_000
    assert read_json(json.dumps([commas]).encode(), "document") == [commas]


def test_a_manifest_is_read_whatever_its_order_and_spaces() -> None:
    file = manifest.HeldFile("größe/\U0001f600 [1].txt", 1, f"sha2:{'A' * 43}=", 5)
    made = manifest.Manifest("d-0123456789ab", 'a "name"', "", (file,), (manifest.HeldFolder("größe", 7),))
    document = json.loads(made.content())
    for order in (document, dict(reversed(document.items()))):
        for more in ({"ensure_ascii": True}, {"ensure_ascii": False, "indent": 4}, {"separators": (",", ":")}):
            assert manifest.parsed(json.dumps(order, **more).encode(), "manifest.json") == made  # type: ignore[arg-type]


def test_a_flood_of_what_a_task_waits_for_is_bounded(site: TrialSite) -> None:
    """A waiting task with more awaited tasks on its record than a request can name."""
    first = site.submit(site.request("/bin/true"))
    waiting = site.submit(site.request("/bin/true"), after=[first.task_id])
    entity = Entity(EntityKind.COLLECTION, waiting.collection)
    flood(site.alice, entity, f"{PREFIX}after", value=f"/{'x' * 100}")
    with serving(site) as worker:
        bobs_task_completes(site)
        time.sleep(2)
        before = worker.processor_seconds
        bobs_task_completes(site)
        assert worker.processor_seconds - before < 3


def test_names_of_outputs_that_would_fill_the_workers_memory(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """90,000 empty files with names of 600 bytes took 800 MB of it, at each start again."""
    monkeypatch.setattr(survey, "MOST_NAME_BYTES", 2000)
    monkeypatch.setattr(outputs, "MOST_NAME_BYTES", 2000)
    script = "cd /outputs; for n in 1 2 3 4 5 6 7 8 9; do touch $(printf %0250d $n); done"
    facts = site.run(site.request("/bin/sh", "-c", script))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "output_limit"), facts
    assert "have more than 2000 bytes together" in facts["reason"]
    kept = [name for name in site.contents(facts["collection"]) if name.startswith("failed/")]
    assert len(kept) == 8, "what fits is kept"
    assert "more than" in facts["not_kept"]
