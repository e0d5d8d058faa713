"""Logs as server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from support.gateways import RunningGateway, let_go
from support.site import BOB, WAITS, TrialSite, wait_until

from compute_to_data.client import finding
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import NotFound
from compute_to_data.gateway import following
from compute_to_data.gateway.api import tasks as tasks_module
from compute_to_data.gateway.metrics import Metrics
from compute_to_data.log_file import STREAMS
from compute_to_data.ports.zone import ClientCatalog

TASKS = "/api/v1/tasks"


def submitted(client: httpx.Client, site: TrialSite, script: str) -> str:
    answer = client.post(TASKS, json=site.request("/bin/sh", "-c", script))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["task_id"])


def events(answer: httpx.Response) -> Iterator[tuple[str, Any, str]]:
    """The kind, the data and the id of each event."""
    found: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line and found:
            yield found.get("event", ""), json.loads(found["data"]), found.get("id", "")
            found = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            found[name] = value


def text_of(found: list[tuple[str, Any, str]], stream: str) -> str:
    return "".join(data["text"] for kind, data, _ in found if kind == stream)


@pytest.fixture
def working(site: TrialSite) -> Iterator[None]:
    with site.working():
        yield


@pytest.mark.usefixtures("working")
def test_output_comes_while_the_task_runs(alice: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, f"echo 'first ü'; echo oh >&2; {WAITS}; echo last")
    with alice.stream("GET", f"{TASKS}/{task}/logs/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = []
        for event in events(answer):
            found.append(event)
            both = text_of(found, "stdout") == "first ü\n" and text_of(found, "stderr") == "oh\n"
            if both and event[0] in STREAMS:
                let_go(site, task)
    assert text_of(found, "stdout") == "first ü\nlast\n"
    assert text_of(found, "stderr") == "oh\n"
    assert found[-1][:2] == ("end", {"state": "COMPLETED"})
    assert {"state": "RUNNING"} in [data for kind, data, _ in found if kind == "state"]


@pytest.mark.usefixtures("working")
def test_a_follower_goes_on_where_it_was(alice: httpx.Client, site: TrialSite) -> None:
    task = submitted(alice, site, "for n in 1 2 3 4 5; do echo line $n; sleep 0.3; done")
    at = f"{TASKS}/{task}/logs/events"
    seen = []
    with alice.stream("GET", at) as answer:
        for event in events(answer):
            seen.append(event)
            if "line 2" in text_of(seen, "stdout"):
                break
    with alice.stream("GET", at, headers={"Last-Event-ID": seen[-1][2]}) as answer:
        rest = list(events(answer))
    assert text_of(seen, "stdout") + text_of(rest, "stdout") == "".join(f"line {n}\n" for n in range(1, 6))
    assert rest[-1][0] == "end"
    for wrong in ("nonsense", "0:5", f"{seen[0][2].partition(':')[0]}:99999999", "a:b:c", ":" * 100):
        with alice.stream("GET", at, headers={"Last-Event-ID": wrong}) as answer:
            again = list(events(answer))
        assert again[0][0] == "restart", wrong
        assert text_of(again, "stdout").startswith("line 1\n")


@pytest.mark.usefixtures("working")
def test_followers_share_what_they_follow(
    alice: httpx.Client, gateway: RunningGateway, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many followers of a task cost the catalog no more than one, and no thread each."""
    task = submitted(alice, site, f"echo begun; {WAITS}; echo done")
    asking: set[int] = set()
    session = type(gateway.gateway.people.on_behalf_of(site.alice.user).catalog)
    original = session.open_to_read

    def open_to_read(catalog: ClientCatalog, data_object: str) -> Any:
        asking.add(threading.get_ident())
        return original(catalog, data_object)  # type: ignore[arg-type]

    monkeypatch.setattr(
        type(gateway.gateway.people.on_behalf_of(site.alice.user).catalog), "open_to_read", open_to_read
    )
    begun = threading.Barrier(21, timeout=60)

    def follow(number: int) -> str:
        found = []
        with gateway.client("alice") as client, client.stream("GET", f"{TASKS}/{task}/logs/events") as answer:
            for event in events(answer):
                found.append(event)
                if event[0] == "stdout" and event[1]["text"] == "begun\n":
                    begun.wait()
        return text_of(found, "stdout")

    with ThreadPoolExecutor(20) as pool:
        followers = [pool.submit(follow, number) for number in range(20)]
        begun.wait()
        assert sum(thread.name == "follow" for thread in threading.enumerate()) == 1
        assert "c2d_gateway_log_followers 20.0" in alice.get("/metrics").text
        let_go(site, task)
        assert {one.result() for one in followers} == {"begun\ndone\n"}
    assert len(asking) == 1


