"""What others write on their own collections, where a person may read it, costs that person's client little.

In a gateway, the memory and the threads are everybody's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.crowds import make_collections
from support.people import settings_of
from support.site import ALICE, BOB, COMPUTE, TrialSite

import compute_to_data as c2d
from compute_to_data import bounds
from compute_to_data.client import dataset_uses, datasets, finding, naming, processes, removing, task_rows
from compute_to_data.client.site import resources
from compute_to_data.client.task_rows import Filter
from compute_to_data.client.task_status import waiting_reasons
from compute_to_data.errors import Refused, TooLarge
from compute_to_data.model import Access, Avu, Entity, EntityKind, Query
from compute_to_data.records.state import State

PREFIX = "irods::compute_to_data::"
BOBS = "/tempZone/home/bob/out"
FLOOD = 3000


class Noting:
    """A session that notes how long the answers to its questions are, and how many it asks."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.longest = self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def _noted(self, found: Any) -> Any:
        self.asked += 1
        self.longest = max(self.longest, len(found))
        return found

    def find(self, query: Query) -> tuple[str, ...]:
        return self._noted(self._session.find(query))  # type: ignore[no-any-return]

    def query(self, query: Query) -> tuple[Any, ...]:
        return self._noted(self._session.query(query))  # type: ignore[no-any-return]


