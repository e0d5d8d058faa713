"""As ``test_crash_points``, for a role whose results go to long-term storage: also while the worker moves them,
and while it undoes this."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recovery import test_crash_points as plain
from support.crashes import Call, each_fate
from support.faults import Troubled, broken
from support.site import COMPUTE, HOME, TrialSite

from compute_to_data.model import DataObject
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

LTS, ROLE = "lts_resc", "LONG_TERM_STORAGE"
CHANGING = {"annotate", "annotate_all", "finish_log", "register", "remove", "replicate", "trim", "unregister"}
RESULTS = {"STDOUT.txt", "one", "sub/two", "ro-crate-metadata.json"}


def _site(folder: Path) -> TrialSite:
    (folder / "tools").mkdir(parents=True)
    engine = {"name": "process", "images": {"tools": str(folder / "tools")}}
    roles = {"CONTAINER": {"results_to": ROLE, "staged_inputs": "trim"}}
    site = TrialSite(folder, engine, "tools", roles=roles)
    site.zone.add_resource(LTS)
    site.give_role(LTS, ROLE)
    return site


def _keep_the_input(original: Any, data_object: str, resource: str) -> None:
    """The last call of the step fails in every worker; all results have moved by then. Undoing the task also trims
    the input. This comes after the end was decided, and succeeds."""
    if data_object.endswith("/in/a.txt") and not _keep_the_input.decided():  # type: ignore[attr-defined]
        broken()
    original(data_object, resource)


def _submit(folder: Path, well: bool) -> tuple[TrialSite, Submitted]:
    site = _site(folder)
    submitted = plain._submit(site, plain.WELL)
    if not well:
        notes = folder / "state" / "tasks"
        _keep_the_input.decided = lambda: any(  # type: ignore[attr-defined]
            '"ending"' in note.read_text() for note in notes.rglob("*.json")
        )
        site.storage = Troubled(site.storage, trim=_keep_the_input)  # type: ignore[assignment]
    return site, submitted


def _after_the_job(calls: Sequence[Call]) -> Sequence[Call]:
    """The calls after the job's end that change something. Before that, this role is like any other, and dying at a
    query is like dying between two changes."""
    return [call for call in calls[calls.index(Call("finish_log", 1)) :] if call.name in CHANGING]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
@pytest.mark.parametrize("well", [True, False], ids=["results that move", "results that must be taken back"])
def test_every_crash_point_is_recovered(tmp_path: Path, well: bool, after: bool) -> None:
    places = []
    for fate in each_fate(after, _after_the_job):
        site, submitted = _submit(tmp_path / f"{fate.at}", well)
        before = site.snapshot(without=submitted.collection)
        plain._die(site, submitted, fate)
        if fate.dead:
            places.append(fate.where)
            _check_recovery(site, submitted, well, before, f"died at {fate.at}")
    assert {*places} >= CHANGING - ({"unregister"} if well else set())
    assert places.count("trim") > len(RESULTS)


def _check_recovery(site: TrialSite, submitted: Submitted, well: bool, before: object, context: str) -> None:
    with site.working():
        facts = site.ended(submitted)
    context = f"{context}: {facts}"
    assert facts["state"] == ("COMPLETED" if well else "FAILED"), context
    assert "moving_to" not in facts, context
    assert site.engine.jobs(site.worker()._served.scope) == (), context
    assert site.leftovers(submitted) == [], context
    assert audit(str(site.folder / "zone")) == [], context
    contents = site.contents(submitted.collection)
    assert contents["STDOUT.txt"] == b"some input\n", context
    if well:
        assert (facts["exit_status"], facts["moved_to"]) == ("0", LTS), context
        assert set(contents) == {"task.json", *RESULTS}, context
        assert (contents["one"], contents["sub/two"]) == (b"1\n", b"2\n"), context
        assert {_places(site, f"{submitted.collection}/{name}") for name in RESULTS} == {(LTS,)}, context
        assert _places(site, f"{HOME}/in/a.txt") == ("demoResc",), context
    else:
        assert "broke on purpose" in facts["reason"], context
        assert {name for name in contents if not name.startswith("failed/")} == {"task.json", "STDOUT.txt"}, context
        assert _places(site, f"{submitted.collection}/STDOUT.txt") == (COMPUTE,), context
        assert site.snapshot(without=submitted.collection) == before, context


def _places(site: TrialSite, logical_path: str) -> tuple[str, ...]:
    found = site.alice.stat(logical_path)
    assert isinstance(found, DataObject), logical_path
    return tuple(replica.leaf for replica in found.replicas)
