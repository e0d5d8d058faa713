"""Tasks that run through the template without errors, and requests that are refused."""

from __future__ import annotations

import json
import time

import pytest
from support.faults import Troubled
from support.reading import ENOUGH
from support.site import ALICE, BOB, COMPUTE, HOME, TrialSite, wait_until

from compute_to_data.errors import AccessDenied, ComputeToDataError, InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind, ReplicaStatus

STDIN = {"input_type": "file", "input_parameters": {"file_type": "stream", "stream_name": "STDIN"}}
STDOUT = {"output_type": "file", "output_parameters": {"file_type": "stream", "stream_name": "STDOUT"}}


def test_streams_connect_an_input_to_an_output(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    adapters = {"input_adapter": STDIN, "output_adapter": STDOUT}
    facts = site.run(site.request("/usr/bin/tr", "-d", "x", inputs=[f"{HOME}/a.txt"], process=adapters))
    assert facts["state"] == "COMPLETED"
    assert site.contents(facts["collection"])["a.txt"] == b"abc\n"


def test_names_in_argv_connect_an_input_to_an_output(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/it's a.txt", b"axbxc\n")
    adapters = {
        "input_adapter": {"input_type": "file", "input_parameters": {"file_path": "${input_file}"}},
        "output_adapter": {
            "output_type": "file",
            "output_parameters": {"file_path": "${output_file}", "file_name": "copy.txt"},
        },
    }
    request = site.request(
        "/bin/cp", "${input_file}", "${output_file}", inputs=[f"{HOME}/it's a.txt"], process=adapters
    )
    facts = site.run(request)
    assert facts["state"] == "COMPLETED", facts
    assert site.contents(facts["collection"])["copy.txt"] == b"axbxc\n"


def test_outputs_belong_to_the_owner_with_checksums_and_avus(site: TrialSite) -> None:
    request = site.request(
        "/bin/sh", "-c", "mkdir -p /outputs/a/b; echo deep > /outputs/a/b/c; echo top > /outputs/top",
        metadata=[{"attribute": "project", "value": "apollo", "units": "u"}], name="layers",
    )  # fmt: skip
    facts = site.run(request)
    assert facts["state"] == "COMPLETED", facts
    deep = site.alice.stat(f"{facts['collection']}/a/b/c")
    assert isinstance(deep, DataObject)
    assert deep.owner == ALICE
    (replica,) = deep.replicas
    assert (replica.leaf, replica.status, replica.size) == (COMPUTE, ReplicaStatus.GOOD, 5)
    assert replica.checksum == site.storage.verify(deep.logical_path, replica.number) != ""
    for entity in (
        Entity(EntityKind.COLLECTION, facts["collection"]),
        Entity(EntityKind.DATA_OBJECT, deep.logical_path),
    ):
        avus = {avu.attribute: avu for avu in site.alice.avus(entity)}
        assert avus["project"] == Avu("project", "apollo", "u")
        assert avus["irods::compute_to_data::task_id"].value == facts["task_id"]
        assert avus["irods::compute_to_data::image_digest"].value.startswith("sha256:")
        assert avus["irods::compute_to_data::exit_status"].value == "0"
        assert avus["irods::compute_to_data::name"].value == "layers"


def test_the_crate_describes_inputs_and_outputs(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a.txt", b"x")
    facts = site.run(site.request("/bin/cp", "/inputs/a.txt", "/outputs/b.txt", inputs=[f"{HOME}/a.txt"]))
    crate = json.loads(site.contents(facts["collection"])["ro-crate-metadata.json"])
    things = {thing["@id"]: thing for thing in crate["@graph"]}
    run = things["#run"]
    assert things[run["object"]["@id"]]["name"] == f"{HOME}/a.txt"
    assert run["result"]["@id"] == "b.txt"
    registered = site.alice.stat(f"{facts['collection']}/b.txt")
    assert isinstance(registered, DataObject)
    assert things["b.txt"]["identifier"] == registered.replicas[0].checksum


def test_an_input_is_replicated_only_when_necessary(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/here.txt", b"here", resource=COMPUTE)
    site.alice.write(f"{HOME}/there.txt", b"there", resource="demoResc")
    replicated = []

    def noticed(replicate, data_object, resource):  # type: ignore[no-untyped-def]
        replicated.append(data_object)
        return replicate(data_object, resource)

    request = site.request("/bin/true", inputs=[f"{HOME}/here.txt", f"{HOME}/there.txt"])
    facts = site.run(request, storage=Troubled(site.storage, replicate=noticed))  # type: ignore[arg-type]
    assert facts["state"] == "COMPLETED", facts
    assert replicated == [f"{HOME}/there.txt"]


def test_the_next_unprocessed_input_is_claimed_once(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    for name in "abcdef":
        site.alice.write(f"{HOME}/in/{name}", name.encode())
    request = site.request("/bin/sh", "-c", "cat /inputs/* > /outputs/got", inputs=[{"next_of": f"{HOME}/in"}])
    submitted = [site.submit(request) for _ in range(6)]
    with site.working():
        ended = [site.ended(one) for one in submitted]
    assert [one["state"] for one in ended] == ["COMPLETED"] * 6
    got = [site.contents(one["collection"])["got"].decode() for one in ended]
    assert sorted(got) == list("abcdef")
    with pytest.raises(Refused, match="holds no unclaimed data object"):
        site.submit(request)
    site.alice.write(f"{HOME}/in/g", b"g")
    with pytest.raises(Refused, match="holds no further unclaimed data object"):
        site.submit({**request, "inputs": request["inputs"] * 2})


def test_a_data_object_that_the_user_may_not_annotate_is_passed_over(site: TrialSite) -> None:
    """In a collection that alice shares, bob may put one that she may only read. The next one is her task's input."""
    site.alice.create_collection(f"{HOME}/in")
    site.alice.set_access(HOME, BOB, Access.READ_OBJECT)
    site.alice.set_access(f"{HOME}/in", BOB, Access.MODIFY_OBJECT)
    site.bob.write(f"{HOME}/in/a", b"bob's")
    site.bob.set_access(f"{HOME}/in/a", ALICE, Access.READ_OBJECT)
    request = site.request("/bin/sh", "-c", "cat /inputs/* > /outputs/got", inputs=[{"next_of": f"{HOME}/in"}])
    with site.working():
        refused = site.ended(site.submit(request))
        site.alice.write(f"{HOME}/in/b", b"hers")
        ended = site.ended(site.submit(request))
    assert refused["state"] == "FAILED", refused
    assert f"{HOME}/in/a" in refused["reason"]
    assert site.contents(ended["collection"])["got"] == b"hers"


def test_commands_run_in_order_and_some_may_fail(site: TrialSite) -> None:
    process = {
        "image": site.image,
        "commands": [
            ["/bin/sh", "-c", "echo one > /outputs/log"],
            ["/bin/sh", "-c", "echo two >> /outputs/log; exit 3"],
            ["/bin/sh", "-c", "echo three >> /outputs/log"],
        ],
        "allowable_command_indices_for_nonzero_exit_code": [-2],
    }
    request = {"resource": COMPUTE, "inputs": [], "output_collection": f"{HOME}/out", "process": process}
    facts = site.run(request)
    assert facts["state"] == "COMPLETED", facts
    assert site.contents(facts["collection"])["log"] == b"one\ntwo\nthree\n"


def test_logs_are_kept_when_the_program_fails(site: TrialSite) -> None:
    facts = site.run(site.request("/bin/sh", "-c", "echo out; echo err >&2; exit 2"))
    assert facts["state"] == "FAILED"
    assert site.contents(facts["collection"])["STDOUT.txt"] == b"out\n"
    assert site.contents(facts["collection"])["STDERR.txt"] == b"err\n"
    assert facts["exit_status"] == "2"


def test_the_record_has_the_duration_of_each_part(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a.txt", b"x", resource="demoResc")
    for script, state in (("sleep 0.2", "COMPLETED"), ("sleep 0.2; exit 3", "FAILED")):
        facts = site.run(site.request("/bin/sh", "-c", script, inputs=[f"{HOME}/a.txt"]))
        assert facts["state"] == state
        parts = [float(facts[f"{part}_seconds"]) for part in ("stage_in", "processing", "stage_out")]
        assert 0.19 <= parts[1] < 10 and min(parts) >= 0
        avus = site.alice.avus(Entity(EntityKind.COLLECTION, facts["collection"]))
        assert [avu.units for avu in avus if avu.attribute.endswith("_seconds")] == ["s", "s", "s"]


def test_a_cancelled_task_ends_and_says_by_whom(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/sleep", "60"))
    with site.working():
        wait_until(lambda: site.record(submitted).facts().get("state") == "RUNNING", "the task to run")
        site.record(submitted).remember("cancel", "alice#tempZone")
        facts = site.ended(submitted)
    assert facts["state"] == "CANCELLED"
    assert "alice#tempZone" in facts["reason"]
    assert site.leftovers(submitted) == []


class TestSubmission:
    """A refused submission leaves nothing behind, and its error has a remedy."""

    def refused(
        self, site: TrialSite, document: object, error: type[ComputeToDataError], words: str, **more: object
    ) -> None:
        before = site.snapshot()
        with pytest.raises(error, match=words):
            site.submit(document, **more)
        assert site.snapshot() == before

    def test_image_not_allowed(self, site: TrialSite) -> None:
        self.refused(site, site.request("/bin/true", process={"image": "other"}), Refused, "allowed images")

    def test_missing_input(self, site: TrialSite) -> None:
        self.refused(site, site.request("/bin/true", inputs=[f"{HOME}/none"]), NotFound, "none: .*Check the path")

    def test_unknown_resource(self, site: TrialSite) -> None:
        self.refused(site, site.request("/bin/true", resource="nowhere"), NotFound, "nowhere")

    def test_resource_without_a_role(self, site: TrialSite) -> None:
        self.refused(site, site.request("/bin/true", resource="demoResc"), Refused, "not a compute resource")

    def test_limit_over_the_maximum(self, site: TrialSite) -> None:
        self.refused(site, site.request("/bin/true", limits={"walltime_seconds": 1e9}), Refused, "walltime")

    def test_malformed(self, site: TrialSite) -> None:
        self.refused(site, site.request("/bin/true", inputs=[{"objct": "/x"}]), InvalidRequest, "/inputs/0")

    def test_output_collection_of_another(self, site: TrialSite) -> None:
        document = site.request("/bin/true", output_collection="/tempZone/home/bob")
        self.refused(site, document, NotFound, "bob: .* may not read it. Make it with imkdir -p, or name another one")

    def test_output_collection_only_writable(self, site: TrialSite) -> None:
        site.bob.create_collection("/tempZone/home/bob/shared")
        site.bob.set_access("/tempZone/home/bob/shared", ALICE, Access.MODIFY_OBJECT)
        document = site.request("/bin/true", output_collection="/tempZone/home/bob/shared")
        self.refused(site, document, AccessDenied, "ichmod own")

    def test_a_task_id_that_is_taken(self, site: TrialSite) -> None:
        site.submit(site.request("/bin/true"), task_id="mine")
        self.refused(
            site, site.request("/bin/true"), ComputeToDataError, "there is already a task of that id", task_id="mine"
        )

    def test_a_task_id_that_is_a_path(self, site: TrialSite) -> None:
        self.refused(site, site.request("/bin/true"), InvalidRequest, "task id", task_id="../x")


class TestWhoMayBorrowAnOwnersRights:
    """A worker does what task.json says with the owner's rights, so no other user may write it."""

    def test_in_a_collection_that_inherits_a_groups_access(self, site: TrialSite) -> None:
        lab = site.zone.add_group("lab")
        site.zone.add_to_group(lab, BOB)
        site.alice.set_access(f"{HOME}/out", lab, Access.OWN)
        site.alice.set_access(f"{HOME}/out", ALICE, Access.OWN)
        site.alice.set_inheritance(f"{HOME}/out", True)
        submitted = site.submit(site.request("/bin/true"))
        for path in (submitted.collection, f"{submitted.collection}/task.json"):
            assert site.bob.access(path) == Access.READ_OBJECT
        with pytest.raises(AccessDenied):
            site.bob.write(f"{submitted.collection}/task.json", b"{}", force=True)
        with site.working():
            assert site.ended(submitted)["state"] == "COMPLETED"

    def test_where_the_owner_is_there_as_a_member_only(self, site: TrialSite) -> None:
        lab = site.zone.add_group("lab")
        for member in (ALICE, BOB):
            site.zone.add_to_group(lab, member)
        shared = "/tempZone/home/bob/shared"
        site.bob.set_access("/tempZone/home/bob", lab, Access.READ_OBJECT)
        site.bob.create_collection(shared)
        site.bob.set_access(shared, lab, Access.OWN)
        site.bob.set_inheritance(shared, True)
        submitted = site.submit(site.request("/bin/sh", "-c", "echo 1 > /outputs/one", output_collection=shared))
        assert site.alice.access(submitted.collection) == Access.OWN
        assert site.bob.access(submitted.collection) == Access.READ_OBJECT
        with site.working():
            assert site.ended(submitted)["state"] == "COMPLETED"
        found = site.bob.stat(f"{submitted.collection}/one")
        assert isinstance(found, DataObject)
        assert found.owner == ALICE
        assert site.bob.read(f"{submitted.collection}/one", ENOUGH) == b"1\n"

    def test_a_request_that_another_could_have_written_is_refused(self, site: TrialSite) -> None:
        submitted = site.submit(site.request("/bin/sh", "-c", "echo 1 > /outputs/one"))
        site.alice.set_access(f"{submitted.collection}/task.json", BOB, Access.MODIFY_OBJECT)
        with site.working():
            facts = site.ended(submitted)
        assert facts["state"] == "FAILED"
        assert facts["reason_code"] == "refused"
        assert "bob#tempZone has modify_object" in facts["reason"]
        assert "one" not in site.contents(submitted.collection)

    def test_a_forged_record_without_a_request_is_passed_over(self, site: TrialSite) -> None:
        forged = f"{HOME}/out/forged"
        site.alice.create_collection(forged)
        state = Avu("irods::compute_to_data::state", "QUEUED", COMPUTE)
        site.alice.annotate(Entity(EntityKind.COLLECTION, forged), add=[state])
        submitted = site.submit(site.request("/bin/true"))
        with site.working():
            assert site.ended(submitted)["state"] == "COMPLETED"
        assert site.alice.avus(Entity(EntityKind.COLLECTION, forged)) == (state,)

    def test_states_that_no_worker_wrote_end_the_task(self, site: TrialSite) -> None:
        submitted = site.submit(site.request("/bin/sh", "-c", "echo 1 > /outputs/one"))
        odd = Avu("irods::compute_to_data::state", "COMPLETED", COMPUTE)
        site.alice.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[odd])
        with site.working():
            wait_until(lambda: "reason" in site.record(submitted).facts(), "the end")
        facts = site.record(submitted).facts()
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
        assert "no worker wrote" in facts["reason"]
        assert set(site.contents(submitted.collection)) == {"task.json"}

    def test_a_private_input_of_another_stays_private(self, site: TrialSite) -> None:
        site.bob.write("/tempZone/home/bob/secret", b"secret")
        request = site.request("/bin/cp", "/inputs/secret", "/outputs/", inputs=["/tempZone/home/bob/secret"])
        with pytest.raises(NotFound):
            site.submit(request)


def test_a_task_that_waits_says_where_and_is_taken_up_at_once(site: TrialSite) -> None:
    with site.working():
        first = site.submit(site.request("/bin/true"))
        from compute_to_data.coordination import wakeup

        began = time.monotonic()
        wakeup.call_worker(site.configuration, "tempZone", COMPUTE)
        assert site.ended(first)["state"] == "COMPLETED"
        assert time.monotonic() - began < 10
