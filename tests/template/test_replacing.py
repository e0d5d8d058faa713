"""A TES task replaces results of earlier tasks when it succeeds. However it ends otherwise, they are put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.faults import StorageWithTroubledSessions, Troubled, broken
from support.site import COMPUTE, HOME, TrialSite
from support.tes import of_zone, request, shell

from compute_to_data.errors import AccessDenied, Refused
from compute_to_data.model import Access, Avu, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.submission import rerun
from compute_to_data.submission.submit import Submitted

OUTPUTS = [
    {"path": "/outputs/d", "url": of_zone("results/d"), "type": "DIRECTORY"},
    {"path": "/outputs/x", "url": of_zone("results/x")},
    {"path": "/outputs/*.txt", "path_prefix": "/outputs", "url": of_zone("results/all")},
]
PLACES = ("all/a.txt", "d/deep/y", "d/z", "x")
WRITES = (
    "mkdir -p /outputs/d/deep; for name in x d/z d/deep/y a.txt; do head -c 9 /dev/urandom > /outputs/$name; done; "
    "cp /outputs/a.txt /outputs/own"
)
LTS = "lts_resc"


@pytest.fixture
def tes(tmp_path: Path) -> TrialSite:
    return _site(tmp_path)


def _site(folder: Path, **sections: Any) -> TrialSite:
    (folder / "tools").mkdir()
    site = TrialSite(folder, {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools", **sections)
    for name in ("results", "results/d", "results/all"):
        site.alice.create_collection(f"{HOME}/{name}")
    return site


def document(script: str = WRITES, **more: Any) -> dict[str, Any]:
    return request(shell(script, "tools"), outputs=OUTPUTS, **more)


def first_results(site: TrialSite) -> dict[str, bytes]:
    """Those of a task that has completed, with an AVU and an access of their owner's."""
    facts = site.run(document())
    assert facts["state"] == "COMPLETED", facts
    site.alice.annotate(Entity(EntityKind.DATA_OBJECT, f"{HOME}/results/x"), add=[Avu("mine", "1")])
    site.alice.set_access(f"{HOME}/results/x", site.bob.user, Access.READ_OBJECT)
    found = site.contents(f"{HOME}/results")
    assert sorted(found) == [*PLACES]
    return found


def test_the_same_again_replaces_its_results(tes: TrialSite) -> None:
    earlier = first_results(tes)
    facts = tes.run(document())
    assert facts["state"] == "COMPLETED", facts
    assert "not_removed" not in facts
    now = tes.contents(f"{HOME}/results")
    assert sorted(now) == [*PLACES]
    assert not [name for name in PLACES if now[name] == earlier[name]]
    named = tes.configuration.attributes.named("task_id")
    for name in PLACES:
        avus = tes.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{HOME}/results/{name}"), named)
        assert [avu.value for avu in avus] == [facts["task_id"]]


def test_a_completed_task_runs_again(tes: TrialSite) -> None:
    """As ``c2d rerun`` does. What the new run does not write stays."""
    facts = tes.run(document(f"{WRITES}; date > /outputs/d/once"))
    again = rerun.again(tes.alice, tes.configuration.attributes, facts["collection"])
    again["tes"]["executors"][0]["command"][2] = WRITES
    earlier = tes.contents(f"{HOME}/results")
    second = tes.run(again)
    assert second["state"] == "COMPLETED", second
    now = tes.contents(f"{HOME}/results")
    assert [name for name in earlier if now[name] == earlier[name]] == ["d/once"]
    assert sorted(now) == sorted([*PLACES, "d/once"])


@dataclass
class Failure:
    """How a second task ends, the state that it gets, and whether results were moved aside before that."""

    aside: bool
    state: str = "FAILED"
    script: str = WRITES
    session: dict[str, Callable[..., Any]] = field(default_factory=dict)
    storage: dict[str, Callable[..., Any]] = field(default_factory=dict)
    before_work: Callable[[TrialSite], object] = lambda site: None
    request: dict[str, Any] = field(default_factory=dict)
    cancels: str = ""
    """The operation of the session at which its owner cancels the task."""


