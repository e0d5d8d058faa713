"""Process definitions kept in the zone: stored, found, shared, run by name, and pinned in the task that ran them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.reading import ENOUGH
from support.reference import documented
from support.site import ALICE, BOB, HOME, TrialSite
from support.typed import Type

import compute_to_data as c2d
from compute_to_data.client import processes
from compute_to_data.errors import AccessDenied, AlreadyExists, InvalidRequest, NotFound, Refused
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind
from compute_to_data.records import definition

PLACE = f"{HOME}/processes"
NAMED = "irods::compute_to_data::process"


def tr(site: TrialSite, **changes: Any) -> dict[str, Any]:
    """The registry's own example."""
    return {
        "exec": "/usr/bin/tr",
        "application": site.image,
        "process_type": "single",
        "timeout": 60,
        "argv": ["-d", "x"],
        "input_adapter": {"input_type": "file", "input_params": {"file_type": "stream", "stream_name": "STDIN"}},
        "output_adapter": {"output_type": "file", "output_params": {"file_type": "stream", "stream_name": "STDOUT"}},
        **changes,
    }


@pytest.fixture
def file(site: TrialSite, tmp_path: Path) -> Path:
    path = tmp_path / "tr.json"
    path.write_text(json.dumps(tr(site)))
    return path


def share(site: TrialSite, path: str, access: Access = Access.READ_OBJECT) -> None:
    for one in (HOME, PLACE, path):
        site.alice.set_access(one, BOB, access if one == path else Access.READ_OBJECT)


def test_a_definition_is_stored_listed_changed_and_deleted(typed: Type, site: TrialSite, file: Path) -> None:
    made = json.loads(typed("--output", "json", "process", "create", str(file)).out)
    shown = json.loads(typed("--output", "json", "process", "show", "tr").out)
    assert shown == {**made, "schema": {}}
    assert {*shown, "runs"} == documented("`c2d process`\n")
    assert (made["name"], made["data_object"], made["owner"]) == ("tr", f"{PLACE}/tr.json", str(ALICE))
    (row,) = json.loads(typed("--output", "json", "process", "list").out)
    assert row == {**made, "runs": "/usr/bin/tr"}
    assert json.loads(typed("process", "show", "tr").out) == tr(site)
    file.write_text(json.dumps(tr(site, argv=["-d", "y"])))
    changed = json.loads(typed("--output", "json", "process", "update", "tr", str(file)).out)
    assert (changed["id"], changed["document"]["argv"]) == (made["id"], ["-d", "y"])
    assert changed["checksum"] != made["checksum"]
    assert typed("process", "delete", "tr").code == 0
    assert json.loads(typed("--output", "json", "process", "list").out) == []
    assert typed("process", "show", "tr").code == 4


def test_its_id_survives_a_move(session: c2d.Session, site: TrialSite) -> None:
    made = processes.create(session, tr(site), "tr")
    site.alice.create_collection(f"{HOME}/tools")
    site.alice.rename(made.data_object, f"{HOME}/tools/translate.json")
    for given in (str(made.id), "tr", f"{HOME}/tools/translate.json"):
        found = processes.describe(session, given)
        assert (found.id, found.name, found.data_object) == (made.id, "tr", f"{HOME}/tools/translate.json")


def test_it_runs_by_name_and_the_task_keeps_what_ran(typed: Type, site: TrialSite, file: Path) -> None:
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    made = json.loads(typed("--output", "json", "process", "create", str(file)).out)
    with site.working():
        ran = typed("--output", "json", "run", "--process", "tr", "--input", "a.txt", "-o", "out")
    task = json.loads(ran.out)
    assert site.alice.read(f"{task['collection']}/a.txt", ENOUGH) == b"abc\n"
    recorded = json.loads(site.alice.read(f"{task['collection']}/task.json", ENOUGH))
    pin = {"name": "tr", "data_object": made["data_object"], "checksum": made["checksum"]}
    assert recorded["definition"] == pin
    assert recorded["process"]["commands"] == [["/usr/bin/tr", "-d", "x"]]
    found = site.alice.stat(made["data_object"])
    assert isinstance(found, DataObject) and found.replicas[0].checksum == made["checksum"]
    avus = site.alice.avus(Entity(EntityKind.COLLECTION, task["collection"]), "irods::compute_to_data::definition")
    assert avus == (Avu("irods::compute_to_data::definition", made["data_object"], made["checksum"]),)
    crate = json.loads(site.alice.read(f"{task['collection']}/ro-crate-metadata.json", ENOUGH))["@graph"]
    (stored,) = [one for one in crate if one["@id"] == f"irods://{made['data_object']}"]
    assert stored["identifier"] == made["checksum"]
    assert [one["isBasedOn"] for one in crate if "isBasedOn" in one] == [{"@id": stored["@id"]}]


