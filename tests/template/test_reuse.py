"""Tasks that ran before: a new request reuses an identical one, or runs it again on the same inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.reading import ENOUGH
from support.site import BASE_IMAGE, BOB, COMPUTE, HOME, TrialSite

from compute_to_data.documents import request
from compute_to_data.errors import NotFound
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind
from compute_to_data.ports.zone import Catalog
from compute_to_data.provenance import outcome
from compute_to_data.submission import rerun

INPUT = f"{HOME}/a.txt"
PREFIX = "irods::compute_to_data"


def count(site: TrialSite, **changes: Any) -> Any:
    return site.request("/bin/sh", "-c", "wc -c < /inputs/a.txt > /outputs/n; echo 1 > /outputs/m", **changes)


@pytest.fixture
def ran(site: TrialSite) -> dict[str, str]:
    """A task of alice's that counted the bytes of her input."""
    site.alice.write(INPUT, b"12345")
    facts = site.run(count(site, inputs=[INPUT]))
    assert facts["state"] == "COMPLETED", facts
    return facts


def reused(site: TrialSite, document: Any = None, *, catalog: Catalog | None = None) -> str:
    """The collection of the earlier task that the request reuses; '' when it queues a new one."""
    document = document or count(site, inputs=[INPUT])
    submitted = site.submit(document, catalog=catalog, reuse_earlier=True)
    assert submitted.reused is ("reused" in submitted.choice)
    return submitted.collection if submitted.reused else ""


def test_an_identical_task_is_reused_on_request_and_says_so(site: TrialSite, ran: dict[str, str]) -> None:
    submitted = site.submit(count(site, inputs=[INPUT]), reuse_earlier=True)
    assert (submitted.reused, submitted.collection, submitted.resource) == (True, ran["collection"], COMPUTE)
    assert ran["completed_at"] in submitted.choice
    assert not site.submit(count(site, inputs=[INPUT])).reused


def test_changes_that_do_not_affect_results_are_ignored(site: TrialSite, ran: dict[str, str]) -> None:
    site.alice.create_collection(f"{HOME}/elsewhere")
    document = count(
        site, inputs=[INPUT], name="x", limits={"walltime_seconds": 5}, process={"timeout": 7},
        metadata=[{"attribute": "a", "value": "b"}],
    )  # fmt: skip
    document["output_collection"] = f"{HOME}/elsewhere"
    assert reused(site, document) == ran["collection"]


@pytest.mark.parametrize(
    "changes",
    [
        {"process": {"argv": ["-c", "true"]}},
        {"process": {"environment": {"A": "b"}}},
        {"process": {"cwd": "/"}},
        {"process": {"output_adapter": {"output_type": "file", "output_parameters": {
            "file_type": "stream", "stream_name": "STDOUT"}}}},
        {"inputs": []},
        {"inputs": [INPUT, f"{HOME}/b.txt"]},
        {"inputs": [f"{HOME}/b.txt"]},
        {"inputs": [{"next_of": f"{HOME}/in"}]},
        {"expected_outputs": ["n"]},
    ],
)  # fmt: skip
def test_changes_that_affect_results_make_another_task(
    site: TrialSite, ran: dict[str, str], changes: dict[str, Any]
) -> None:
    site.alice.create_collection(f"{HOME}/in")
    for name in ("b.txt", "in/a.txt"):
        site.alice.write(f"{HOME}/{name}", b"12345")
    assert reused(site, count(site, **{"inputs": [INPUT], **changes})) == ""


def test_an_input_with_other_content_makes_another_task(site: TrialSite, ran: dict[str, str]) -> None:
    site.alice.write(INPUT, b"54321", force=True)
    assert reused(site) == ""
    site.alice.write(INPUT, b"12345", force=True)
    assert reused(site) == ran["collection"]


def test_the_same_content_elsewhere_under_its_name_is_the_same_input(site: TrialSite, ran: dict[str, str]) -> None:
    site.alice.create_collection(f"{HOME}/copy")
    site.alice.write(f"{HOME}/copy/a.txt", b"12345")
    assert reused(site, count(site, inputs=[{"collection": f"{HOME}/copy"}])) == ran["collection"]


