"""As ``test_crash_points``, for a TES task: executors one after the other, and results at paths of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recovery import test_crash_points as plain
from support.site import HOME, TrialSite
from support.tes import of_zone, request, shell

from compute_to_data.model import DataObject
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

FIRST = (
    "mkdir -p /outputs/d; echo 1 >> /outputs/d/x; cat /inputs/note >> /outputs/d/x; echo one; echo a >> /outputs/left"
)
OUTPUTS = [{"path": "/outputs/d", "url": of_zone("results"), "type": "DIRECTORY"}]


def _site(folder: Path) -> TrialSite:
    (folder / "tools").mkdir(parents=True)
    site = TrialSite(folder, {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools")
    site.alice.create_collection(f"{HOME}/results")
    return site


def _submit(site: TrialSite, last: str) -> Submitted:
    executors = [shell(script, site.image) for script in (FIRST, last)]
    inputs = [{"path": "/inputs/note", "content": "2\n"}]
    return site.submit(request(*executors, inputs=inputs, outputs=OUTPUTS))


def _left(site: TrialSite, submitted: Submitted) -> list[str]:
    """Files in the vault that no data object accounts for, also not one among the results."""
    found = site.alice.children(f"{HOME}/results")
    known = {one.replicas[0].physical_path for one in found if isinstance(one, DataObject)}
    left = site.leftovers(submitted)
    return [path for path in left if not any(f"{one}/".startswith(f"{path}/") for one in known)]


def _check(site: TrialSite, submitted: Submitted, before: Any, state: State, context: str) -> None:
    with site.working():
        facts = site.ended(submitted)
    assert facts["state"] == state.value, f"{context}: {facts}"
    assert _left(site, submitted) == [], context
    assert audit(str(site.folder / "zone")) == [], context
    here = site.contents(submitted.collection)
    assert here["STDOUT.txt"] == b"one\ntwo\n", context
    statuses = [step[0] for step in json.loads(facts["executors"])]
    if state is State.COMPLETED:
        assert (site.contents(f"{HOME}/results"), here["left"]) == ({"x": b"1\n2\n3\n"}, b"a\n"), context
        assert statuses == [0, 0], context
    else:
        assert (here["failed/d/x"], statuses) == (b"1\n2\n3\n", [0, 7]), context
        assert site.snapshot(without=submitted.collection) == before, context


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("last", "state", "after"),
    [
        ("echo 3 >> /outputs/d/x; echo two", State.COMPLETED, False),
        ("echo 3 >> /outputs/d/x; echo two", State.COMPLETED, True),
        ("echo 3 >> /outputs/d/x; echo two; exit 7", State.FAILED, True),
    ],
    ids=["before it takes effect", "after it took effect", "of a task that fails"],
)
def test_every_crash_point_is_recovered(tmp_path: Path, last: str, state: State, after: bool) -> None:
    places = []
    for folder, fate in plain.each_fate(tmp_path, after):
        site = _site(folder)
        submitted = _submit(site, last)
        before = site.snapshot(without=submitted.collection)
        plain._die(site, submitted, fate)
        if fate.dead:
            places.append(fate.where)
            _check(site, submitted, before, state, f"died at {fate.where}")
    assert places.count("submit") == 2, "each executor is a job of its own"
