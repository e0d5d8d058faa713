"""Which arrivals get a task, who owns it, and that a tag gives no user another user's rights."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from typing import Any

import pytest
from support.crowds import make_collections
from support.reading import ENOUGH
from support.site import ALICE, BOB, HOME, RODS, ZONE, TrialSite, wait_until

from compute_to_data.agent import policy
from compute_to_data.errors import InvalidRequest, Refused, ZoneError
from compute_to_data.model import Access, Avu, Collection, DataObject, Entity, EntityKind, ReplicaStatus, User
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.arrival import BeingWritten
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission import arrivals
from compute_to_data.zones.embedded import avus as embedded_avus
from compute_to_data.zones.embedded.agent import Callback, RuleExecutionInfo

SHARED = f"/{ZONE}/home/shared"
INBOX = f"{HOME}/in"
TEMPLATE = f"{HOME}/template.json"
TAG = "irods::compute_to_data::trigger"
STREAMS = {
    "input_adapter": {"input_type": "file", "input_parameters": {"file_type": "stream", "stream_name": "STDIN"}},
    "output_adapter": {
        "output_type": "file",
        "output_parameters": {"file_type": "stream", "stream_name": "STDOUT", "file_name": "copy"},
    },
}
CLAIM = "irods::compute_to_data_task"


class Lab:
    """alice's tagged collection, and a collection into which both alice and bob can write."""

    def __init__(self, site: TrialSite) -> None:
        self.site = site
        self.rods: Catalog = self.site.zone.session(RODS)
        self.alice, self.bob = self.site.alice, self.site.bob
        self.alice.create_collection(INBOX)
        self.site.storage.catalog.create_collection(SHARED, parents=True)
        for user in (ALICE, BOB):
            self.site.storage.catalog.set_access(SHARED, user, Access.OWN)
        self.bob.create_collection(f"/{ZONE}/home/bob/out")

    def template(self, collection: str = INBOX, output: str = f"{HOME}/out", **changes: Any) -> bytes:
        document = self.site.request("/bin/cat", process=STREAMS)
        return json.dumps(
            {**document, "inputs": [{"arriving_in": collection}], "output_collection": output, **changes}
        ).encode()

    def tag(self, collection: str, template: str, catalog: Catalog | None = None) -> None:
        (catalog or self.alice).annotate(Entity(EntityKind.COLLECTION, collection), add=[Avu(TAG, template)])

    def take(self, logical_path: str, catalog: Catalog | None = None, **more: Any) -> Any:
        return arrivals.take(catalog or self.alice, self.site.configuration, logical_path, **more)

    def put(self, logical_path: str, catalog: Catalog | None = None, content: bytes = b"data") -> str:
        (catalog or self.alice).write(logical_path, content)
        return logical_path

    def claims(self, logical_path: str) -> list[str]:
        avus = self.alice.avus(Entity(EntityKind.DATA_OBJECT, logical_path))
        return [avu.value for avu in avus if avu.attribute == CLAIM]

    def tasks(self, collection: str = f"{HOME}/out", catalog: Catalog | None = None) -> list[str]:
        children = (catalog or self.alice).children(collection)
        return [child.logical_path for child in children if isinstance(child, Collection)]


@pytest.fixture
def lab(site: TrialSite) -> Lab:
    lab = Lab(site)
    lab.alice.write(TEMPLATE, lab.template())
    lab.tag(INBOX, TEMPLATE)
    return lab


def test_an_arrival_gets_one_task_whose_input_it_is(lab: Lab) -> None:
    path = lab.put(f"{INBOX}/a.dat")
    submitted = lab.take(path)
    record = TaskRecord(lab.alice, lab.site.configuration.attributes, submitted.collection, submitted.resource)
    assert record.state() is State.QUEUED
    assert record.sealed_owner() == ALICE
    assert json.loads(lab.alice.read(record.request_path, ENOUGH))["inputs"] == [{"object": path}]
    assert lab.claims(path) == [submitted.task_id]
    assert lab.take(path) is None, "the same arrival, reported twice"
    lab.alice.write(path, b"overwritten", force=True)
    assert lab.take(path) is None, "overwriting is no new arrival"
    assert lab.tasks() == [submitted.collection]


def test_an_arrival_may_have_a_name_below_the_inputs(lab: Lab) -> None:
    named = {"arriving_in": INBOX, "name": "day/new.dat"}
    lab.alice.write(TEMPLATE, lab.template(inputs=[named]), force=True)
    path = lab.put(f"{INBOX}/a.dat")
    request = json.loads(lab.alice.read(f"{lab.take(path).collection}/task.json", ENOUGH))
    assert request["inputs"] == [{"object": path, "name": "day/new.dat"}]


