"""The one table of what engines promise: whole, the same in the documentation, and heeded by submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.site import COMPUTE, HOME, TrialSite

from compute_to_data import engine_promises
from compute_to_data.coordination import capabilities
from compute_to_data.engine_promises import PROMISES, Promise
from compute_to_data.engines import _KNOWN
from compute_to_data.errors import Refused
from compute_to_data.submission.selection import Choice, choose
from compute_to_data.task import InputKind, InputReference, Output, Task

PAGE = Path(__file__).parents[2] / "docs" / "engines.md"


def test_each_engine_says_something_about_each_promise() -> None:
    assert set(PROMISES) == set(_KNOWN)
    assert {engine: set(promises) for engine, promises in PROMISES.items()} == {name: set(Promise) for name in _KNOWN}


def test_the_page_has_the_same_table() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    (heads,) = [row for row in rows if row[0] == "promise"]
    engines = [head.strip("`") for head in heads[1:]]
    named = {row[0].strip("`"): row[1:] for row in rows}
    for promise in Promise:
        assert named[promise.value] == [str(PROMISES[engine][promise]) for engine in engines]
    assert set(engines) == set(PROMISES)


NEEDS = {
    "an input elsewhere": {"inputs": (InputReference(InputKind.OBJECT, f"{HOME}/data", "/data/x"),)},
    "outputs elsewhere": {"outputs": (Output("/results", "results"),)},
}
USUAL = {
    "an input": {"inputs": (InputReference(InputKind.OBJECT, f"{HOME}/data", "/inputs/x"),)},
    "a notebook": {"inputs": (InputReference(InputKind.OBJECT, f"{HOME}/data", "/notebook/x"),)},
    "a secret": {"secrets": ("TOKEN",)},
}


def _choose(site: TrialSite, given: dict[str, Any], **place: str) -> Choice:
    task = Task(name="t", **{"role": "", "resource": "", **place}, **{"inputs": (), **given}, output_collection=HOME)
    return choose(site.alice, site.configuration, task, [])


@pytest.mark.parametrize("need", NEEDS)
@pytest.mark.parametrize("place", [{"resource": COMPUTE}, {"role": "CONTAINER"}], ids=["by resource", "by role"])
def test_a_task_that_needs_what_the_engine_lacks_is_refused(site: TrialSite, need: str, place: dict[str, str]) -> None:
    lacks = rf"puts/0: the task needs .* which the engine process of {COMPUTE} does not have"
    with pytest.raises(Refused, match=lacks):
        _choose(site, NEEDS[need], **place)


@pytest.mark.parametrize("given", USUAL)
def test_a_task_that_needs_no_more_is_not(site: TrialSite, given: str) -> None:
    assert _choose(site, USUAL[given], resource=COMPUTE).resource.name == COMPUTE


def test_the_workers_word_counts(site: TrialSite) -> None:
    """The resource's worker has another engine than the file of the site that submits."""
    site.configuration = site.configure(engine={"name": "docker"})
    needs = NEEDS["outputs elsewhere"]
    assert _choose(site, needs, resource=COMPUTE)
    capabilities.publish(site.storage.catalog, site.configure(engine={"name": "process"}), COMPUTE)
    with pytest.raises(Refused, match="the engine process"):
        _choose(site, needs, resource=COMPUTE)


def test_a_role_leads_to_a_resource_with_such_an_engine(site: TrialSite) -> None:
    site.zone.add_resource("other_resc")
    site.give_role("other_resc", "CONTAINER")
    capabilities.publish(site.storage.catalog, site.configure(engine={"name": "docker"}), "other_resc")
    assert _choose(site, NEEDS["outputs elsewhere"], role="CONTAINER").resource.name == "other_resc"


def test_an_engine_of_another_release_decides_by_itself(site: TrialSite) -> None:
    site.configuration = site.configure(engine={"name": "engine_to_come"})
    assert engine_promises.of("engine_to_come") == {}
    assert _choose(site, NEEDS["outputs elsewhere"], resource=COMPUTE)