def test_a_rerun_keeps_the_origin_only_while_it_is_true(session: c2d.Session, site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a.txt", b"axbxc\n")
    processes.create(session, tr(site), "tr")
    request = {"role": "CONTAINER", "inputs": [f"{HOME}/a.txt"], "process": "tr"}
    with site.working():
        first = session.submit(request)
        first.wait()
        again = first.rerun()
        processes.update(session, "tr", tr(site, argv=["-d", "b"]))
        last = first.rerun()
        assert [task.wait().state.value for task in (again, last)] == ["COMPLETED"] * 2
    assert again.recorded_request()["definition"]["name"] == "tr"
    assert "definition" not in last.recorded_request()
    assert last.results()["a.txt"].lines() == ["abc"], "what ran before runs again"
    assert "the request's own copy runs" in str(last.status().other["note"])


def test_a_request_cannot_claim_another_origin(session: c2d.Session, site: TrialSite) -> None:
    made = processes.create(session, tr(site), "tr")
    pin = {"name": "tr", "data_object": made.data_object, "checksum": made.checksum}
    other = {"image": site.image, "exec": "cat"}
    request = {"role": "CONTAINER", "inputs": [], "process": other, "definition": pin}
    with site.working():
        assert "definition" not in session.submit(request).recorded_request()
    with pytest.raises(InvalidRequest, match="/definition"):
        session.submit({**request, "process": "tr"})


def test_whoever_may_read_it_may_use_it_by_its_path_and_id(
    session: c2d.Session, bobs: c2d.Session, site: TrialSite
) -> None:
    made = processes.create(session, tr(site), "tr")
    for given in (made.data_object, str(made.id), "tr"):
        with pytest.raises(NotFound):
            processes.describe(bobs, given)
    assert processes.listed(bobs) == []
    share(site, made.data_object)
    assert [one.id for one in processes.listed(bobs)] == [made.id]
    assert processes.describe(bobs, str(made.id)).document == tr(site)
    with pytest.raises(NotFound, match=f"give its logical path: {made.data_object}"):
        processes.describe(bobs, "tr")
    for change in (
        lambda: processes.delete(bobs, made.data_object),
        lambda: processes.update(bobs, str(made.id), tr(site)),
    ):
        with pytest.raises(AccessDenied, match="Store a copy of your own"):
            change()
    site.bob.write("/tempZone/home/bob/a.txt", b"axb\n")
    request = {"role": "CONTAINER", "inputs": ["/tempZone/home/bob/a.txt"], "process": made.data_object}
    with site.working():
        task = bobs.submit(request)
        task.wait()
    assert task.results()["a.txt"].lines() == ["ab"]


def test_another_users_definition_never_hides_behind_a_name(
    session: c2d.Session, bobs: c2d.Session, site: TrialSite
) -> None:
    """bob names his like alice's, shares it, and writes the AVU where he can."""
    evil = processes.create(bobs, {"image": site.image, "exec": "evil"}, "tr")
    for path in ("/tempZone/home/bob", "/tempZone/home/bob/processes", evil.data_object):
        site.bob.set_access(path, ALICE, Access.READ_OBJECT)
    with pytest.raises(NotFound, match="none of your own"):
        session.submit({"role": "CONTAINER", "inputs": [], "process": "tr"})
    processes.create(session, tr(site), "tr")
    assert processes.describe(session, "tr").document == tr(site)
    site.alice.write(f"{HOME}/notes.json", json.dumps({"image": site.image, "exec": "cat"}).encode())
    site.alice.set_access(f"{HOME}/notes.json", BOB, Access.MODIFY_OBJECT)
    site.alice.set_access(HOME, BOB, Access.READ_OBJECT)
    site.bob.annotate(Entity(EntityKind.DATA_OBJECT, f"{HOME}/notes.json"), add=[Avu(NAMED, "sort")])
    with pytest.raises(Refused, match="bob#tempZone has modify_object on it"):
        session.submit({"role": "CONTAINER", "inputs": [], "process": "sort"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b'{"exec": "tr", "application": "x", "colour": 1}', 'an unknown property "colour"'),
        (b'{"exec": "tr"}', "#/image: found nothing"),
        (b'{"exec": "tr", "application": "x", "argv": ["${in}"]}', '#/argv/0: found "${in}"'),
        (b'{"exec": "tr", "application": "x", "application": "y"}', "twice in one object"),
        (b'{"exec": "tr", "application": "x", "timeout": NaN}', "NaN"),
        (b'{"exec": "tr", "application": "\xff"}', "is not UTF-8"),
        (b'{"exec": "tr", "application": "x", "argv": ["' + b"a" * (2 << 20) + b'"]}', "at most 262144"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "levels deep"),
        (b'{"exec": "tr", "application": "x", "argv": ["${a}"], "parameters": {"properties": {"a": {"type": 1}}}}',
         "#/parameters/properties/a/type: found 1"),
    ],
)  # fmt: skip
def test_a_definition_that_is_none_is_not_stored(session: c2d.Session, content: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        processes.create(session, content, "bad")
    assert said in str(caught.value)
    assert "process definition bad" in str(caught.value)
    assert processes.listed(session) == []
    with pytest.raises(NotFound):
        session.catalog.stat(f"{PLACE}/bad.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"notebook": {"data_object": "x"}}, "#/notebook/data_object"),
        ({"notebook": {"name": "n.ipynb", "data_object": "/z/n.ipynb"}}, "both a"),
        ({"exec": "x"}, 'an unknown property "exec"'),
        ({"process_type": "service"}, "#/process_type"),
        ({"parameters": {"properties": {"a": {"type": 3}}}}, "#/parameters/properties/a/type"),
    ],
)
def test_a_definition_of_a_notebook_is_checked(session: c2d.Session, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        processes.create(session, {"notebook": {"data_object": f"{HOME}/n.ipynb"}, **changes}, "n")
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["12", "a b", "../x", "-x", "x" * 64, "a/b", "ü"])
def test_a_name_that_would_mislead_is_refused(session: c2d.Session, site: TrialSite, name: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 63 letters"):
        processes.create(session, tr(site), name)


def test_a_name_is_taken_once(session: c2d.Session, site: TrialSite) -> None:
    processes.create(session, tr(site), "tr")
    with pytest.raises(AlreadyExists, match="c2d process update tr FILE"):
        processes.create(session, tr(site), "tr")
    site.alice.write(f"{PLACE}/other.json", b"notes")
    with pytest.raises(AlreadyExists, match="is no process definition"):
        processes.create(session, tr(site), "other")


def test_what_is_no_definition_is_neither_changed_nor_deleted(session: c2d.Session, site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a.txt", b"mine")
    number = session.catalog.object_id(f"{HOME}/a.txt")
    for given in (f"{HOME}/a.txt", str(number), HOME, "999999999999", "9" * 400):
        with pytest.raises(NotFound):
            processes.delete(session, given)
    assert site.alice.read(f"{HOME}/a.txt", ENOUGH) == b"mine"


def test_a_stored_definition_that_is_damaged_is_listed_and_refused(
    typed: Type, session: c2d.Session, site: TrialSite
) -> None:
    made = processes.create(session, tr(site), "tr")
    site.alice.write(made.data_object, b"{}", force=True)
    (found,) = processes.listed(session)
    assert found.document == {} and "expected" in found.problem
    assert "(not valid)" in typed("process", "list").out
    assert "is not valid" in typed("process", "show", "tr").err
    with pytest.raises(InvalidRequest, match=r"tr\.json"):
        session.submit({"role": "CONTAINER", "inputs": [], "process": "tr"})
    site.alice.write(made.data_object, b"x" * (definition.LARGEST + 1), force=True)
    with pytest.raises(InvalidRequest, match="is a small JSON document"):
        session.submit({"role": "CONTAINER", "inputs": [], "process": "tr"})


def echo(site: TrialSite) -> dict[str, Any]:
    return {
        "image": site.image,
        "exec": "/bin/echo",
        "argv": ["${count}", "${word}"],
        "parameters": {
            "properties": {"count": {"type": "integer", "minimum": 1, "default": 7}, "word": {"type": "string"}},
        },
    }


def test_parameters_are_given_on_the_command_line(typed: Type, session: c2d.Session, site: TrialSite) -> None:
    processes.create(session, echo(site), "echo")
    with site.working():
        ran = typed("--output", "json", "run", "--process", "echo", "-p", "word=; id ${count}", "-p", "count=2")
        assert json.loads(typed("--output", "json", "logs", json.loads(ran.out)["task_id"]).out)["stdout"] == (
            "2 ; id ${count}\n"
        )
        plain = typed("run", "--process", "echo", "-p", "word=a")
        assert plain.out == "7 a\n"
    collection = json.loads(ran.out)["collection"]
    recorded = json.loads(site.alice.read(f"{collection}/task.json", ENOUGH))
    assert recorded["parameters"] == {"count": 2, "word": "; id ${count}"}
    facts = site.alice.avus(Entity(EntityKind.COLLECTION, collection), "irods::compute_to_data::parameter::count")
    assert [avu.value for avu in facts] == ["2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-p", "word=a", "-p", "count=0"], "/parameters/count: found 0, expected a value of at least 1"),
        (["-p", "word=1"], "/parameters/word: found 1, expected a string"),
        ([], "/parameters/word: found nothing"),
        (["-p", "word=a", "-p", "cuont=1"], "expected count"),
        (["-p", "word=a", "-e", "A=b"], "leave out --env"),
        (["debian:bookworm", "-p", "word=a"], "leave out IMAGE"),
        (["-p", "word=a", "--", "cat"], "takes no program"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_queued(
    typed: Type, session: c2d.Session, site: TrialSite, given: list[str], said: str
) -> None:
    processes.create(session, echo(site), "echo")
    ran = typed("run", "--process", "echo", *given)
    assert ran.code != 0 and said in ran.err
    assert session.tasks() == []


def test_the_worker_refuses_what_an_agent_could_not_check(site: TrialSite) -> None:
    """A rule submits without the library; nothing is run, and the task says what is wrong."""
    document = site.request("x", process={**echo(site)}, parameters={"word": "a", "count": 0})
    facts = site.run(document)
    assert facts["state"] == "FAILED"
    assert "/parameters/count: found 0, expected a value of at least 1" in facts["reason"]
    assert "started_at" not in facts and "running_at" not in facts


def test_a_service_is_started_and_stopped(typed: Type, session: c2d.Session, site: TrialSite) -> None:
    processes.create(session, tr(site, process_type="service"), "tr")
    started = json.loads(typed("--output", "json", "process", "start", "tr", "messages").out)
    assert set(started) == documented("`c2d process start`")
    template = json.loads(site.alice.read(f"{started['answers']}/service.json", ENOUGH))
    assert template["inputs"] == [{"arriving_in": started["messages"]}]
    assert typed("process", "stop", started["workload"]).code == 0
    assert session.workload(started["workload"]).describe().state == "STOPPED"


def test_an_application_of_the_sites_table_names_its_image(session: c2d.Session, site: TrialSite) -> None:
    site.configuration = site.configure(engine={"name": "process", "images": {}}, applications={"text": site.image})
    process = {"exec": "/bin/true", "application": "text"}
    with pytest.raises(Refused, match="image text"):
        session.submit({"role": "CONTAINER", "inputs": [], "process": {**process, "application": "textt"}})
    submitted = site.submit({"role": "CONTAINER", "inputs": [], "output_collection": f"{HOME}/out", "process": process})
    recorded = json.loads(site.alice.read(f"{submitted.collection}/task.json", ENOUGH))
    assert recorded["process"]["image"] == site.image