def test_without_its_claim_it_arrives_again(lab: Lab) -> None:
    path = lab.put(f"{INBOX}/a.dat")
    first = lab.take(path)
    (claim,) = [one for one in lab.alice.avus(Entity(EntityKind.DATA_OBJECT, path)) if one.attribute == CLAIM]
    lab.alice.annotate(Entity(EntityKind.DATA_OBJECT, path), remove=[claim])
    second = lab.take(path)
    assert second is not None and second.task_id != first.task_id


def test_its_task_runs_and_its_outputs_trigger_nothing(lab: Lab) -> None:
    """The results go below the tagged collection, where a loop would be most likely."""
    lab.alice.write(TEMPLATE, lab.template(output=INBOX), force=True)
    submitted = lab.take(lab.put(f"{INBOX}/a.dat"))
    with lab.site.working():
        facts = lab.site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert lab.alice.read(f"{submitted.collection}/copy", ENOUGH) == b"data"
    for name in ("copy", "task.json", "ro-crate-metadata.json"):
        assert lab.take(f"{submitted.collection}/{name}") is None
    assert lab.tasks(INBOX) == [submitted.collection]


def test_many_agents_at_once_make_one_task(lab: Lab) -> None:
    paths = [lab.put(f"{INBOX}/{number}.dat") for number in range(5)]
    start, taken = threading.Barrier(4), []

    def agent() -> None:
        session = lab.site.zone.session(ALICE)
        start.wait(30)
        taken.extend(one for one in (lab.take(path, session) for path in paths) if one is not None)

    agents = [threading.Thread(target=agent) for _ in range(4)]
    for one in agents:
        one.start()
    for one in agents:
        one.join(60)
    assert sorted(one.collection for one in taken) == lab.tasks()
    assert len(taken) == len(paths)
    assert [len(lab.claims(path)) for path in paths] == [1] * len(paths)


def test_data_objects_that_start_no_task(lab: Lab) -> None:
    lab.alice.create_collection(f"{INBOX}/below")
    assert lab.take(lab.put(f"{INBOX}/below/a.dat")) is None, "subcollections have tags of their own"
    assert lab.take(lab.put(f"{HOME}/a.dat")) is None
    assert lab.take(f"{INBOX}/gone.dat") is None
    assert lab.take(f"{INBOX}/below") is None
    lab.alice.write(f"{INBOX}/t.json", lab.template())
    lab.tag(INBOX, f"{INBOX}/t.json")
    assert lab.take(f"{INBOX}/t.json") is None, "the owner updates the template in place"
    assert lab.tasks() == []


def test_a_data_object_being_written_arrives_later(lab: Lab) -> None:
    path = lab.put(f"{INBOX}/a.dat")
    lab.site.zone.set_replica_status(path, 0, ReplicaStatus.INTERMEDIATE)
    with pytest.raises(BeingWritten):
        lab.take(path)
    empty = lab.put(f"{INBOX}/empty.dat", content=b"")
    with pytest.raises(BeingWritten):
        lab.take(empty, written=True)
    assert lab.take(empty) is not None, "iput of an empty file is an arrival"


def test_an_idle_worker_loses_no_arrival(lab: Lab) -> None:
    changed = replace(lab.site.configuration.worker, on_demand=False)
    lab.site.configuration = replace(lab.site.configuration, worker=changed)
    submitted = lab.take(lab.put(f"{INBOX}/a.dat"))
    with lab.site.working():
        assert lab.site.ended(submitted)["state"] == "COMPLETED"


def test_a_refused_arrival_stays_unchanged(lab: Lab) -> None:
    lab.alice.write(TEMPLATE, lab.template(resource="no_such_resource"), force=True)
    path = lab.put(f"{INBOX}/a.dat")
    before = lab.site.snapshot()
    with pytest.raises(ZoneError, match="no_such_resource"):
        lab.take(path)
    assert lab.site.snapshot() == before
    arrivals.explain(lab.alice, lab.site.configuration, path, "why not")
    entity = Entity(EntityKind.DATA_OBJECT, path)
    assert Avu("irods::compute_to_data::arrival", "why not") in lab.alice.avus(entity)
    lab.alice.write(TEMPLATE, lab.template(), force=True)
    assert lab.take(path) is not None, "the next event, with a corrected template"
    assert not [avu for avu in lab.alice.avus(entity) if avu.attribute.endswith("::arrival")]


