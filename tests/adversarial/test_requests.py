"""A user who puts requests on thousands of collections that are no tasks. The requests of others must be heard."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support.crowds import make_collections
from support.site import ALICE, COMPUTE, HOME, WAITS, ZONE, TrialSite, wait_until

from compute_to_data.errors import NotFound
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted
from compute_to_data.worker import passed_over, requests

PREFIX = "irods::compute_to_data::"
FLOOD = requests._AT_ONCE + passed_over.MOST + 200
"""More than one answer holds, and more than the worker remembers to be no tasks."""
HEARD = 2.0
SLACK = 2.0
"""Seconds that a busy machine may take besides."""
BOBS = f"/{ZONE}/home/bob"


@pytest.fixture
def flooded(site: TrialSite) -> Iterator[TrialSite]:
    """One slot. Alice's requests are older than all that the tests make, and there are more than one answer holds."""
    engine = {"name": "process", "images": {"tools": str(site.folder / "tools")}}
    site.configuration = site.configure(engine=engine, worker={"slots": 1})
    both = [Avu(f"{PREFIX}cancel", str(ALICE), COMPUTE), Avu(f"{PREFIX}follow", "1")]
    make_collections(site, ALICE, f"{HOME}/out", FLOOD, both)
    site.bob.create_collection(f"{BOBS}/out")
    with site.working():
        yield site


def of_bob(site: TrialSite, *argv: str) -> Submitted:
    return site.submit({**site.request(*argv), "output_collection": f"{BOBS}/out"}, catalog=site.bob)


def wishes(site: TrialSite, submitted: Submitted, request: str, *rest: str) -> None:
    avu = Avu(f"{PREFIX}{request}", *rest)
    site.bob.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=[avu])


def ends_soon(site: TrialSite, submitted: Submitted) -> None:
    began = time.monotonic()
    wishes(site, submitted, "cancel", f"bob#{ZONE}", COMPUTE)
    assert site.ended(submitted, site.bob)["state"] == "CANCELLED"
    assert time.monotonic() - began < HEARD + SLACK


def test_running_and_queued_tasks_are_cancelled(flooded: TrialSite) -> None:
    running = of_bob(flooded, "/bin/sh", "-c", WAITS)
    wait_until(lambda: flooded.record(running, flooded.bob).state() is State.RUNNING, "the task to run")
    queued = [of_bob(flooded, "/bin/true") for _ in range(3)]
    for one in (*queued[1:], running):
        ends_soon(flooded, one)
    assert flooded.ended(queued[0], flooded.bob)["state"] == "COMPLETED"


def test_a_task_that_waits_for_another_is_cancelled(flooded: TrialSite) -> None:
    first = of_bob(flooded, "/bin/sh", "-c", WAITS)
    second = {**flooded.request("/bin/true"), "output_collection": f"{BOBS}/out", "after": [first.collection]}
    waiting = flooded.submit(second, catalog=flooded.bob)
    assert flooded.record(waiting, flooded.bob).state() is State.WAITING
    wait_until(lambda: flooded.record(first, flooded.bob).state() is State.RUNNING, "the first task to run")
    ends_soon(flooded, waiting)
    ends_soon(flooded, first)


def test_a_running_task_is_followed(flooded: TrialSite) -> None:
    running = of_bob(flooded, "/bin/sh", "-c", WAITS)
    wait_until(lambda: flooded.record(running, flooded.bob).state() is State.RUNNING, "the task to run")
    began = time.monotonic()
    wishes(flooded, running, "follow", "1")
    wait_until(lambda: is_there(flooded, f"{running.collection}/LOG.live"), "the live log")
    assert time.monotonic() - began < HEARD + SLACK
    ends_soon(flooded, running)


def is_there(site: TrialSite, logical_path: str) -> bool:
    try:
        site.bob.stat(logical_path)
    except NotFound:
        return False
    return True
