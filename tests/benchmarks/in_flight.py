"""What a worker costs while 500 of its jobs run in an engine that has a queue of its own.

python tests/benchmarks/in_flight.py        500 jobs
python tests/benchmarks/in_flight.py 2000
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.queueing import QueueingEngine  # noqa: E402
from support.site import COMPUTE, TrialSite, wait_until  # noqa: E402

from compute_to_data.job import JobState  # noqa: E402
from compute_to_data.model import EntityKind, Query  # noqa: E402

WATCHED_SECONDS = 15.0
PATIENCE = 600.0


def in_flight(folder: Path, count: int) -> None:
    """Submit, let all of them run, watch for a while, end them; what the process needs in between."""
    (folder / "tools").mkdir()
    site = TrialSite(folder, {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools")
    engine = QueueingEngine(count)
    submitted = [site.submit(site.request("/bin/true")) for _ in range(count)]
    before = threading.active_count()
    with site.working(engine=engine):
        began = _timed(lambda: _held(engine, JobState.PENDING, count))
        for key in engine.keys(JobState.PENDING):
            engine.begin(key)
        recorded = _timed(lambda: _in_state(site, "RUNNING", count))
        used = _processor_seconds()
        threads = 0
        until = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < until:
            threads = max(threads, threading.active_count() - before + 1)
            time.sleep(0.1)
        used = _processor_seconds() - used
        for key in engine.keys(JobState.RUNNING):
            engine.end(key)
        ended = _timed(lambda: _in_state(site, "COMPLETED", count))
        assert {site.record(one).facts()["state"] for one in submitted} == {"COMPLETED"}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{count} running jobs: peak memory {memory:.0f} MB (under 150), threads {threads} (under 64)")
    print(f"  watching them takes {100 * used / WATCHED_SECONDS:.1f} % of a processor")
    print(f"  submitted in {began:.1f} s, all RUNNING after {recorded:.1f} s, all COMPLETED after {ended:.1f} s")


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _held(engine: QueueingEngine, state: JobState, count: int) -> None:
    wait_until(lambda: len(engine.keys(state)) == count, f"{count} jobs to be {state.value}", PATIENCE)


def _in_state(site: TrialSite, state: str, count: int) -> None:
    query = Query(EntityKind.COLLECTION, site.configuration.attributes.state, state, COMPUTE)

    def reached() -> bool:
        time.sleep(0.1)  # asked rarely, so that asking takes nothing from what is measured
        return len(site.storage.find(query)) == count

    wait_until(reached, f"{count} tasks to be {state}", PATIENCE)


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="c2d-bench-") as place:
        in_flight(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 500)
