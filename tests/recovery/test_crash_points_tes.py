"""As ``test_crash_points``, for a TES task: executors one after the other, and results at paths of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from recovery import test_crash_points as plain
from support.crashes import each_fate
from support.site import HOME, TrialSite
from support.tes import of_zone, request, shell

from compute_to_data.model import Avu, DataObject, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.zones.embedded.audit import audit

FIRST = (
    "mkdir -p /outputs/d; echo 1 >> /outputs/d/x; cat /inputs/note >> /outputs/d/x; echo one; echo a >> /outputs/left"
)
OUTPUTS = [{"path": "/outputs/d", "url": of_zone("results"), "type": "DIRECTORY"}]


LAST = "echo 3 >> /outputs/d/x; echo two"


def _site(folder: Path, earlier: str) -> TrialSite:
    (folder / "tools").mkdir(parents=True)
    site = TrialSite(folder, {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools")
    site.alice.create_collection(f"{HOME}/results")
    if earlier:
        site.alice.write(f"{HOME}/results/x", b"of an earlier task")
        named = site.configuration.attributes.named("task_id")
        site.alice.annotate(Entity(EntityKind.DATA_OBJECT, f"{HOME}/results/x"), add=[Avu(named, "an-earlier-task")])
    if earlier == "in the way":
        site.alice.write(f"{HOME}/results/y", b"no result of a task")
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
        assert (here["failed/d/x"], statuses[0]) == (b"1\n2\n3\n", 0), context
        assert site.snapshot(without=submitted.collection) == before, context


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("last", "state", "after", "earlier"),
    [
        (LAST, State.COMPLETED, False, ""),
        (LAST, State.COMPLETED, True, ""),
        (f"{LAST}; exit 7", State.FAILED, True, ""),
        (LAST, State.COMPLETED, False, "replaced"),
        (LAST, State.COMPLETED, True, "replaced"),
        (f"{LAST}; echo > /outputs/d/y", State.FAILED, True, "in the way"),
    ],
    ids=[
        "before it takes effect",
        "after it took effect",
        "of a task that fails",
        "of a task that replaces a result, before",
        "of a task that replaces a result, after",
        "of a task that puts a result back",
    ],
)
def test_every_crash_point_is_recovered(tmp_path: Path, last: str, state: State, after: bool, earlier: str) -> None:
    places = []
    for fate in each_fate(after):
        site = _site(tmp_path / f"{fate.at}", earlier)
        submitted = _submit(site, last)
        before = site.snapshot(without=submitted.collection)
        plain._die(site, submitted, fate)
        if fate.dead:
            places.append(fate.where)
            _check(site, submitted, before, state, f"died at {fate.where}")
    assert places.count("submit") == 2, "each executor is a job of its own"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_task_that_is_cancelled_after_each_crash_has_replaced_all_or_nothing(tmp_path: Path) -> None:
    """Its owner has either all new results or all earlier ones, also if the worker died while it removed those."""
    states = []
    for fate in each_fate(after=True):
        site = _site(tmp_path / f"{fate.at}", "replaced")
        submitted = _submit(site, LAST)
        before = site.snapshot(without=submitted.collection)
        plain._die(site, submitted, fate)
        if not fate.dead:
            continue
        named = site.configuration.attributes.named("cancel")
        entity = Entity(EntityKind.COLLECTION, submitted.collection)
        site.alice.annotate(entity, add=[Avu(named, "alice#tempZone", submitted.resource)])
        context = f"died at {fate.where}"
        with site.working():
            states.append(site.ended(submitted)["state"])
        assert audit(str(site.folder / "zone")) == [], context
        if states[-1] == "COMPLETED":
            assert site.contents(f"{HOME}/results") == {"x": b"1\n2\n3\n"}, context
        else:
            assert states[-1] == "CANCELLED", context
            assert site.snapshot(without=submitted.collection) == before, context
    completed = states.index("COMPLETED")
    assert set(states[:completed]) == {"CANCELLED"}
    assert set(states[completed:]) == {"COMPLETED"}, "once it removes what it replaced, it completes"
