"""A role that a site wrote: the configuration names it, and the template calls its hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.faults import Troubled, broken
from support.site import BOB, COMPUTE, HOME, TrialSite

from compute_to_data.coordination import lock
from compute_to_data.errors import ConfigurationError, OutOfReach
from compute_to_data.model import Access, Avu, DataObject, Entity, EntityKind
from compute_to_data.pipeline import journal
from compute_to_data.pipeline.journal import file_about, replace_file
from compute_to_data.roles import role_named


@pytest.fixture
def tidy(tmp_path: Path) -> TrialSite:
    (tmp_path / "tools").mkdir()
    roles = {"TIDY": {"implementation": "support.own_role:TidyContainer", "by": "us"}}
    engine = {"name": "process", "images": {"tools": str(tmp_path / "tools")}}
    site = TrialSite(tmp_path, engine, "tools", roles=roles)
    site.take_role(COMPUTE, "CONTAINER")
    site.give_role(COMPUTE, "TIDY")
    site.alice.write(f"{HOME}/there", b"x", resource="demoResc")
    site.alice.write(f"{HOME}/here", b"y", resource=COMPUTE)
    return site


def _places(site: TrialSite, name: str) -> list[str]:
    found = site.alice.stat(f"{HOME}/{name}")
    assert isinstance(found, DataObject)
    return [replica.leaf for replica in found.replicas]


def test_replicas_that_staging_made_are_trimmed_and_no_others(tidy: TrialSite) -> None:
    facts = tidy.run(tidy.request("/bin/true", inputs=[f"{HOME}/there", f"{HOME}/here"]))
    assert facts["state"] == "COMPLETED", facts
    assert facts["role"] == "TIDY"
    assert _places(tidy, "there") == ["demoResc"]
    assert _places(tidy, "here") == [COMPUTE]
    avus = tidy.alice.avus(Entity(EntityKind.COLLECTION, facts["collection"]))
    assert Avu("tidied", "us") in avus


def test_what_another_task_still_reads_is_not_trimmed(tidy: TrialSite) -> None:
    slow = tidy.request("/bin/sh", "-c", "while [ ! -e /outputs/go ]; do sleep 0.02; done", inputs=[f"{HOME}/there"])
    quick = tidy.request("/bin/true", inputs=[f"{HOME}/there"])
    first, second = tidy.submit(slow), tidy.submit(quick)
    with tidy.working():
        assert tidy.ended(second)["state"] == "COMPLETED"
        assert _places(tidy, "there") == ["demoResc", COMPUTE]
        below = first.collection[len("/tempZone/") :]
        (outputs,) = (tidy.folder / "zone" / "vaults" / COMPUTE / below).glob("*/outputs")
        (outputs / "go").touch()
        assert tidy.ended(first)["state"] == "COMPLETED"


CLAIM = "irods::compute_to_data_task"


def test_a_claim_stays_until_the_replica_is_trimmed(tidy: TrialSite) -> None:
    """Another task that claimed the input in the meantime would lose the replica that it counts on."""
    tidy.alice.create_collection(f"{HOME}/in")
    path = f"{HOME}/in/x"
    tidy.alice.write(path, b"x", resource="demoResc")
    submitted = tidy.submit(tidy.request("/bin/false", inputs=[{"next_of": f"{HOME}/in"}]))
    claims: list[list[str]] = []

    def out_of_reach_once(trim, data_object, resource):  # type: ignore[no-untyped-def]
        claims.append([avu.value for avu in tidy.alice.avus(Entity(EntityKind.DATA_OBJECT, path), CLAIM)])
        if len(claims) == 1:
            raise OutOfReach("the server", "does not answer")
        return trim(data_object, resource)

    with tidy.working(storage=Troubled(tidy.storage, trim=out_of_reach_once)):  # type: ignore[arg-type]
        facts = tidy.ended(submitted)
    assert facts["reason_code"] == "nonzero_exit", facts
    assert claims == [[submitted.task_id], [submitted.task_id]]
    assert tidy.alice.avus(Entity(EntityKind.DATA_OBJECT, path), CLAIM) == ()
    assert _places(tidy, "in/x") == ["demoResc"]


@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_cancelled_task_left_to_trim_is_the_next_ones(tmp_path: Path, is_there: bool) -> None:
    """Its transfer has ended, and the server did not answer when the replica was to be trimmed."""
    (tmp_path / "tools").mkdir()
    engine = {"name": "process", "images": {"tools": str(tmp_path / "tools")}}
    site = TrialSite(tmp_path, engine, "tools")
    site.alice.write(f"{HOME}/there", b"x", resource="demoResc")
    if is_there:
        site.storage.replicate(f"{HOME}/there", COMPUTE)
    state = site.configuration.worker.state_directory
    folder = f"{journal.folder_of(state, lock.scope(site.configuration, site.storage.zone, COMPUTE))}.transfers"
    note = file_about(folder, f"{HOME}/there")
    replace_file(note, {"data_object": f"{HOME}/there", "root": COMPUTE}, "a note")

    def out_of_reach(*_: object) -> None:
        raise OutOfReach("the server", "does not answer")

    submitted = site.submit(site.request("/bin/true", inputs=[f"{HOME}/there"]))
    with site.working(storage=Troubled(site.storage, trim=out_of_reach)):  # type: ignore[arg-type]
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert facts["staged"] == f"{HOME}/there"
    assert not Path(note).exists(), "later it would be trimmed, although the task keeps it"
    assert _places(site, "there") == ["demoResc", COMPUTE]


def test_the_access_it_asks_for_is_required(tidy: TrialSite) -> None:
    tidy.bob.write("/tempZone/home/bob/shared", b"z", resource=COMPUTE)
    tidy.bob.set_access("/tempZone/home/bob", tidy.alice.user, Access.READ_OBJECT)
    tidy.bob.set_access("/tempZone/home/bob/shared", tidy.alice.user, Access.READ_OBJECT)
    facts = tidy.run(tidy.request("/bin/true", inputs=["/tempZone/home/bob/shared"]))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
    assert "needs modify_object" in facts["reason"]
    assert str(BOB.name) in facts["reason"]


def test_the_role_explains_a_failure(tidy: TrialSite) -> None:
    facts = tidy.run(tidy.request("/bin/sh", "-c", "echo no; exit 3"))
    assert "status 3: it said no" in facts["reason"]


def test_retain_fails(tidy: TrialSite) -> None:
    before = tidy.snapshot()
    submitted = tidy.submit(tidy.request("/bin/true", inputs=[f"{HOME}/there"]))
    calls: list[str] = []

    def fail_once(trim, data_object, resource):  # type: ignore[no-untyped-def]
        calls.append(data_object)
        return broken() if len(calls) == 1 else trim(data_object, resource)

    with tidy.working(storage=Troubled(tidy.storage, trim=fail_once)):  # type: ignore[arg-type]
        facts = tidy.ended(submitted)
    assert facts["state"] == "FAILED"
    assert "broke on purpose" in facts["reason"]
    assert tidy.snapshot(without=submitted.collection) == before
    assert tidy.leftovers(submitted) == []


HOOKS = (
    "program", "required_access", "expected_outputs", "metadata_output", "annotations", "results_to", "retention",
)  # fmt: skip
FAULTS = {
    **{(hook, "1 // 0"): "raised ZeroDivisionError: " for hook in HOOKS},
    **{(hook, "sys.exit(3)"): "raised SystemExit: 3 (" for hook in HOOKS},
    **{(hook, "b'x'"): "returned b'x' of type bytes" for hook in HOOKS},
    ("program", "None"): "returned None, expected a Program",
    ("program", "Program.of('tools', ['true'])"): "raised TypeError: a command is a string",
    ("program", "Program.of('tools', [('true', 1)])"): "returned 1 of type int, expected a tuple of str",
    (
        "program",
        "Program.of('tools', [('true',)], environment={'A': 5})",
    ): "returned the variable 'A' with 5 of type int",
    ("expected_outputs", "'out.txt'"): "returned 'out.txt' of type str, expected a tuple of str",
    ("expected_outputs", "None"): "returned None, expected a tuple of str",
    ("annotations", "(Avu('a', ''),)"): 'returned an AVU with an empty value: "a"',
    ("annotations", "(Avu('a', 5),)"): 'returned an AVU with 5 for value, expected a string: "a"',
    ("annotations", "(Avu('irods::compute_to_data::state', 'COMPLETED'),)"): 'returned the AVU "irods::c',
    ("retention", "'trim'"): "returned 'trim' of type str, expected a Retention",
}


def own_roles(folder: Path, **described: Any) -> TrialSite:
    """A site whose compute resource has a role of its own, OWN, only."""
    (folder / "tools").mkdir()
    engine = {"name": "process", "images": {"tools": str(folder / "tools")}}
    site = TrialSite(folder, engine, "tools", roles={"OWN": described})
    site.take_role(COMPUTE, "CONTAINER")
    site.give_role(COMPUTE, "OWN")
    return site


@pytest.mark.parametrize(("hook", "answer"), FAULTS)
def test_a_faulty_hook_ends_its_task_with_the_roles_name_and_its_own(tmp_path: Path, hook: str, answer: str) -> None:
    implementation = "support.own_role:FaultyContainer"
    site = own_roles(tmp_path, implementation=implementation, **{f"faulty_{hook}": answer})
    submitted = site.submit(site.request("/bin/sh", "-c", "echo x > /outputs/x"))
    with site.working():
        facts = site.ended(submitted)
        assert (facts["state"], facts["reason_code"]) == ("FAILED", "system_error"), facts
        assert f"role OWN: its hook {hook} {FAULTS[hook, answer]}" in facts["reason"]
        assert "whoever maintains this role's class" in facts["reason"]
    kept = [name for name in site.contents(submitted.collection) if name.startswith("failed/")]
    assert kept == ([] if hook in ("program", "required_access", "results_to") else ["failed/x"])


@pytest.mark.parametrize("answer", ["1 // 0", "sys.exit()", "5"])
def test_a_faulty_explanation_does_not_hide_the_programs_failure(tmp_path: Path, answer: str) -> None:
    site = own_roles(tmp_path, implementation="support.own_role:FaultyContainer", faulty_explanation=answer)
    facts = site.run(site.request("/bin/sh", "-c", "echo no such star; exit 3"))
    assert facts["reason_code"] == "nonzero_exit", facts
    assert "exited with status 3: no such star" in facts["reason"]


UNLOADABLE = {
    "syntax": "def (:",
    "error": "1 // 0",
    "exit": "import sys; sys.exit('no licence')",
    "none": "import no_such",
}


@pytest.mark.parametrize("name", UNLOADABLE)
def test_a_role_whose_module_cannot_be_loaded_ends_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    module = f"unloadable_{name}"
    (tmp_path / f"{module}.py").write_text(UNLOADABLE[name])
    monkeypatch.syspath_prepend(tmp_path)
    site = own_roles(tmp_path, implementation=f"{module}:Role")
    facts = site.run(site.request("/bin/true"))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "system_error")
    assert f"role OWN: its class {module}:Role cannot be loaded" in facts["reason"]


@pytest.mark.parametrize("name", ["Demanding", "WithoutProgram"])
def test_a_role_that_cannot_be_made_ends_its_tasks(tmp_path: Path, name: str) -> None:
    site = own_roles(tmp_path, implementation=f"support.own_role:{name}")
    facts = site.run(site.request("/bin/true"))
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "system_error")
    assert f"support.own_role:{name} cannot be made with the role's settings: it raised" in facts["reason"]


@pytest.mark.parametrize(
    ("implementation", "words"),
    [
        ("support.nowhere:Role", "cannot be loaded"),
        ("support.own_role:Missing", "cannot be loaded"),
        ("support.own_role:Access", "is not a Role"),
    ],
)
def test_a_class_that_is_no_role_is_named(tidy: TrialSite, implementation: str, words: str) -> None:
    configuration = tidy.configure(roles={"ODD": {"implementation": implementation}})
    with pytest.raises(ConfigurationError, match=words):
        role_named(configuration, "ODD")