def test_a_name_that_no_request_can_hold_is_named(lab: Lab) -> None:
    """The template was blamed, which is right for all others."""
    path = lab.put(f"{INBOX}/a\nb.dat")
    before = lab.site.snapshot()
    with pytest.raises(InvalidRequest) as refused:
        lab.take(path)
    assert refused.value.subject == ascii(path)
    assert "control character" in refused.value.cause
    assert lab.site.snapshot() == before


WRONG = {
    "no place": {"inputs": []},
    "no inputs": {"inputs": {}},
    "two places": {"inputs": [{"arriving_in": INBOX}, {"arriving_in": INBOX}]},
    "another collection's": {"inputs": [{"arriving_in": f"{HOME}/other"}]},
    "beside a word": {"inputs": [{"arriving_in": INBOX, "object": TEMPLATE}]},
    "an output that is no path": {"output_collection": 1},
    "an image that is not allowed": {"process": {"image": "no/such:1", "exec": "x"}},
    "an input one may not read": {"inputs": [{"arriving_in": INBOX}, f"/{ZONE}/home/bob/x"]},
}


@pytest.mark.parametrize("name", WRONG)
def test_an_invalid_template_is_refused(lab: Lab, name: str) -> None:
    lab.alice.write(TEMPLATE, lab.template(**WRONG[name]), force=True)
    path = lab.put(f"{INBOX}/a.dat")
    with pytest.raises((Refused, ZoneError)):
        lab.take(path)
    assert lab.claims(path) == []
    assert lab.tasks() == []


@pytest.mark.parametrize(
    ("change", "place"), [({"priority": 99}, "#/priority"), ({"notebook": {"image": "tools"}}, ": found an object of")]
)
def test_a_wrong_value_is_named_with_its_template(lab: Lab, change: dict[str, Any], place: str) -> None:
    lab.alice.write(TEMPLATE, lab.template(**change), force=True)
    with pytest.raises(InvalidRequest) as caught:
        lab.take(lab.put(f"{INBOX}/a.dat"))
    assert str(caught.value).startswith(f"{TEMPLATE}{place}")


@pytest.mark.parametrize("template", ["template.json", f"{HOME}/no.json", f"{HOME}/../x"])
def test_a_tag_that_names_nothing_is_named(lab: Lab, template: str) -> None:
    other = f"{HOME}/other"
    lab.alice.create_collection(other)
    lab.tag(other, template)
    with pytest.raises(ZoneError) as caught:
        lab.take(lab.put(f"{other}/a.dat"))
    assert str(caught.value).startswith(f"template {template}: ")
    assert f"the AVU {TAG} of {other}, which names it" in str(caught.value)


def test_a_template_cannot_be_submitted(lab: Lab) -> None:
    with pytest.raises(Refused, match="/inputs/0"):
        lab.site.submit(json.loads(lab.template()))


def written_by(lab: Lab, user: User, path: str, **changes: Any) -> str:
    lab.site.zone.session(user).write(path, lab.template(SHARED, **changes))
    return path


def test_a_tag_does_not_use_another_users_rights(lab: Lab) -> None:
    """bob tags the shared collection with his own document. It would make alice's task read a data
    object that only she may read, and write it where bob can read it."""
    lab.put(f"{HOME}/secret.dat")
    lab.alice.create_collection(f"{SHARED}/out")
    mine = written_by(
        lab,
        BOB,
        f"{SHARED}/bobs.json",
        inputs=[{"arriving_in": SHARED}, f"{HOME}/secret.dat"],
        output_collection=f"{SHARED}/out",
    )
    lab.bob.set_access(mine, ALICE, Access.READ_OBJECT)
    lab.tag(SHARED, mine, lab.bob)
    path = lab.put(f"{SHARED}/a.dat")
    with pytest.raises(Refused, match="belongs to bob#tempZone"):
        lab.take(path)
    assert lab.tasks(f"{SHARED}/out") == []


def test_a_tag_does_not_use_a_users_documents_against_them(lab: Lab) -> None:
    """bob tags the shared collection with a document that alice wrote for another purpose: a template
    for another collection, or the record of an earlier task."""
    once = lab.take(lab.put(f"{INBOX}/once.dat"))
    for document in (TEMPLATE, f"{once.collection}/task.json"):
        entity = Entity(EntityKind.COLLECTION, SHARED)
        lab.bob.annotate(entity, remove=[a for a in lab.bob.avus(entity) if a.attribute == TAG], add=[])
        lab.tag(SHARED, document, lab.bob)
        path = lab.put(f"{SHARED}/{len(document)}.dat")
        with pytest.raises(Refused, match="arriving_in"):
            lab.take(path)
    assert lab.tasks() == [once.collection]