def test_other_content_of_the_image_makes_another_task(site: TrialSite, ran: dict[str, str]) -> None:
    (site.folder / "tools" / "new").write_text("a newer image")
    later = site.run(site.request("/bin/true"))
    assert later["image_digest"] != ran["image_digest"]
    assert reused(site) == ""
    (site.folder / "tools").rename(site.folder / "away")
    assert "image_digest" not in site.run(site.request("/bin/true")), "this one says nothing about the image's content"
    (site.folder / "away").rename(site.folder / "tools")
    assert reused(site) == ""


def test_an_image_that_the_site_allows_no_more_is_not_reused(site: TrialSite, ran: dict[str, str]) -> None:
    site.configuration = site.configure(images=[{"name": "tools", "digest": f"sha256:{'0' * 64}"}])
    assert reused(site) == ""


def test_a_failed_task_is_not_reused(site: TrialSite) -> None:
    facts = site.run(site.request("/bin/false"))
    assert facts["state"] == "FAILED"
    assert reused(site, site.request("/bin/false")) == ""


def _remove(site: TrialSite, collection: str) -> None:
    site.alice.remove(f"{collection}/n")


def _overwrite(site: TrialSite, collection: str) -> None:
    site.alice.write(f"{collection}/n", b"6\n", force=True)


def _remove_crate(site: TrialSite, collection: str) -> None:
    site.alice.remove(f"{collection}/ro-crate-metadata.json")


def _remove_task(site: TrialSite, collection: str) -> None:
    site.alice.remove(collection, recursive=True)


def _spoil_crate(site: TrialSite, collection: str) -> None:
    site.alice.write(f"{collection}/ro-crate-metadata.json", b"{}", force=True)


def _forge_outputs_and_crate(site: TrialSite, collection: str) -> None:
    """As a member of a group with write access to the collection could do."""
    site.alice.set_access(f"{collection}/n", BOB, Access.MODIFY_OBJECT)
    site.alice.set_access(f"{collection}/ro-crate-metadata.json", BOB, Access.MODIFY_OBJECT)
    site.alice.set_access(collection, BOB, Access.READ_OBJECT)
    site.bob.write(f"{collection}/n", b"6\n", force=True)
    forged = site.bob.stat(f"{collection}/n")
    assert isinstance(forged, DataObject)
    document = json.loads(site.bob.read(f"{collection}/ro-crate-metadata.json", ENOUGH))
    for entity in document["@graph"]:
        if entity["@id"] == "n":
            entity["identifier"] = forged.replicas[0].checksum
    site.bob.write(f"{collection}/ro-crate-metadata.json", json.dumps(document).encode(), force=True)


def _open_to_others(site: TrialSite, collection: str) -> None:
    site.alice.set_access(collection, BOB, Access.MODIFY_OBJECT)


@pytest.mark.parametrize(
    "spoil",
    [_remove, _overwrite, _remove_crate, _spoil_crate, _remove_task, _forge_outputs_and_crate, _open_to_others],
)
def test_a_task_whose_results_are_not_what_they_were_is_not_reused(
    site: TrialSite, ran: dict[str, str], spoil: Callable[[TrialSite, str], None]
) -> None:
    spoil(site, ran["collection"])
    assert reused(site) == ""


def test_additions_to_the_collection_are_ignored(site: TrialSite, ran: dict[str, str]) -> None:
    site.alice.write(f"{ran['collection']}/README.md", b"mine")
    assert reused(site) == ran["collection"]


def test_another_users_task_is_not_reused(site: TrialSite, ran: dict[str, str]) -> None:
    """bob may read alice's task and her input, and has copied every fact to his own record."""
    for path in (HOME, f"{HOME}/out", ran["collection"]):
        site.alice.set_access(path, BOB, Access.READ_OBJECT, recursive=True)
    site.bob.create_collection("/tempZone/home/bob/out")
    document = {**count(site, inputs=[INPUT]), "output_collection": "/tempZone/home/bob/out"}
    assert reused(site, document, catalog=site.bob) == ""
    own = "/tempZone/home/bob/out/forged"
    site.bob.create_collection(own)
    for name in ("task.json", "n", "m", "ro-crate-metadata.json"):
        site.bob.write(f"{own}/{name}", site.bob.read(f"{ran['collection']}/{name}", ENOUGH))
    facts = site.bob.avus(Entity(EntityKind.COLLECTION, ran["collection"]))
    site.bob.annotate(Entity(EntityKind.COLLECTION, own), add=facts)
    for path in ("/tempZone/home/bob", own):
        site.bob.set_access(path, site.alice.user, Access.READ_OBJECT, recursive=True)
    site.alice.remove(ran["collection"], recursive=True)
    assert reused(site) == ""