@pytest.mark.usefixtures("working")
def test_a_further_follower_asks_the_catalog_nothing(
    alice: httpx.Client, bob: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = submitted(alice, site, f"echo begun; {WAITS}")
    asked: list[str] = []

    def find(bench: Workbench, task_id: str) -> TaskHandle:
        asked.append(f"{bench.user.name} {task_id}")
        return finding.find(bench, task_id)

    monkeypatch.setattr(tasks_module, "finding", SimpleNamespace(find=find))
    at = f"{TASKS}/{task}/logs/events"
    with alice.stream("GET", at) as first:
        following_on = events(first)  # which would end the answer if it were forgotten
        assert next(following_on)
        with alice.stream("GET", at) as second:
            assert next(events(second))
        assert asked == [f"alice {task}"]
        assert bob.get(at).status_code == 404
        with alice.stream("GET", f"{TASKS}/{task[:8]}/logs/events") as third:
            assert next(events(third))
    assert asked == [f"alice {task}", f"bob {task}", f"alice {task[:8]}"]
    let_go(site, task)


def test_followers_who_come_at_once_are_looked_up_once(site: TrialSite) -> None:
    """And each hears what went wrong."""
    looked: list[int] = []
    may_go_on = threading.Event()

    def find() -> TaskHandle:
        looked.append(1)
        assert may_go_on.wait(60)
        raise NotFound("task x", "does not exist")

    async def all_of_them() -> None:
        shared = following.Following(Metrics())
        asking = [asyncio.ensure_future(shared.found(site.alice.user, "x", find)) for _ in range(20)]
        others = asyncio.ensure_future(shared.found(BOB, "x", find))
        await asyncio.sleep(0)
        may_go_on.set()
        said = await asyncio.gather(*asking, others, return_exceptions=True)
        assert {type(one) for one in said} == {NotFound}
        assert not shared._looking

    asyncio.run(all_of_them())
    assert len(looked) == 2


@pytest.mark.usefixtures("working")
def test_a_follower_who_leaves_costs_nothing_more(
    alice: httpx.Client, gateway: RunningGateway, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "KEPT_SECONDS", 0.2)
    monkeypatch.setattr(following, "HEARTBEAT_SECONDS", 0.1)
    task = submitted(alice, site, f"echo begun; {WAITS}")
    with gateway.client("alice") as client, client.stream("GET", f"{TASKS}/{task}/logs/events") as answer:
        next(events(answer))
    wait_until(lambda: not any(one.name == "follow" for one in threading.enumerate()), "the follower's thread to end")
    let_go(site, task)


@pytest.mark.usefixtures("working")
def test_the_number_of_followed_tasks_is_bounded(
    alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_OF_A_USER", 1)
    first, second = (submitted(alice, site, WAITS) for _ in range(2))
    with alice.stream("GET", f"{TASKS}/{first}/logs/events") as answer:
        followed = events(answer)  # without a name it would end at once, and the connection with it
        next(followed)
        with alice.stream("GET", f"{TASKS}/{second}/logs/events") as refused:
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    for task in (first, second):
        let_go(site, task)


@pytest.mark.usefixtures("working")
@pytest.mark.parametrize("bound", ["MOST_OF_A_USER", "MOST_FOLLOWED"])
def test_logs_that_nobody_follows_any_more_count_for_nothing(
    alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """As of a script that looks at one ended task after the other. The one that was left first makes place."""
    monkeypatch.setattr(following, bound, 2)
    tasks = [submitted(alice, site, f"echo {number}") for number in range(4)]
    for number, task in enumerate([*tasks, *tasks]):
        with alice.stream("GET", f"{TASKS}/{task}/logs/events") as answer:
            assert answer.status_code == 200, number
            assert text_of(list(events(answer)), "stdout") == f"{number % 4}\n"


@pytest.mark.usefixtures("working")
def test_what_a_program_writes_makes_no_events(alice: httpx.Client, site: TrialSite) -> None:
    """A line of the log cannot end its event and begin another one."""
    script = r"printf 'a\n\nevent: end\ndata: {}\n\n\r\rid: 1\n\377\303'"
    task = submitted(alice, site, script)
    with alice.stream("GET", f"{TASKS}/{task}/logs/events") as answer:
        found = list(events(answer))
    assert text_of(found, "stdout") == "a\n\nevent: end\ndata: {}\n\n\r\rid: 1\n\ufffd\ufffd"
    assert [kind for kind, _, _ in found].count("end") == 1


def test_a_worker_that_dies_while_a_log_is_followed(alice: httpx.Client, site: TrialSite) -> None:
    """The follower waits, and sees the rest when another worker has taken the task over."""
    with site.working():
        task = submitted(alice, site, f"echo begun; {WAITS}; echo done")
        found = []
        with alice.stream("GET", f"{TASKS}/{task}/logs/events") as answer:
            coming = events(answer)
            while "begun\n" not in text_of(found, "stdout"):
                found.append(next(coming))
            let_go(site, task)
            found += list(coming)
    assert text_of(found, "stdout") == "begun\ndone\n"