def test_a_file_left_in_anothers_collection_is_not_a_template(lab: Lab) -> None:
    """alice stores a file in bob's collection, and it inherits his access. He makes it a template,
    removes his own access, and waits for her next file."""
    lab.put(f"{HOME}/secret.dat")
    inbox = f"/{ZONE}/home/bob/inbox"
    lab.bob.create_collection(inbox)
    lab.bob.set_access(inbox, ALICE, Access.OWN)
    lab.bob.set_inheritance(inbox, True)
    left = lab.put(f"{inbox}/left.dat")
    reading = {
        "inputs": [{"arriving_in": inbox}, f"{HOME}/secret.dat"],
        "process": lab.site.process("/bin/true"),
    }
    lab.bob.write(left, lab.template(inbox, output=inbox, **reading), force=True)
    lab.bob.set_access(left, BOB, Access.NULL)
    lab.tag(inbox, left, lab.bob)
    with pytest.raises(Refused, match="its collection belongs to bob#tempZone"):
        lab.take(lab.put(f"{inbox}/next.dat"))
    assert lab.tasks(inbox) == []


@pytest.mark.parametrize("level", [Access.MODIFY_OBJECT, Access.OWN, Access.CREATE_METADATA])
def test_a_template_that_another_user_can_write_is_refused(lab: Lab, level: Access) -> None:
    template = written_by(lab, ALICE, f"{HOME}/shared.json")
    lab.tag(SHARED, template)
    lab.alice.set_access(template, BOB, level)
    path = lab.put(f"{SHARED}/a.dat")
    with pytest.raises(Refused, match="bob#tempZone has"):
        lab.take(path)
    lab.alice.set_access(template, BOB, Access.READ_OBJECT)
    assert lab.take(path) is not None


def test_each_user_of_a_shared_collection_has_their_own_template(lab: Lab) -> None:
    for catalog, user in ((lab.alice, ALICE), (lab.bob, BOB)):
        home = f"/{ZONE}/home/{user.name}"
        lab.tag(SHARED, written_by(lab, user, f"{home}/shared.json", output=f"{home}/out"), catalog)
    alices, bobs = (lab.put(f"{SHARED}/{one.user.name}", one) for one in (lab.alice, lab.bob))
    assert lab.take(alices).collection.startswith(f"{HOME}/out/")
    assert lab.take(bobs, lab.bob).collection.startswith(f"/{ZONE}/home/bob/out/")


def test_an_administrators_template_serves_every_user(lab: Lab) -> None:
    template = written_by(lab, RODS, f"/{ZONE}/home/rods/all.json", output=f"/{ZONE}/home/%(USER)s/out")
    for user in (ALICE, BOB):
        lab.site.storage.catalog.set_access(f"/{ZONE}/home/rods", user, Access.READ_OBJECT)
        lab.site.storage.catalog.set_access(template, user, Access.READ_OBJECT)
    lab.tag(SHARED, template, lab.bob)
    submitted = lab.take(lab.put(f"{SHARED}/a.dat"))
    assert submitted.collection.startswith(f"{HOME}/out/")
    assert lab.alice.stat(f"{submitted.collection}/task.json").owner == ALICE
    other = lab.take(lab.put(f"{SHARED}/b.dat", lab.bob), lab.bob)
    assert other.collection.startswith(f"/{ZONE}/home/bob/out/")


def test_too_many_tags_are_refused(lab: Lab) -> None:
    for number in range(9):
        lab.tag(INBOX, f"{HOME}/none{number}")
    with pytest.raises(Refused, match="has 10"):
        lab.take(lab.put(f"{INBOX}/a.dat"))


def test_all_of_many_arrivals_run(lab: Lab) -> None:
    paths = [lab.put(f"{INBOX}/{number:02}.dat", content=f"{number}".encode()) for number in range(20)]
    submitted = [lab.take(path) for path in paths]
    with lab.site.working():
        for number, one in enumerate(submitted):
            assert lab.site.ended(one)["state"] == "COMPLETED"
            assert lab.alice.read(f"{one.collection}/copy", ENOUGH) == f"{number}".encode()
    wait_until(lambda: len(lab.tasks()) == len(paths), "all tasks")


class Server:
    """An agent of alice, in which a policy runs, and what it logs."""

    def __init__(self, lab: Lab) -> None:
        self.rei = RuleExecutionInfo(lab.site.zone, ALICE, lab.site.configuration)
        self.log: list[str] = []
        self.callback = Callback(lambda where, text: self.log.append(f"{where}: {text}"))

    def arrived(self, logical_path: str, *, written: bool = False) -> bool:
        return policy.arrived(self.callback, self.rei, logical_path, written=written)


