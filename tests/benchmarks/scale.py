"""How the catalog's questions and their time grow with tasks, queues, users, resources and waiting people.

    python tests/benchmarks/scale.py [tasks] [queued] [resources] [waiting] [--most 1000000]

On the embedded zone, in one process, so that the processor's time holds what the catalog needs. Engines run nothing
but ``true``; the workers of all resources but one are their published heartbeats, offers and images. A question is one
call of the session's port.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.crowds import end_for, ended_name, queue_for
from support.site import COMPUTE, TrialSite, wait_until

from compute_to_data.agent import dispatch
from compute_to_data.client import finding
from compute_to_data.coordination import capabilities, held_images
from compute_to_data.coordination.heartbeat import Heartbeat
from compute_to_data.inputs import naming
from compute_to_data.model import User
from compute_to_data.records.state import State
from compute_to_data.records.task import TaskRecord

TIMES = 15


class Counting:
    """Passes all calls on, and counts them. The same for sessions that it opens."""

    def __init__(self, inner: Any, counts: Counter[str] | None = None) -> None:
        self.inner = inner
        self.counts: Counter[str] = Counter() if counts is None else counts

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if name == "catalog":
            return Counting(value, self.counts)
        if not callable(value):
            return value

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.counts[name] += name != "on_behalf_of"
            answer = value(*args, **kwargs)
            return Counting(answer, self.counts) if name == "on_behalf_of" else answer

        return counted


@contextmanager
def a_site() -> Iterator[TrialSite]:
    with tempfile.TemporaryDirectory(prefix="c2d-scale-") as folder:
        tools = Path(folder) / "tools"
        tools.mkdir()
        yield TrialSite(Path(folder), {"name": "process", "images": {"tools": str(tools)}}, "tools")


def measured(what: str, source: Counting, do: Callable[[], Any], times: int = TIMES) -> str:
    """Milliseconds of the processor (median), and questions."""
    used = []
    do()
    before = sum(source.counts.values())
    for _ in range(times):
        began = time.process_time()
        do()
        used.append((time.process_time() - began) * 1000)
    questions = (sum(source.counts.values()) - before) / times
    return f"{what} {statistics.median(used):.2f} ms, {questions:g} questions"


def tasks(most: int) -> None:
    for number in (10, 1_000, 100_000, 1_000_000):
        if number > most:
            break
        with a_site() as site:
            began = time.perf_counter()
            end_for(site, "alice", number)
            made = time.perf_counter() - began
            size = (site.folder / "zone" / "zone.db").stat().st_size / 1e6
            queue_for(site, 3, 12)
            print(f"{number:>9,} ended tasks ({size:.0f} MB, made in {made:.0f} s):", flush=True)
            _at_size(site)


def _at_size(site: TrialSite) -> None:
    catalog, storage = Counting(site.alice), Counting(site.storage)
    bench: Any = SimpleNamespace(
        catalog=catalog, attributes=site.configuration.attributes, user=site.alice.user, named_project="", project=""
    )
    (last,) = finding.tasks(bench, limit=1)
    worker = site.worker(storage=storage)  # type: ignore[arg-type]
    record = TaskRecord(catalog, bench.attributes, last.collection, COMPUTE)  # type: ignore[arg-type]
    print("  " + measured("a page of 50 of c2d list:", catalog, lambda: finding.tasks(bench, limit=50)))
    print("  " + measured("its page 10:", catalog, lambda: finding.tasks(bench, limit=50, offset=450)))
    beginning = ended_name(int(last.task_id[:8], 16))[:9]
    find = lambda: naming.task(catalog, bench.attributes, beginning)  # type: ignore[arg-type]  # noqa: E731
    print("  " + measured("a task by the beginning of its id:", catalog, find))
    print("  " + measured("a worker's poll:", storage, lambda: worker._line.look(now=True)))
    print("  " + measured("the next task:", storage, lambda: _choice(worker)))
    print("  " + measured("a waiting user's question:", catalog, record.state))
    print("  " + _whole_tasks(site), flush=True)


def _choice(worker: Any) -> None:
    worker._line._order.clear()  # as at the first choice, without the pages that it knows
    worker._line.look(now=True)
    assert worker._line.choose(1, (), ())


def _whole_tasks(site: TrialSite, count: int = 20) -> str:
    site.zone.add_resource("own_resc")
    catalog, storage = Counting(site.alice), Counting(site.storage)
    began, used = time.perf_counter(), time.process_time()
    with site.working(storage=storage):  # type: ignore[arg-type]
        before = sum(storage.counts.values())
        submitted = [site.submit(site.request("true"), catalog=catalog) for _ in range(count)]  # type: ignore[arg-type]
        for one in submitted:
            wait_until(lambda one=one: site.record(one).state() is State.COMPLETED, "a task", 600)  # type: ignore[misc]
        asked = sum(storage.counts.values()) - before
    took, processor = time.perf_counter() - began, time.process_time() - used
    per = f"{sum(catalog.counts.values()) / count:.0f} questions to submit, {asked / count:.0f} of the worker's"
    return f"a trivial task: {processor / count * 1000:.0f} ms of the processor ({took / count * 1000:.0f} ms), {per}"


def queued() -> None:
    for number, users in ((1, 1), (100, 10), (10_000, 1_000)):
        with a_site() as site:
            queue_for(site, users, number)
            print(f"{number:>9,} queued by {users:,} users: {_queue(site)}", flush=True)


def _queue(site: TrialSite) -> str:
    storage = Counting(site.storage)
    line = site.worker(storage=storage)._line  # type: ignore[arg-type]
    poll = measured("a worker's poll", storage, lambda: line.look(now=True))
    following = measured("the next task", storage, lambda: line.choose(1, (), ()))
    return f"{poll}; {following}; {measured('publishing the line', storage, lambda: line.listed(()), 3)}"


def resources() -> None:
    for number in (1, 10, 100):
        with a_site() as site:
            configuration = site.configuration
            for one in range(number):
                name = f"far{one:03}"
                site.zone.add_resource(name, host="far.example.org")
                site.give_role(name, "CONTAINER")
                Heartbeat(site.storage.catalog, configuration, name).renew()
                capabilities.publish(site.storage.catalog, configuration, name)
                held_images.publish(site.storage.catalog, configuration, name, (site.image,))
            site.take_role(COMPUTE, "CONTAINER")
            print(f"{number:>9} compute resources: {_by_role(site)}", flush=True)


def _by_role(site: TrialSite) -> str:
    catalog = Counting(site.alice)
    document = {**site.request("true"), "role": "CONTAINER"}
    del document["resource"]
    return measured("a submission by role", catalog, lambda: site.submit(document, catalog=catalog))  # type: ignore[arg-type]


def waiting(people: int = 100, seconds: float = 40.0) -> None:
    with a_site() as site:
        submitted = site.submit(site.request("true"))
        asked: list[float] = []
        leave = threading.Event()
        began = time.perf_counter()
        used = time.process_time()

        def wait() -> None:
            catalog = site.zone.session(User("alice", "tempZone"))
            record = TaskRecord(catalog, site.configuration.attributes, submitted.collection, COMPUTE)

            def state() -> State | None:
                asked.append(time.perf_counter() - began)
                return record.state()

            watched: Any = SimpleNamespace(state=state, task_id="t", collection=submitted.collection)
            worker = SimpleNamespace(on_demand=False)
            at: Any = SimpleNamespace(
                tell=lambda _: None, abandoned=leave.is_set, configuration=SimpleNamespace(worker=worker)
            )
            dispatch.follow(at, watched)

        real, dispatch.call_worker = dispatch.call_worker, lambda *_: True  # type: ignore[assignment]
        everybody = [threading.Thread(target=wait) for _ in range(people)]
        for one in everybody:
            one.start()
        time.sleep(seconds)
        leave.set()
        for one in everybody:
            one.join()
        dispatch.call_worker = real
        first = sum(one < 10 for one in asked)
        later = Counter(int(one) for one in asked if 10 <= one < seconds)
        rate = sum(later.values()) / (seconds - 10)
        print(
            f"{people} people wait: {first / 10:.0f} questions a second in the first ten seconds, then {rate:.0f} "
            f"(most in one second: {max(later.values())}); {time.process_time() - used:.1f} s of the processor"
        )


def main() -> None:
    logging.disable()  # the worker warns of queued records without a request
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", choices=["tasks", "queued", "resources", "waiting", []])
    parser.add_argument("--most", type=int, default=1_000_000)
    options = parser.parse_args()
    for name, run in (
        ("queued", queued),
        ("resources", resources),
        ("waiting", waiting),
        ("tasks", lambda: tasks(options.most)),
    ):
        if not options.what or name in options.what:
            run()


if __name__ == "__main__":
    main()