@pytest.fixture
def session(site: TrialSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[c2d.Session]:
    """alice's session. bob has a collection that she may read."""
    path = tmp_path / "alice.json"
    path.write_text(json.dumps(settings_of(site, "alice")))
    monkeypatch.setenv("C2D_SESSION_FILE", str(tmp_path / "session.json"))
    site.bob.create_collection(BOBS)
    site.bob.set_access(BOBS, ALICE, Access.READ_OBJECT)
    with c2d.connect(str(path)) as opened:
        yield opened


@pytest.fixture
def noting(session: c2d.Session) -> Noting:
    session.catalog = noting = Noting(session.catalog)  # type: ignore[assignment]
    return noting


def flood(site: TrialSite, *avus: Avu, count: int = FLOOD) -> None:
    """bob's collections, which alice may read."""
    make_collections(site, BOB, BOBS, count, avus, reader=ALICE)


def ended(site: TrialSite) -> str:
    """A task of alice's that has ended."""
    submitted = site.submit(site.request("/bin/true"))
    site.record(submitted).move_to(State.COMPLETED)
    return submitted.collection


def test_a_question_without_a_limit_has_one(
    site: TrialSite, session: c2d.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_FOUND", FLOOD - 1)
    flood(site, Avu(f"{PREFIX}state", "COMPLETED", COMPUTE))
    query = Query(EntityKind.COLLECTION, f"{PREFIX}state")
    for ask in (session.catalog.find, session.catalog.query, site.storage.find, site.storage.query):
        with pytest.raises(TooLarge, match=f"more than {FLOOD - 1}"):
            ask(query)
        assert len(ask(replace(query, limit=FLOOD))) == FLOOD
    monkeypatch.setattr(bounds, "MOST_FOUND", FLOOD)
    assert len(session.catalog.find(query)) == FLOOD


def test_tasks_of_others_cost_a_removal_nothing(site: TrialSite, session: c2d.Session, noting: Noting) -> None:
    task = ended(site)
    flood(site, Avu(f"{PREFIX}state", "RUNNING", COMPUTE))
    removing.Removing(session).remove(removing.Removing(session).plan(naming.named(session, task)))
    assert noting.longest <= 2


def test_others_that_say_that_they_use_a_result(
    site: TrialSite, session: c2d.Session, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as there are not too many of them, they do not keep it from being removed: they are no tasks."""
    task = ended(site)
    flood(site, Avu(f"{PREFIX}reads", task))
    assert removing.Removing(session).plan(naming.named(session, task)).collection == task
    monkeypatch.setattr(removing, "_MOST_DEPENDING", 100)
    noting.longest = 0
    with pytest.raises(Refused, match="more than 100 tasks say"):
        removing.Removing(session).plan(naming.named(session, task))
    assert noting.longest <= 101


def test_tasks_inside_a_task_that_have_not_ended(site: TrialSite, session: c2d.Session, noting: Noting) -> None:
    task = ended(site)
    site.alice.create_collection(f"{task}/deeper")
    site.alice.rename(site.submit(site.request("/bin/true")).collection, f"{task}/deeper/inside")
    with pytest.raises(Refused, match="holds tasks that have not ended"):
        removing.Removing(session).plan(naming.named(session, task))


def test_the_users_of_a_dataset(site: TrialSite, session: c2d.Session, noting: Noting, tmp_path: Path) -> None:
    """A description names some, and says that there are more. A change is refused as soon as one is known."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_bytes(b"a")
    dataset = datasets.upload(session, str(tmp_path / "data")).dataset
    collection = datasets.find(session, dataset)
    assert not datasets.describe(session, dataset).has_more
    file = f"{collection}/files/a"
    states = [Avu(f"{PREFIX}state", "RUNNING", COMPUTE), Avu(f"{PREFIX}workload_state", "STARTED", COMPUTE)]
    flood(site, *states, Avu(f"{PREFIX}reads", collection), Avu(f"{PREFIX}input", file), count=600)
    flood(site, *states, Avu(f"{PREFIX}dataset", f"{collection}/files"), count=600)
    noting.longest = noting.asked = 0
    found = datasets.describe(session, dataset)
    assert found.has_more and found.document()["has_more"]
    assert len(found.tasks) == len(found.workloads) == dataset_uses.MOST
    assert noting.longest == dataset_uses.MOST + 1
    assert noting.asked <= 5
    with pytest.raises(Refused, match=r"is in use by .* and others"):
        datasets.remove(session, dataset)


def test_a_list_by_name_ends_when_it_has_enough(site: TrialSite, session: c2d.Session, noting: Noting) -> None:
    task = session.submit({**site.request("/bin/true"), "name": "mine"})
    flood(
        site, Avu(f"{PREFIX}state", "COMPLETED", COMPUTE), Avu(f"{PREFIX}name", "mine"), Avu(f"{PREFIX}role", "OTHER")
    )
    found = finding.tasks(session, Filter(name="mi*", everybodys=True), limit=10)
    assert len(found) == 10
    assert noting.longest <= task_rows._FIRST_WINDOW
    noting.longest = 0
    found = finding.tasks(session, Filter(name="mi*", role="CONTAINER", everybodys=True))
    assert [one.collection for one in found] == [task.collection], "the oldest of all"
    assert noting.longest <= task_rows._LARGEST_WINDOW
    assert len(finding.tasks(session, Filter(name="mi*", everybodys=True), limit=FLOOD, offset=1)) == FLOOD


def test_facts_of_more_tasks_than_a_few(site: TrialSite, session: c2d.Session, noting: Noting) -> None:
    """Of the listed ones only, not of all that others have written."""
    flood(site, Avu(f"{PREFIX}state", "COMPLETED", COMPUTE), Avu(f"{PREFIX}name", "n"))
    found = finding.tasks(session, Filter(everybodys=True), limit=finding._FEW + 1)
    assert [one.name for one in found] == ["n"] * (finding._FEW + 1)
    assert noting.longest == finding._FEW + 1


def test_the_length_of_a_line_is_counted_by_the_catalog(site: TrialSite, session: c2d.Session, noting: Noting) -> None:
    flood(site, Avu(f"{PREFIX}state", "QUEUED", COMPUTE))
    (found,) = [one for one in resources(session) if one.resource == COMPUTE]
    assert found.queued == FLOOD
    assert noting.longest < 10


def test_why_a_task_of_a_workload_waits(site: TrialSite, session: c2d.Session, noting: Noting) -> None:
    workload = session.start_workload(site.image, instances=2)
    task = workload.create_task(["true"])
    make_collections(site, ALICE, workload.collection, FLOOD, [Avu(f"{PREFIX}state", "RUNNING", COMPUTE)], reader=ALICE)
    noting.longest = 0
    assert "runs 2 tasks at a time" in waiting_reasons.waiting_for(session, session.catalog, task.status(reasons=False))
    assert noting.longest <= 2


def test_process_definitions_that_others_share(
    site: TrialSite, session: c2d.Session, noting: Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person's own are always listed, and of the others the newest ones."""
    content = json.dumps({"image": site.image, "exec": "true"}).encode()
    mine = processes.create(session, content, name="mine").data_object
    for number in range(15):
        path = f"{BOBS}/p{number:02}.json"
        site.bob.write(path, content)
        site.bob.set_access(path, ALICE, Access.READ_OBJECT)
        site.bob.annotate(Entity(EntityKind.DATA_OBJECT, path), add=[Avu(f"{PREFIX}process", f"p{number:02}")])
    monkeypatch.setattr(processes, "MOST_SHARED", 10)
    assert [one.name for one in processes.listed(session)] == ["mine", *(f"p{number:02}" for number in range(5, 15))]
    assert processes.paths(session, 4) == (mine, *(f"{BOBS}/p{number}.json" for number in range(11, 15)))
    assert noting.longest <= 11
