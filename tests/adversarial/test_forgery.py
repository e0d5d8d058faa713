"""The owner of a task can write anything on its record. So the record must not decide about anything that a
worker does with other rights than the owner's."""

from __future__ import annotations

import json

import pytest
from support.faults import StorageWithTroubledSessions, broken
from support.reading import ENOUGH
from support.site import ALICE, BOB, COMPUTE, HOME, TrialSite, serving, wait_until

from compute_to_data.documents import request, task_json
from compute_to_data.errors import NotFound
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind, Query
from compute_to_data.pipeline.replication.replicas import InUse
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.worker.task_runner import Purpose, Unintelligible

PREFIX = "irods::compute_to_data::"
BOBS = "/tempZone/home/bob"


def put(site: TrialSite, collection: str, **facts: str) -> None:
    """Alice writes facts on a record as a worker would, the state with its resource."""
    avus = [Avu(PREFIX + name, value, COMPUTE if name == "state" else "") for name, value in facts.items()]
    entity = Entity(EntityKind.COLLECTION, collection)
    old = [avu for avu in site.alice.avus(entity) if avu.attribute in {one.attribute for one in avus}]
    site.alice.annotate(entity, remove=old, add=avus)


def forged(site: TrialSite, argv: tuple[str, ...] = ("/bin/true",), **facts: str) -> TaskRecord:
    """A collection of alice's that looks like an unfinished task, with a directory of bob's in it."""
    collection = f"{HOME}/x"
    site.alice.create_collection(collection)
    site.alice.create_collection(f"{collection}/outputs")
    site.alice.set_access(collection, BOB, Access.READ_OBJECT)
    site.alice.set_access(f"{collection}/outputs", BOB, Access.MODIFY_OBJECT)
    site.bob.write(f"{collection}/outputs/secret.txt", b"bob's secret", resource=COMPUTE)
    site.bob.write(f"{collection}/outputs/STDOUT.txt", b"bob's too", resource=COMPUTE)
    document = task_json.recorded_document(request.parse(site.request(*argv)))
    site.alice.write(f"{collection}/task.json", json.dumps(document).encode())
    put(site, collection, role="CONTAINER", **facts)
    return TaskRecord(site.alice, site.configuration.attributes, collection, COMPUTE)


def work(site: TrialSite, record: TaskRecord) -> dict[str, str]:
    with site.working():
        wait_until(lambda: (record.state() or State.QUEUED).is_final, "the end of the forged task")
    return record.facts()


def test_a_forged_record_of_staging_trims_no_replica(site: TrialSite) -> None:
    site.bob.write(f"{BOBS}/precious", b"x", resource="demoResc")
    site.bob.replicate(f"{BOBS}/precious", COMPUTE)
    submitted = site.submit(site.request("/bin/false"))
    put(site, submitted.collection, state="STAGING_IN", staged=f"{BOBS}/precious")
    with site.working():
        assert site.ended(submitted)["state"] == "FAILED"
    found = site.bob.stat(f"{BOBS}/precious")
    assert isinstance(found, DataObject)
    assert [replica.leaf for replica in found.replicas] == ["demoResc", COMPUTE]


@pytest.mark.parametrize("state", ["QUEUED", "STAGING_IN", "RUNNING", "STAGING_OUT"])
@pytest.mark.parametrize("argv", [("/bin/true",), ("/bin/false",)], ids=["that ends well", "that fails"])
def test_a_forged_state_reads_and_harms_nothing_of_others(site: TrialSite, state: str, argv: tuple[str, ...]) -> None:
    facts = {"exit_status": "0", "job_started": "1.0", "job_finished": "2.0", "image_digest": "sha256:00"}
    record = forged(site, argv, state=state, ending="FAILED", reason_code="refused", error_code="-1", **facts)
    work(site, record)
    for name in ("secret.txt", "STDOUT.txt"):
        with pytest.raises(NotFound):
            site.alice.read(f"{record.collection}/{name}", ENOUGH)
    assert site.bob.read(f"{record.collection}/outputs/secret.txt", ENOUGH) == b"bob's secret"
    assert site.bob.read(f"{record.collection}/outputs/STDOUT.txt", ENOUGH) == b"bob's too"


def test_moved_results_outlive_a_task_of_the_same_id(site: TrialSite) -> None:
    writing = site.request("/bin/sh", "-c", "echo precious > /outputs/r.txt")
    assert site.run(writing, task_id="run1")["state"] == "COMPLETED"
    site.alice.rename(f"{HOME}/out/run1/r.txt", f"{HOME}/out/r.txt")
    site.alice.remove(f"{HOME}/out/run1", recursive=True)
    assert site.run(writing, task_id="run1")["state"] == "COMPLETED"
    assert site.alice.read(f"{HOME}/out/r.txt", ENOUGH) == b"precious\n"


