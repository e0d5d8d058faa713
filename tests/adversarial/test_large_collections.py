"""Collections with 100,000 members and access lists with 100,000 entries cost the worker neither memory nor time."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.crowds import give_access, make_collections, make_data_objects
from support.faults import Troubled
from support.site import ALICE, BOB, COMPUTE, HOME, WAITS, TrialSite

from compute_to_data.errors import Refused, TooLarge
from compute_to_data.inputs import claims, naming, references
from compute_to_data.inputs.complete import Origins
from compute_to_data.model import Avu
from compute_to_data.records import secret
from compute_to_data.records.task import TaskRecord
from compute_to_data.submission import submit

MANY = 100_000
MOST_BYTES, MOST_SECONDS = 40 << 20, 4.0


@contextmanager
def bounded(most_seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Whatever is read inside, it takes little memory and time."""
    tracemalloc.start()
    began = time.process_time()  # which other load on the machine does not lengthen
    try:
        yield
        took, (_, most) = time.process_time() - began, tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST_BYTES, f"{most >> 20} MiB"
    assert took < most_seconds


@pytest.fixture
def large(site: TrialSite) -> str:
    site.alice.create_collection(f"{HOME}/large")
    make_data_objects(site, ALICE, f"{HOME}/large", MANY)
    return f"{HOME}/large"


def test_as_an_input(site: TrialSite, large: str) -> None:
    request = site.request("/bin/true", inputs=[{"collection": large}])
    with bounded(), pytest.raises(TooLarge, match="has more than 8192 members and replicas"):
        submit.submit(site.alice, site.configuration, request)


def test_as_an_input_of_a_task_that_waits_already(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/large")
    site.alice.write(f"{HOME}/large/one", b"x", resource=COMPUTE)
    submitted = site.submit(site.request("/bin/true", inputs=[{"collection": f"{HOME}/large"}]))
    make_data_objects(site, ALICE, f"{HOME}/large", MANY)
    with bounded(), site.working():
        facts = site.ended(submitted)
    assert (facts["state"], facts["reason_code"]) == ("FAILED", "refused")
    assert facts["reason"].startswith(f"{HOME}/large: has more than 8192 members and replicas")


def _as_a_dataset(site: TrialSite, collection: str) -> object:
    return references.tree(site.alice, Origins(site.alice, site.configuration.attributes), collection)


def _to_claim_from(site: TrialSite, collection: str) -> object:
    return next(claims.eligible(site.alice, collection, site.configuration.attributes.claim))


@pytest.mark.parametrize("reading", [_as_a_dataset, _to_claim_from])
def test_in_other_ways(site: TrialSite, large: str, reading: Callable[[TrialSite, str], object]) -> None:
    with bounded(), pytest.raises(TooLarge, match="has more than 32768 members and replicas"):
        reading(site, large)


def test_collections_count(site: TrialSite) -> None:
    site.alice.create_collection(f"{HOME}/large")
    make_collections(site, ALICE, f"{HOME}/large", MANY, [])
    site.alice.set_access(f"{HOME}/large", ALICE, site.alice.access(f"{HOME}/large"), recursive=True)
    with bounded(), pytest.raises(TooLarge):
        site.alice.children(f"{HOME}/large", 1000)


def test_the_results_of_a_task_that_have_another_name(site: TrialSite) -> None:
    facts = site.run(site.request("/bin/sh", "-c", "echo > /outputs/x"))
    make_data_objects(site, ALICE, facts["collection"], MANY)
    reference = references.InputReference(references.InputKind.TASK, facts["collection"], result="y")
    with bounded(), pytest.raises(Exception, match="has no result y"):
        naming.result(site.alice, site.configuration.attributes, reference)


def test_an_access_list_on_a_request(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true"))
    give_access(site, f"{submitted.collection}/task.json", MANY)
    record = TaskRecord(site.alice, site.configuration.attributes, submitted.collection, COMPUTE)
    with bounded(), pytest.raises(Refused, match="more than 1024 entries in its access list"):
        record.sealed_owner()
    with bounded(), site.working():
        assert "more than 1024 entries" in site.ended(submitted)["reason"]


def test_an_access_list_on_a_secret(site: TrialSite) -> None:
    path = secret.path_of(ALICE, "tempZone", "TOKEN")
    site.alice.create_collection(path.rpartition("/")[0], parents=True)
    site.alice.write(path, b"x")
    give_access(site, path, MANY)
    with bounded(), pytest.raises(Refused, match="more than 1024 entries"):
        secret.check(site.alice, "tempZone", ["TOKEN"])


def test_an_access_list_on_an_input(site: TrialSite) -> None:
    site.alice.write(f"{HOME}/a", b"x", resource=COMPUTE)
    give_access(site, f"{HOME}/a", MANY)
    with bounded():
        assert site.run(site.request("/bin/true", inputs=[f"{HOME}/a"]))["state"] == "COMPLETED"


def test_collections_that_look_like_running_tasks(site: TrialSite) -> None:
    """A worker that starts looks for them, and still finds those that run."""
    make_collections(
        site, BOB, "/tempZone/home/bob", 20_000, [Avu(site.configuration.attributes.state, "RUNNING", COMPUTE)]
    )
    asked: list[int] = []

    def counted(query: Any, given: Any) -> Any:
        found = query(given)
        asked.append(len(found))
        return found

    submitted = site.submit(site.request("/bin/sh", "-c", WAITS))
    with site.working():
        site.outputs(submitted)
    storage: Any = Troubled(site.storage, query=counted)
    with bounded(60), site.working(storage=storage):
        site.let_go(submitted)
        assert site.ended(submitted)["state"] == "COMPLETED"
    assert max(asked) <= 2048
