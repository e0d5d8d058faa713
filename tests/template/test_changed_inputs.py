"""Inputs that another client changes while the program runs: the results may be of either content, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.site import COMPUTE, HOME, WAITS, TrialSite, wait_until

from compute_to_data.client.task_status import endings
from compute_to_data.client.task_status.status import recorded, status_of
from compute_to_data.errors import OutOfReach
from compute_to_data.model import DataObject
from compute_to_data.pipeline import left_behind
from compute_to_data.pipeline.execution import Execution
from compute_to_data.ports.zone import Catalog
from compute_to_data.submission.submit import Submitted

READS = "cat /inputs/* > /outputs/copy"
INPUT, OTHER = f"{HOME}/a.txt", f"{HOME}/b.txt"


@pytest.fixture
def inputs(site: TrialSite) -> list[str]:
    site.alice.write(INPUT, b"before", resource=COMPUTE)
    site.alice.write(OTHER, b"other")
    return [INPUT, OTHER]


def physical_path(catalog: Catalog) -> Path:
    found = catalog.stat(INPUT)
    assert isinstance(found, DataObject)
    (replica,) = found.replicas
    return Path(replica.physical_path)


def overwrite(catalog: Catalog) -> None:
    """As iRODS overwrites a replica: in place. The embedded zone writes a new file instead."""
    physical_path(catalog).write_bytes(b"after!")


def overwrite_elsewhere(catalog: Catalog) -> None:
    """The task's replica is stale afterwards, and holds what it held."""
    catalog.write(OTHER, b"after", force=True)


def remove(catalog: Catalog) -> None:
    catalog.remove(INPUT)


def rename(catalog: Catalog) -> None:
    catalog.rename(INPUT, f"{HOME}/c.txt")


def overwritten_meanwhile(site: TrialSite, submitted: Submitted) -> dict[str, str]:
    """Let a task that WAITS go on once its input is overwritten; its facts at its end."""
    with site.working():
        site.outputs(submitted)
        overwrite(site.alice)
        site.let_go(submitted)
        return site.ended(submitted)


def notes(site: TrialSite, submitted: Submitted) -> str:
    """What ``c2d status`` notes about the task's end."""
    attributes = site.configuration.attributes
    avus = recorded(site.alice, submitted.collection, attributes)
    status = status_of(submitted.collection, avus, attributes, 0.0)
    assert status is not None
    return "\n".join(endings.notes(status))


def crate_input(site: TrialSite, collection: str, logical_path: str) -> dict[str, str]:
    crate = json.loads(site.contents(collection)["ro-crate-metadata.json"])
    return next(thing for thing in crate["@graph"] if thing.get("name") == logical_path)


def test_an_overwritten_input_is_named(site: TrialSite, inputs: list[str]) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; {READS}", inputs=inputs))
    facts = overwritten_meanwhile(site, submitted)
    assert facts["state"] == "COMPLETED", facts.get("reason")
    assert facts["inputs_changed"] == INPUT
    assert "fingerprint" not in facts, "no later task may take these results for those of the old content"
    assert INPUT in notes(site, submitted) and OTHER not in notes(site, submitted)
    assert f"c2d rerun {facts['task_id'][:8]} --changed-inputs" in notes(site, submitted)
    assert crate_input(site, submitted.collection, INPUT)["description"].startswith("Changed while the program ran")
    assert "description" not in crate_input(site, submitted.collection, OTHER)


def test_its_results_are_not_reused(site: TrialSite, inputs: list[str]) -> None:
    request = site.request("/bin/sh", "-c", f"{WAITS}; {READS}", inputs=inputs)
    submitted = site.submit(request)
    overwritten_meanwhile(site, submitted)
    physical_path(site.alice).write_bytes(b"before")
    assert not site.submit(request, reuse_earlier=True).reused


@pytest.mark.parametrize("change", [overwrite_elsewhere, remove, rename, None])
def test_an_input_that_the_program_read_unchanged_is_not_named(
    site: TrialSite, inputs: list[str], change: object
) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", f"{READS}; {WAITS}", inputs=inputs))
    with site.working():
        site.outputs(submitted)
        if callable(change):
            change(site.alice)
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts.get("reason")
    assert "inputs_changed" not in facts and "fingerprint" in facts
    assert "changed" not in notes(site, submitted)


def test_a_failed_task_names_them_too(site: TrialSite, inputs: list[str]) -> None:
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; exit 3", inputs=inputs))
    facts = overwritten_meanwhile(site, submitted)
    assert (facts["state"], facts["inputs_changed"]) == ("FAILED", INPUT)


def test_an_attempt_that_only_ends_the_task_keeps_the_fact(
    site: TrialSite, inputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = left_behind.settle, []

    def settle(execution: Execution) -> object:
        calls.append(execution)
        if len(calls) == 1:
            raise OutOfReach("the zone", "does not answer")
        return original(execution)

    monkeypatch.setattr(left_behind, "settle", settle)
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; exit 3", inputs=inputs))
    facts = overwritten_meanwhile(site, submitted)
    assert (facts["state"], facts["inputs_changed"], len(calls)) == ("FAILED", INPUT, 2)


@pytest.mark.parametrize("changes", [True, False])
def test_while_no_worker_watches(site: TrialSite, inputs: list[str], changes: bool) -> None:
    """The next worker adopts the job, and compares with the job's start."""
    submitted = site.submit(site.request("/bin/sh", "-c", f"{WAITS}; {READS}", inputs=inputs))
    with site.working():
        began = site.outputs(submitted).stat().st_mtime
    if changes:
        # As a job that has run for more than a second; the file system's clock says when.
        def is_later() -> bool:
            overwrite(site.alice)
            return physical_path(site.alice).stat().st_mtime > began + 1.5

        wait_until(is_later, "an overwrite long after the job's start")
    with site.working():
        site.let_go(submitted)
        facts = site.ended(submitted)
    assert facts["state"] == "COMPLETED", facts.get("reason")
    assert facts.get("inputs_changed", "") == (INPUT if changes else "")
