"""GA4GH TES tasks in real sandboxes: places, executors one after the other, and results at the paths that they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.reading import ENOUGH
from support.site import BASE_IMAGE, BOB, HOME, TrialSite
from support.tes import SECOND_IMAGE, of_zone, request, shell, tes_site

from compute_to_data.errors import AccessDenied, InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("docker_answers")]


@pytest.fixture
def tes(tmp_path: Path) -> TrialSite:
    site = tes_site(tmp_path)
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    site.alice.create_collection(f"{HOME}/in/deep", parents=True)
    site.alice.write(f"{HOME}/in/deep/y.csv", b"2\n")
    site.alice.create_collection(f"{HOME}/results")
    return site


def completed(site: TrialSite, document: dict[str, Any]) -> dict[str, str]:
    facts = site.run(document)
    assert facts["state"] == "COMPLETED", facts
    return facts


def kept(site: TrialSite, path: str) -> bytes:
    return site.alice.read(f"{HOME}/{path}", ENOUGH)


def test_inputs_and_outputs_are_at_the_paths_that_the_task_names(tes: TrialSite) -> None:
    script = (
        "tr -d x < /data/in/a.txt > /data/out.txt; cat /ref/note /tree/deep/y.csv >> /data/out.txt; pwd; echo oh >&2"
    )
    document = request(
        shell(script, workdir="/data", env={"WORD": "hi"}),
        inputs=[
            {"path": "/data/in/a.txt", "url": of_zone("a.txt")},
            {"path": "/ref/note", "content": "a note\n"},
            {"path": "/tree", "url": of_zone("in"), "type": "DIRECTORY"},
        ],
        outputs=[{"path": "/data/out.txt", "url": of_zone("results/out.txt")}],
    )
    facts = completed(tes, document)
    assert kept(tes, "results/out.txt") == b"abc\na note\n2\n"
    here = tes.contents(facts["collection"])
    assert (here["STDOUT.txt"], here["STDERR.txt"]) == (b"/data\n", b"oh\n")
    assert sorted(here) == ["STDERR.txt", "STDOUT.txt", "ro-crate-metadata.json", "task.json"]
    found = tes.alice.stat(f"{HOME}/results/out.txt")
    assert isinstance(found, DataObject)
    (replica,) = found.replicas
    assert replica.leaf == "dsp_resc"
    assert f"/{facts['task_id']}/" in replica.physical_path, "it was not copied"
    mark = tes.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{HOME}/results/out.txt"), "irods::compute_to_data::task_id")
    assert [avu.value for avu in mark] == [facts["task_id"]]
    named = tes.alice.avus(Entity(EntityKind.COLLECTION, facts["collection"]), "irods::compute_to_data::placed")
    assert named == (Avu("irods::compute_to_data::placed", f"{HOME}/results/out.txt", "13"),)
    crate = json.loads(here["ro-crate-metadata.json"])["@graph"]
    assert [one["name"] for one in crate if one["@id"] == of_zone("results/out.txt")] == [f"{HOME}/results/out.txt"]


def test_directories_and_wildcards(tes: TrialSite) -> None:
    made = ("tree/a", "tree/b/d", "logs/x.log", "logs/y.txt", "logs/.z.log", "logs/c/w.log", "other")
    script = "cd /work; mkdir -p tree/b logs/c; " + "; ".join(
        f"echo {number} > {name}" for number, name in enumerate(made)
    )
    outputs = [
        {"path": "/work/tree", "url": of_zone("results/tree"), "type": "DIRECTORY"},
        {"path": "/work/logs/*.log", "path_prefix": "/work", "url": of_zone("results/matched")},
    ]
    for name in ("tree", "matched", "matched/logs"):
        tes.alice.create_collection(f"{HOME}/results/{name}")
    facts = completed(tes, request(shell(script), outputs=outputs, volumes=["/work"]))
    assert tes.contents(f"{HOME}/results") == {"tree/a": b"0\n", "tree/b/d": b"1\n", "matched/logs/x.log": b"2\n"}
    left = tes.contents(facts["collection"])
    names = {name for name in left if name.startswith("work/")}
    assert names == {"work/logs/y.txt", "work/logs/.z.log", "work/logs/c/w.log", "work/other"}, "nothing is dropped"


def test_executors_of_different_images_share_a_volume(tes: TrialSite) -> None:
    tes.alice.write(f"{HOME}/b.txt", b"input\n")
    first = shell("id -u; mkdir /vol/A/d; cat > /vol/A/d/from-first; echo one", stdin="/in/b.txt", stdout="/vol/A/log")
    second = shell(
        "id -u >> /vol/A/log; cat /etc/which >> /vol/A/d/from-first; cat /vol/A/d/from-first; echo two >&2",
        SECOND_IMAGE,
        stdout="/out/result",
        stderr="/out/errors",
    )
    third = shell("wc -l < /out/result; [ ! -e /etc/which ]; ls /vol/A", workdir="/vol/A")
    outputs = [{"path": f"/out/{name}", "url": of_zone(f"results/{name}")} for name in ("result", "errors")]
    inputs = [{"path": "/in/b.txt", "url": of_zone("b.txt")}]
    facts = completed(tes, request(first, second, third, inputs=inputs, outputs=outputs, volumes=["/vol/A/"]))
    assert kept(tes, "results/result") == b"input\nsecond\n"
    assert kept(tes, "results/errors") == b"two\n"
    here = tes.contents(facts["collection"])
    assert here["STDOUT.txt"] == b"2\nd\nlog\n"
    assert not [name for name in here if name.startswith("vol")], "a volume holds no results"
    steps = json.loads(facts["executors"])
    assert [step[0] for step in steps] == [0, 0, 0]
    assert all(step[1] <= step[2] for step in steps)
    assert [steps[0][2] <= steps[1][1], steps[1][2] <= steps[2][1]] == [True, True]


def test_the_first_failure_ends_the_task_unless_it_is_ignored(tes: TrialSite) -> None:
    outputs = [{"path": "/out/x", "url": of_zone("results/x")}]
    first = shell("echo a > /out/x; echo first; exit 3", ignore_error=True)
    facts = completed(tes, request(first, shell("echo second"), outputs=outputs))
    assert [step[0] for step in json.loads(facts["executors"])] == [3, 0]
    assert tes.contents(facts["collection"])["STDOUT.txt"] == b"first\nsecond\n"
    tes.alice.remove(f"{HOME}/results/x")
    before = tes.snapshot()
    del first["ignore_error"]
    facts = tes.run(request(shell("echo before"), first, shell("echo never"), outputs=outputs))
    assert (facts["state"], facts["reason_code"], facts["exit_status"]) == ("FAILED", "nonzero_exit", "3")
    assert [step[0] for step in json.loads(facts["executors"])] == [0, 3]
    assert tes.contents(facts["collection"])["STDOUT.txt"] == b"before\nfirst\n"
    assert tes.contents(facts["collection"])["failed/out/x"] == b"a\n"
    assert tes.snapshot(without=facts["collection"]) == before


def test_a_missing_output_fails_the_task_and_nothing_is_registered(tes: TrialSite) -> None:
    outputs = [{"path": f"/out/{name}", "url": of_zone(f"results/{name}")} for name in ("x", "y")]
    before = tes.snapshot()
    facts = tes.run(request(shell("echo > /out/x"), outputs=outputs))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "output_missing"), facts
    assert tes.snapshot(without=facts["collection"]) == before


def test_what_is_no_result_is_never_replaced(tes: TrialSite) -> None:
    tes.alice.write(f"{HOME}/results/x", b"old")
    wanted = request(shell("echo > /out/x"), outputs=[{"path": "/out/x", "url": of_zone("results/x")}])
    with pytest.raises(Refused, match="exists already"):
        tes.submit(wanted)
    tes.alice.remove(f"{HOME}/results/x")
    submitted = tes.submit(wanted)
    tes.alice.write(f"{HOME}/results/x", b"new")
    before = tes.snapshot(without=submitted.collection)
    with tes.working():
        facts = tes.ended(submitted)
    assert (facts["state"], kept(tes, "results/x")) == ("FAILED", b"new")
    assert "exists already" in facts["reason"]
    assert tes.snapshot(without=submitted.collection) == before


def test_the_same_again_replaces_its_results(tes: TrialSite) -> None:
    """As clients of TES expect, which send a task again to the same URLs."""
    tes.alice.create_collection(f"{HOME}/results/all")
    outputs = [
        {"path": "/out/x", "url": of_zone("results/x")},
        {"path": "/data/*.txt", "path_prefix": "/data", "url": of_zone("results/all")},
    ]
    script = "head -c 9 /dev/urandom > /out/x; cp /out/x /data/a.txt"
    completed(tes, request(shell(script), outputs=outputs))
    first = kept(tes, "results/x")
    facts = completed(tes, request(shell(script), outputs=outputs))
    second = kept(tes, "results/x")
    assert second != first
    assert kept(tes, "results/all/a.txt") == second
    assert sorted(tes.contents(f"{HOME}/results")) == ["all/a.txt", "x"]
    named = tes.configuration.attributes.named("task_id")
    (avu,) = tes.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{HOME}/results/x"), named)
    assert facts["collection"].endswith(avu.value)
    before = tes.snapshot()
    facts = tes.run(request(shell(f"{script}; exit 3"), outputs=outputs))
    assert facts["state"] == "FAILED"
    assert tes.snapshot(without=facts["collection"]) == before


def test_it_needs_the_owners_access_where_results_go(tes: TrialSite) -> None:
    there = "/tempZone/home/bob/results"
    tes.bob.create_collection(there)
    wanted = request(shell("echo > /out/x"), outputs=[{"path": "/out/x", "url": f"irods://{there}/x"}])
    with pytest.raises((AccessDenied, NotFound)):
        tes.submit(wanted)
    for path in ("/tempZone/home/bob", there):
        tes.bob.set_access(path, tes.alice.user, Access.READ_OBJECT)
    with pytest.raises(AccessDenied):
        tes.submit(wanted)
    tes.bob.set_access(there, tes.alice.user, Access.MODIFY_OBJECT)
    completed(tes, wanted)
    found = tes.alice.stat(f"{there}/x")
    assert isinstance(found, DataObject) and found.owner != BOB


ATTACKS = {
    "a link for the directory": ("rmdir /outputs/vol; ln -s /etc /outputs/vol", "cat /vol/passwd", "output_refused"),
    "a link in the outputs": ("ln -s /etc/passwd /out/x", "true", "output_refused"),
    "another input": ("rm /out/in; ln -s /etc/passwd /out/in; echo > /out/x", "true", "output_refused"),
    "a link for a volume inside": ("rm -rf /out/v; ln -s / /out/v; echo > /out/x", "true", "output_refused"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_executor_cannot_lead_the_worker_elsewhere(tes: TrialSite, name: str) -> None:
    first, second, reason = ATTACKS[name]
    document = request(
        shell(f"{first} || true"),
        shell(second),
        inputs=[{"path": "/out/in", "content": "x"}],
        outputs=[{"path": "/out/x", "url": of_zone("results/x")}],
        volumes=["/vol", "/out/v"],
    )
    before = tes.snapshot()
    facts = tes.run(document)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", reason), facts
    assert Path("/etc/passwd").is_file()
    assert b"root:" not in tes.contents(facts["collection"]).get("STDOUT.txt", b"")
    assert tes.snapshot(without=facts["collection"]) == before


def test_all_executors_share_one_walltime(tes: TrialSite) -> None:
    resources = {"backend_parameters": {"walltime_seconds": "3"}}
    facts = tes.run(request(shell("sleep 2"), shell("sleep 60"), resources=resources))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "walltime_exceeded"), facts


def test_requests_that_cannot_be(tes: TrialSite) -> None:
    run = shell("true")
    for wrong, place in (
        ({"executors": []}, "/tes/executors"),
        ({"executors": [{"image": BASE_IMAGE}]}, "/tes/executors/0/command"),
        ({"executors": [{**run, "image": "not allowed"}]}, "/tes/executors/0/image"),
        ({"executors": [run], "inputs": [{"path": "/a", "url": "file:///etc/passwd"}]}, "/tes/inputs/0/url"),
        ({"executors": [run], "inputs": [{"path": "/a", "url": "/etc/passwd"}]}, "/tes/inputs/0/url"),
        ({"executors": [run], "inputs": [{"path": "/a", "url": "irods:///other/x"}]}, "/tes/inputs/0/url"),
        ({"executors": [run], "inputs": [{"path": "/a", "url": "irods:///tempZone/../x"}]}, "/tes/inputs/0/url"),
        ({"executors": [run], "inputs": [{"path": "/a", "url": "irods:///tempZone/%2e%2e/x"}]}, "/tes/inputs/0/url"),
        ({"executors": [run], "inputs": [{"path": "a", "content": "x"}]}, "/tes/inputs/0/path"),
        ({"executors": [run], "inputs": [{"path": "/etc/passwd", "content": "x"}]}, "/tes/inputs/0/path"),
        ({"executors": [run], "outputs": [{"path": "/x", "url": of_zone("x")}]}, "/tes/outputs/0/path"),
        ({"executors": [run], "outputs": [{"path": "/usr/../x/y", "url": of_zone("x")}]}, "/tes/outputs/0/path"),
        ({"executors": [run], "outputs": [{"path": "/o/*", "url": of_zone("x")}]}, "/tes/outputs/0/path_prefix"),
        ({"executors": [run], "outputs": [{"path": "/o/x", "url": "gs://b/x"}]}, "/tes/outputs/0/url"),
        ({"executors": [run], "volumes": ["/proc/x"]}, "/tes/volumes/0"),
        ({"executors": [run], "colour": 1}, "/tes/colour"),
        ({"executors": [run], "resources": {"cpu_cores": 0}}, "/tes/resources/cpu_cores"),
    ):  # fmt: skip
        document = {**request(), "tes": wrong}
        with pytest.raises(InvalidRequest) as caught:
            tes.submit(document)
        assert caught.value.subject == place, (wrong, str(caught.value))
    with pytest.raises(Refused, match="not in this site's list"):
        tes.submit(request(run, shell("true", "debian:unknown")))
    with pytest.raises(InvalidRequest, match="beside"):
        tes.submit({**request(run), "expected_outputs": ["x"]})