def test_a_policy_queues_a_task_and_wakes_the_worker(lab: Lab) -> None:
    server = Server(lab)
    with lab.site.working():
        assert server.arrived(lab.put(f"{INBOX}/a.dat"))
        wait_until(lab.tasks, "the task")
        (collection,) = lab.tasks()
        record = TaskRecord(lab.alice, lab.site.configuration.attributes, collection, "dsp_resc")
        wait_until(lambda: record.state() is State.COMPLETED, "the task's end")
    assert not server.arrived(lab.put(f"{INBOX}/empty.dat", content=b""), written=True)
    assert server.log == []


def test_a_policy_records_in_the_log_and_on_the_data_object_why_there_is_no_task(lab: Lab) -> None:
    lab.alice.write(TEMPLATE, lab.template(resource="no_such_resource"), force=True)
    path, server = lab.put(f"{INBOX}/a.dat"), Server(lab)
    assert server.arrived(path), "the arrival is dealt with"
    (line,) = server.log
    assert line.startswith(f"serverLog: compute_to_data: {path} has arrived, but gets no task")
    notes = [avu for avu in lab.alice.avus(Entity(EntityKind.DATA_OBJECT, path)) if avu.attribute.endswith("::arrival")]
    assert len(notes) == 1 and "no_such_resource" in notes[0].value


def test_without_the_right_to_annotate_the_reason_is_only_in_the_log(lab: Lab) -> None:
    """alice writes into bob's data object, and can no longer annotate it afterwards."""
    lab.tag(SHARED, f"{HOME}/none.json")
    path = lab.put(f"{SHARED}/b.dat", lab.bob)
    lab.bob.set_access(path, ALICE, Access.READ_OBJECT)
    server = Server(lab)
    assert server.arrived(path)
    assert len(server.log) == 1


def test_a_workers_own_operations_start_no_task(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path, server = lab.put(f"{INBOX}/a.dat"), Server(lab)
    real = policy.site_of
    monkeypatch.setattr(policy, "site_of", lambda *given: replace(real(*given), by_service=True))
    assert server.arrived(path)
    policy.registered(server.callback, server.rei, INBOX, "/", 0)
    assert lab.tasks() == []


def test_a_registered_directory_starts_tasks(lab: Lab) -> None:
    lab.alice.create_collection(f"{INBOX}/below")
    lab.tag(f"{INBOX}/below", TEMPLATE)
    older, new = lab.put(f"{INBOX}/older.dat"), lab.put(f"{INBOX}/new.dat")
    lab.put(f"{HOME}/elsewhere.dat")
    found = lab.alice.stat(new)
    assert isinstance(found, DataObject)
    server, directory = Server(lab), found.replicas[0].physical_path
    policy.registered(server.callback, server.rei, INBOX, directory, int(found.created))
    assert lab.tasks() == [], "it is beside the directory, not in it"
    physical = os.path.dirname(directory)
    policy.registered(server.callback, server.rei, f"{INBOX}/n", physical, int(found.created))
    assert lab.tasks() == [], "a collection whose name begins in the same way"
    policy.registered(server.callback, server.rei, HOME, physical, int(found.created) + 1)
    assert lab.tasks() == [], "older than the registration"
    policy.registered(server.callback, server.rei, HOME, physical, 0)
    assert len(lab.claims(older)) == len(lab.claims(new)) == 1
    assert len(lab.tasks()) == 2


def test_a_registered_directory_where_others_tag_many_collections(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks of those in the directory are made, and the agent does not read the names of the others."""
    lab.alice.create_collection(f"{INBOX}/below/deep", parents=True)
    lab.alice.write(f"{HOME}/deep.json", lab.template(f"{INBOX}/below/deep"))
    lab.tag(f"{INBOX}/below/deep", f"{HOME}/deep.json")
    path = lab.put(f"{INBOX}/below/deep/new.dat")
    avus = [Avu(lab.site.configuration.attributes.named("trigger"), TEMPLATE)]
    make_collections(lab.site, BOB, SHARED, 3000, avus, reader=ALICE)
    longest = []
    real = embedded_avus.find

    def find(*given: Any) -> tuple[str, ...]:
        found = real(*given)
        longest.append(len(found))
        return found

    monkeypatch.setattr(embedded_avus, "find", find)
    found = lab.alice.stat(path)
    assert isinstance(found, DataObject)
    server = Server(lab)
    policy.registered(server.callback, server.rei, HOME, os.path.dirname(found.replicas[0].physical_path), 0)
    assert len(lab.claims(path)) == 1, server.log
    assert max(longest) == policy._MOST_TAGGED + 1
