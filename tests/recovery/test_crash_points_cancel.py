"""As ``test_crash_points``, for a task that a user follows, or cancels while it runs or while its results are
being registered. The worker dies at each call that changes something, and the next one ends the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recovery import test_crash_points as plain
from recovery.test_crash_points_lts import CHANGING
from support.crashes import Call, Died, Fate, each_fate
from support.faults import EngineWithTroubledJobs, StorageWithTroubledSessions
from support.site import COMPUTE, TrialSite

from compute_to_data.errors import Refused
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.pipeline import watch_job
from compute_to_data.pipeline.staging import stage_in
from compute_to_data.submission.submit import Submitted
from compute_to_data.task import LIVE_LOG_NAME
from compute_to_data.zones.embedded.audit import audit

WORDS = "cat /inputs/*; echo 1 > /outputs/one"
DEAF = f'trap "" TERM; {WORDS}; while :; do sleep 0.05; done'
SOON = f"{WORDS}; sleep 0.4"
CANCEL_REQUEST = Avu("irods::compute_to_data::cancel", "alice#tempZone", COMPUTE)
FOLLOW = Avu("irods::compute_to_data::follow", "1")
STEPS = CHANGING | {"prepare", "submit", "stop"}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the intervals between queries and checks, because these tests run many workers."""
    monkeypatch.setattr(watch_job, "QUESTION_EVERY", 0.05)
    monkeypatch.setattr(watch_job, "FIRST_LOOK", 0.05)
    monkeypatch.setattr(watch_job, "_FIRST_SHOW", 0.05)


def _put(site: TrialSite, submitted: Submitted, avu: Avu) -> None:
    site.alice.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[avu])


def _prepared(folder: Path, script: str, moment: str) -> tuple[TrialSite, Submitted]:
    """A followed task, which a user cancels at the ``moment`` (an operation; ``show``: its log is registered)."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    worker = {"stop_grace_seconds": 0, "attempts": 5}
    site = TrialSite(folder, {"name": "process", "images": {"tools": str(tools)}}, "tools", worker=worker)
    submitted = plain._submit(site, script)
    _put(site, submitted, FOLLOW)

    def cancel(original: Any, *args: Any) -> Any:
        registered = {"register": "/one", "show": LIVE_LOG_NAME}.get(moment, "")
        if not registered or any(one.logical_path.endswith(registered) for one in args[1]):
            _put(site, submitted, CANCEL_REQUEST)
        return original(*args)

    if moment in ("register", "show"):
        site.storage = StorageWithTroubledSessions(site.storage, register=cancel)  # type: ignore[assignment]
    elif moment:
        site.engine = EngineWithTroubledJobs(site.engine, **{moment: cancel})  # type: ignore[assignment]
    return site, submitted


def _that_change(calls: Sequence[Call]) -> Sequence[Call]:
    assert Call("unregister", 1) in calls, "the task was followed"
    return [call for call in calls if call.name in STEPS]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("after", [False, True], ids=["before it takes effect", "after it took effect"])
@pytest.mark.parametrize(
    ("script", "moment"),
    [(DEAF, "show"), (SOON, "register"), (SOON, "")],
    ids=["cancelled while it runs", "cancelled while results are registered", "followed only"],
)
def test_every_crash_point_is_recovered(tmp_path: Path, script: str, moment: str, after: bool) -> None:
    died = 0
    for fate in each_fate(after, _that_change):
        site, submitted = _prepared(tmp_path / f"{fate.at}", script, moment)
        before = site.snapshot(without=submitted.collection)
        plain._die(site, submitted, fate)
        died += fate.dead
        final = site.record(submitted).facts()["state"] in ("CANCELLED", "COMPLETED")
        if moment and not final:
            _put(site, submitted, CANCEL_REQUEST)  # the worker died before the user cancelled the task
        _check(site, submitted, before, "CANCELLED" if moment else "COMPLETED", f"died at {fate.at}")
    assert died >= 10  # how often the log was shown depends on the machine


class _AfterClaiming(Fate):
    """The worker dies when it has claimed the task's input, before it has noted anything of that."""

    def call(self, name: str, operation: Any, *args: Any, **kwargs: Any) -> Any:
        answer = super().call(name, operation, *args, **kwargs)
        if name == "annotate" and args[0].kind is EntityKind.DATA_OBJECT:
            self.dead = True
            raise Died
        return answer


def test_a_claim_is_removed_when_the_next_attempt_ends_before_it_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a request to cancel, which may be heard at any time."""
    site, submitted = _prepared(tmp_path, SOON, "")
    before = site.snapshot(without=submitted.collection)
    fate = _AfterClaiming()
    plain._die(site, submitted, fate)
    assert fate.dead

    def refuse(*_: Any, **__: Any) -> None:
        raise Refused("its inputs", "are not what they were")

    monkeypatch.setattr(stage_in.references, "resolve", refuse)
    with site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused"), facts
    assert site.snapshot(without=submitted.collection) == before


def _check(site: TrialSite, submitted: Submitted, before: object, expected: str, context: str) -> None:
    with site.working():
        facts = site.ended(submitted)
    context = f"{context}: {facts}"
    assert facts["state"] == expected, context
    assert not {"cancel", "follow"} & set(facts), context
    assert site.engine.jobs(site.worker()._served.scope) == (), context
    assert site.leftovers(submitted) == [], context
    assert audit(str(site.folder / "zone")) == [], context
    contents = site.contents(submitted.collection)
    assert not any("live" in name for name in contents), context
    if "running_at" in facts and expected == "COMPLETED":
        assert contents["STDOUT.txt"] == b"some input\n", context
    if expected == "CANCELLED":
        assert "cancelled by alice#tempZone" in facts["reason"], context
        kept = {"failed/one": b"1\n"} if "kept" in facts else {}  # else no job ran in the end
        assert {name: said for name, said in contents.items() if "/" in name} == kept, context
        assert set(contents) <= {"task.json", "STDOUT.txt", "LOG.times", *kept}, context
        assert site.snapshot(without=submitted.collection) == before, context
        assert not {"fingerprint", "outputs_digest"} & set(facts), context
    else:
        assert contents["one"] == b"1\n", context