def test_only_the_record_has_the_fingerprint(site: TrialSite, ran: dict[str, str]) -> None:
    assert len(ran["fingerprint"]) == len(ran["outputs_digest"]) == 64
    on_output = {avu.attribute for avu in site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{ran['collection']}/n"))}
    assert f"{PREFIX}::image_digest" in on_output
    assert not on_output & {f"{PREFIX}::fingerprint", f"{PREFIX}::outputs_digest"}


def test_a_workload_s_task_has_no_fingerprint_since_it_sees_more_than_its_inputs(site: TrialSite) -> None:
    task = request.parse(count(site))
    assert outcome.fingerprint(task, "CONTAINER", [("a.txt", "sha2:x=")])
    assert not outcome.fingerprint(replace(task, workload=f"{HOME}/w"), "CONTAINER", [("a.txt", "sha2:x=")])
    assert not outcome.fingerprint(task, "CONTAINER", [("a.txt", "")])


# Running it again


def again(site: TrialSite, collection: str) -> dict[str, Any]:
    return rerun.again(site.alice, site.configuration.attributes, collection)


def checksums(site: TrialSite, collection: str) -> dict[str, str]:
    own = {"task.json", "ro-crate-metadata.json"}
    found = (site.alice.stat(f"{collection}/{name}") for name in site.contents(collection) if name not in own)
    return {
        one.logical_path.rpartition("/")[2]: one.replicas[0].checksum for one in found if isinstance(one, DataObject)
    }


def check_rerun(site: TrialSite) -> None:
    site.alice.write(INPUT, b"12345")
    first = site.run(count(site, inputs=[INPUT], name="counted"))
    document = again(site, first["collection"])
    second = site.run(document)
    assert (first["state"], second["state"]) == ("COMPLETED", "COMPLETED"), (first, second)
    assert second["collection"] != first["collection"]
    assert second["name"] == "counted"
    assert checksums(site, first["collection"]) == checksums(site, second["collection"]) != {}
    assert first["fingerprint"] == second["fingerprint"]
    assert first["outputs_digest"] == second["outputs_digest"]


def test_running_a_task_again_gives_the_same_checksums(site: TrialSite) -> None:
    check_rerun(site)


@pytest.mark.docker
@pytest.mark.usefixtures("docker_answers")
def test_running_a_task_again_in_the_sandbox_gives_the_same_checksums(tmp_path: Path) -> None:
    site = TrialSite(tmp_path, {"name": "docker"}, BASE_IMAGE)
    check_rerun(site)
    assert site.submit(count(site, inputs=[INPUT]), reuse_earlier=True).reused


def test_what_a_task_claimed_is_what_it_runs_on_again(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    for name in ("a.txt", "b.txt"):
        site.alice.write(f"{HOME}/in/{name}", name.encode())
    first = site.run(count(site, inputs=[{"next_of": f"{HOME}/in"}]))
    assert first["state"] == "COMPLETED", first
    document = again(site, first["collection"])
    assert document["inputs"] == [{"object": f"{HOME}/in/a.txt"}]
    claim = Avu("irods::compute_to_data_task", first["task_id"])
    entity = Entity(EntityKind.DATA_OBJECT, f"{HOME}/in/a.txt")
    site.alice.annotate(entity, remove=[avu for avu in site.alice.avus(entity) if avu.value == claim.value])
    with pytest.raises(NotFound, match="claimed there is gone"):
        again(site, first["collection"])


def test_a_collection_is_what_was_in_it_when_the_task_ran(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    for name in ("b.txt", "a.txt"):
        site.alice.write(f"{HOME}/in/{name}", b"x")
    first = site.run(count(site, inputs=[{"collection": f"{HOME}/in"}]))
    site.alice.write(f"{HOME}/in/c.txt", b"x")
    assert again(site, first["collection"])["inputs"] == [
        {"object": f"{HOME}/in/a.txt"},
        {"object": f"{HOME}/in/b.txt"},
    ]


def test_a_failed_task_claims_anew(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/in")
    site.alice.write(f"{HOME}/in/a.txt", b"x")
    document = site.request("/bin/false", inputs=[{"next_of": f"{HOME}/in"}])
    failed = site.run(document)
    repeated = again(site, failed["collection"])
    assert repeated["inputs"] == [{"next_of": f"{HOME}/in"}]
    assert site.run(repeated)["state"] == "FAILED"