def _second(wanted: str) -> Callable[..., Any]:
    """The operation takes effect, and fails the second time that one of its paths has ``wanted`` in it."""
    seen: list[object] = []

    def second(operation: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend(one for one in args if wanted in str(one))
        if len(seen) > 1:
            broken()
        return operation(*args, **kwargs)

    return second


FAILURES = {
    "refused when it begins": Failure(False, before_work=lambda site: site.take_role(COMPUTE, "CONTAINER")),
    "the program fails": Failure(False, script=f"{WRITES}; exit 7"),
    "the walltime passes": Failure(
        False, script=f"{WRITES}; sleep 60", request={"resources": {"backend_parameters": {"walltime_seconds": "1"}}}
    ),
    "an output is missing": Failure(False, script=f"{WRITES}; rm /outputs/x"),
    "no result can be moved aside": Failure(True, session={"rename": broken}),
    "the second result cannot be moved aside": Failure(True, session={"rename": _second("all/a.txt")}),
    "registering fails": Failure(True, session={"register": broken}),
    "something else is in the way": Failure(
        True,
        script=f"{WRITES}; echo > /outputs/d/mine",
        before_work=lambda site: site.alice.write(f"{HOME}/results/d/mine", b"no result"),
    ),
    "annotating fails": Failure(True, session={"annotate_all": broken}),
    "the results cannot move to their resource": Failure(True, storage={"replicate": broken}),
    "cancelled while results are moved aside": Failure(True, "CANCELLED", cancels="rename"),
    "cancelled while results are registered": Failure(True, "CANCELLED", cancels="register"),
    "cancelled while results are annotated": Failure(True, "CANCELLED", cancels="annotate_all"),
}


def _cancelling(site: TrialSite, submitted: list[Submitted]) -> Callable[..., Any]:
    def operation(original: Any, *args: Any, **kwargs: Any) -> Any:
        answer = original(*args, **kwargs)
        entity = Entity(EntityKind.COLLECTION, submitted[0].collection)
        site.alice.annotate(entity, add=[Avu("irods::compute_to_data::cancel", "alice#tempZone", COMPUTE)])
        return answer

    return operation


@pytest.mark.parametrize("name", FAILURES)
def test_the_earlier_results_are_put_back(tmp_path: Path, name: str) -> None:
    failure = FAILURES[name]
    moves = failure.storage != {}
    site = _site(tmp_path, **({"roles": {"CONTAINER": {"results_to": "LONG_TERM_STORAGE"}}} if moves else {}))
    if moves:
        site.zone.add_resource(LTS)
        site.give_role(LTS, "LONG_TERM_STORAGE")
    earlier = first_results(site)
    submitted = [site.submit(document(failure.script, **failure.request))]
    failure.before_work(site)
    before, renamed = site.snapshot(without=submitted[0].collection), []

    def rename(original: Any, source: str, destination: str) -> None:
        renamed.append((source, destination))
        failure.session.get("rename", lambda act, *args: act(*args))(original, source, destination)
        if failure.cancels == "rename":
            cancel(lambda: None)

    cancel = _cancelling(site, submitted)
    session = {**failure.session, "rename": rename}
    if failure.cancels and failure.cancels != "rename":
        session[failure.cancels] = cancel
    storage = StorageWithTroubledSessions(Troubled(site.storage, **failure.storage), **session)
    with site.working(storage=storage):  # type: ignore[arg-type]
        facts = site.ended(submitted[0])
    assert facts["state"] == failure.state, facts
    assert "could not put back" not in facts["reason"]
    assert bool(renamed) is failure.aside
    assert site.snapshot(without=submitted[0].collection) == before
    now = site.contents(f"{HOME}/results")
    assert {path: now[path] for path in earlier} == earlier


def test_an_earlier_result_that_cannot_be_put_back_stays_under_its_other_name(tes: TrialSite) -> None:
    """Somebody wrote to its logical path meanwhile. Nothing is lost, and the task's reason names both."""
    earlier = first_results(tes)
    submitted = tes.submit(document())

    def register(original: Any, resource: str, files: Any) -> None:
        tes.alice.write(f"{HOME}/results/x", b"written meanwhile")
        broken()

    with tes.working(storage=StorageWithTroubledSessions(tes.storage, register=register)):  # type: ignore[arg-type]
        facts = tes.ended(submitted)
    aside = f"x.{submitted.task_id}.c2d-replaced"
    assert facts["state"] == "FAILED"
    assert f"{HOME}/results/x: is there again, so the earlier result stays as {HOME}/results/{aside}" in facts["reason"]
    now = tes.contents(f"{HOME}/results")
    assert now == {**earlier, "x": b"written meanwhile", aside: earlier["x"]}


def test_an_earlier_result_that_cannot_be_removed_is_named(tes: TrialSite) -> None:
    """The new ones are complete, and the task has succeeded."""
    earlier = first_results(tes)
    submitted = tes.submit(document())

    def remove(original: Any, logical_path: str, **more: Any) -> None:
        if "/x." in logical_path:
            broken()
        original(logical_path, **more)

    with tes.working(storage=StorageWithTroubledSessions(tes.storage, remove=remove)):  # type: ignore[arg-type]
        facts = tes.ended(submitted)
    assert facts["state"] == "COMPLETED", facts
    assert facts["not_removed"].startswith("1 earlier results, first: the zone: broke on purpose")
    now = tes.contents(f"{HOME}/results")
    aside = f"x.{submitted.task_id}.c2d-replaced"
    assert sorted(now) == sorted([*PLACES, aside])
    assert now[aside] == earlier["x"] != now["x"]


def test_another_tasks_collection_is_no_place_for_results(tes: TrialSite) -> None:
    earlier = tes.submit(document())
    inside = [{**OUTPUTS[1], "url": f"irods://{earlier.collection}/x"}]
    with pytest.raises(Refused, match=f"{earlier.collection}: is in the task {earlier.task_id}"):
        tes.submit(request(shell(WRITES, "tools"), outputs=inside))


def test_what_is_no_result_is_not_replaced(tes: TrialSite) -> None:
    tes.alice.write(f"{HOME}/results/x", b"mine")
    before = tes.snapshot()
    with pytest.raises(
        Refused, match="exists already, and a task replaces nothing but results of tasks that have ended"
    ):
        tes.submit(document())
    assert tes.snapshot() == before


def test_a_collection_is_not_replaced(tes: TrialSite) -> None:
    tes.alice.create_collection(f"{HOME}/results/x")
    with pytest.raises(Refused, match="exists already"):
        tes.submit(document())


def test_what_others_own_is_not_replaced(tes: TrialSite) -> None:
    first_results(tes)
    tes.alice.set_access(f"{HOME}/results/x", tes.bob.user, Access.OWN)
    tes.alice.set_access(f"{HOME}/results/x", tes.alice.user, Access.MODIFY_OBJECT)
    before = tes.snapshot()
    with pytest.raises(AccessDenied, match="to replace it"):
        tes.submit(document())
    assert tes.snapshot() == before


@pytest.mark.parametrize("state", [one for one in State if not one.is_final and one is not State.WAITING])
def test_results_of_a_task_that_has_not_ended_are_not_replaced(tes: TrialSite, state: State) -> None:
    """That task may still fail, and must then find what it registered."""
    first = tes.submit(document())
    tes.alice.write(f"{HOME}/results/x", b"registered and annotated already")
    named = tes.configuration.attributes.named
    tes.alice.annotate(Entity(EntityKind.DATA_OBJECT, f"{HOME}/results/x"), add=[Avu(named("task_id"), first.task_id)])
    tes.alice.set_avu(first.collection, Avu(named("state"), state.value, COMPUTE))
    with pytest.raises(Refused, match="of tasks that have ended"):
        tes.submit(document())
    tes.alice.set_avu(first.collection, Avu(named("state"), State.COMPLETED.value, COMPUTE))
    tes.submit(document())