def test_the_same_id_elsewhere_claims_another_input(site: TrialSite) -> None:
    for collection in ("in", "out2"):
        site.alice.create_collection(f"{HOME}/{collection}")
    for name in "ab":
        site.alice.write(f"{HOME}/in/{name}", name.encode())
    document = site.request("/bin/sh", "-c", "cp /inputs/* /outputs/", inputs=[{"next_of": f"{HOME}/in"}])
    first = site.run(document, task_id="run1")
    second = site.run({**document, "output_collection": f"{HOME}/out2"}, task_id="run1")
    assert "a" in site.contents(first["collection"])
    assert "b" in site.contents(second["collection"])


def test_invalid_tasks_of_one_user_do_not_affect_another(site: TrialSite) -> None:
    for _ in range(3):
        put(site, site.submit(site.request("/bin/true")).collection, state="NONSENSE")
        odd = site.submit(site.request("/bin/true"))
        site.alice.set_access(odd.collection, ALICE, Access.READ_OBJECT)
    site.bob.create_collection(f"{BOBS}/out")
    document = site.request("/bin/true", output_collection=f"{BOBS}/out")
    submitted = site.submit(document, catalog=site.bob)
    with site.working():
        assert site.ended(submitted, site.bob)["state"] == "COMPLETED"


def test_an_unexpected_error_does_not_end_the_worker(site: TrialSite) -> None:
    calls: list[str] = []

    class Odd:
        def __getattr__(self, name: str) -> object:
            return getattr(site.storage, name)

        def find(self, query: Query) -> object:
            calls.append("find")
            if len(calls) <= 3:
                raise KeyError("a foreign library's own")
            return site.storage.find(query)

    submitted = site.submit(site.request("/bin/true"))
    with serving(site.worker(storage=Odd())):  # type: ignore[arg-type]
        assert site.ended(submitted)["state"] == "COMPLETED"


def test_one_failed_request_to_the_zone_ends_no_job(site: TrialSite) -> None:
    asked: list[str] = []

    def trouble_while_it_runs(avus, entity, *attributes, **options):  # type: ignore[no-untyped-def]
        if any(avu.value == "RUNNING" for avu in avus(entity)):
            asked.append("")
            if len(asked) == 1:
                broken()
        return avus(entity, *attributes, **options)

    storage = StorageWithTroubledSessions(site.storage, avus=trouble_while_it_runs)
    submitted = site.submit(site.request("/bin/sleep", "2"))
    with site.working(storage=storage):  # type: ignore[arg-type]
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert len(asked) > 1


def test_unused_inputs_are_forgotten() -> None:
    in_use = InUse()
    for number in range(100):
        with in_use.using([f"/z/{number}"]):
            pass
    assert not in_use._users


def what_bob_left(site: TrialSite, path: str) -> None:
    """bob puts a file into alice's collection and it inherits the collection's access list: alice and bob have own
    access, and DATA_OWNER is bob."""
    site.alice.create_collection(f"{HOME}/inbox")
    site.alice.set_access(f"{HOME}/inbox", BOB, Access.MODIFY_OBJECT)
    site.alice.set_inheritance(f"{HOME}/inbox", True)
    site.bob.write(f"{HOME}/inbox/file", b"x")
    site.alice.rename(f"{HOME}/inbox/file", path)


def test_another_users_data_object_is_not_run_as_their_request(site: TrialSite) -> None:
    site.bob.write(f"{BOBS}/secret", b"bob's secret", resource=COMPUTE)
    collection = f"{HOME}/trap/x"
    site.alice.create_collection(collection, parents=True)
    what_bob_left(site, f"{collection}/task.json")
    copying = ("/bin/sh", "-c", "cp /inputs/* /outputs/")
    wanted = site.request(*copying, inputs=[f"{BOBS}/secret"])
    document = task_json.recorded_document(request.parse(wanted))
    site.alice.write(f"{collection}/task.json", json.dumps(document).encode(), force=True)
    put(site, collection, role="CONTAINER", state="QUEUED")
    site.alice.set_inheritance(collection, True)
    site.alice.set_access(f"{HOME}/trap", BOB, Access.OWN)
    for path in (collection, f"{collection}/task.json"):
        site.alice.set_access(path, BOB, Access.OWN)
        site.alice.set_access(path, ALICE, Access.READ_OBJECT)
    record = TaskRecord(site.alice, site.configuration.attributes, collection, COMPUTE)
    facts = work(site, record)
    assert facts["state"] == "FAILED" and "belongs to" in facts["reason"], facts
    assert "secret" not in site.contents(collection)


def test_a_late_request_that_cannot_be_removed_does_not_change_the_end(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true"))
    with site.working():
        assert site.ended(submitted)["state"] == "COMPLETED"
    put(site, submitted.collection, cancel="alice#tempZone")
    refusals: list[str] = []

    def refused_once(annotate, entity, **changes):  # type: ignore[no-untyped-def]
        if not refusals:
            refusals.append("")
            broken()
        annotate(entity, **changes)

    storage = StorageWithTroubledSessions(site.storage, annotate=refused_once)
    attempts = site.worker(storage=storage)._runner
    with pytest.raises(Unintelligible):
        next(attempts.run(submitted.collection, Purpose.CANCEL))
    assert refusals
    assert site.record(submitted).state() is State.COMPLETED
