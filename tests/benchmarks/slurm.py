"""Tasks on a Slurm cluster of two nodes beside Slurm's own: what a task costs, and what a worker asks of slurmctld.

python tests/benchmarks/slurm.py        all (as root: tests/support/slurm-cluster.sh starts the cluster)
python tests/benchmarks/slurm.py one    trivial tasks one by one, beside sbatch --wait of the same container
python tests/benchmarks/slurm.py many   300 trivial tasks in slices (C2D_BENCH_TASKS, C2D_BENCH_SLICES), with the nodes'
                                        resident service and without it, in turns with a job array of their container
python tests/benchmarks/slurm.py wait   500 jobs that wait in Slurm: questions, memory and threads of the worker
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import re
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.real_slurm import drained, need_slurm, node_service, slurm  # noqa: E402
from support.site import BASE_IMAGE, COMPUTE, TrialSite, wait_until  # noqa: E402

from compute_to_data.engines import open_engine  # noqa: E402
from compute_to_data.engines.slurm.engine import SlurmEngine  # noqa: E402
from compute_to_data.engines.slurm.notes import Directory  # noqa: E402
from compute_to_data.model import EntityKind, Query  # noqa: E402

ROUNDS = 10
MANY = int(os.environ.get("C2D_BENCH_TASKS", "300"))
SLICES = int(os.environ.get("C2D_BENCH_SLICES", "3"))
WAITING = 500
NO_SERVICE = "/nonexistent"
WATCHED_SECONDS = 20.0
PATIENCE = 900.0
CONTAINER = (
    "docker run --rm --network=none --read-only --cap-drop=ALL --security-opt=no-new-privileges --init "
    f"--user=65534:65534 --memory=128m --pids-limit=64 --cpus=1 {BASE_IMAGE} /bin/true"
)
"""The container of a trivial task, as a person would write it."""
OPTIONS = ("--output=/dev/null", "--mem=256M", "--cpus-per-task=1", "--partition=main")
LIMITS = {"memory_bytes": 128 << 20, "walltime_seconds": 60}


def site_in(folder: Path, submitted: int, service: str = NO_SERVICE) -> TrialSite:
    """A site with the engine slurm, whose nodes have listed their images."""
    settings = {"name": "slurm", "directory": str(folder / "shared"), "partition": "main", "service": service}
    site = TrialSite(folder, settings, BASE_IMAGE, worker={"slots": 4, "submitted": submitted})
    site.engine = open_engine(site.configuration.engine, site.configuration.worker.state_directory, submitted)
    site.engine.identify(BASE_IMAGE)
    return site


@contextlib.contextmanager
def served_site(folder: Path, submitted: int) -> Iterator[TrialSite]:
    """As :func:`site_in`, with the resident service of both nodes."""
    shared = folder / "shared"
    Directory(str(shared)).make()
    with node_service(str(shared)) as service:
        yield site_in(folder, submitted, service.socket)


def one_by_one(folder: Path) -> None:
    """Trivial tasks beside ``sbatch --wait``, in turns."""
    slurms: list[float] = []
    with served_site(folder / "served", 200) as served:
        sites = {"with the service": served, "without it": site_in(folder / "plain", 200)}
        ours: dict[str, list[float]] = {name: [] for name in sites}
        for name, site in sites.items():
            with site.working():
                for _ in range(ROUNDS):
                    slurms.append(_timed(lambda: slurm("sbatch", "--wait", *OPTIONS, f"--wrap={CONTAINER}")))
                    ours[name].append(_timed(functools.partial(_one, site)))
    for name, seconds in ours.items():
        ratio = statistics.median(seconds) / statistics.median(slurms)
        print(f"a trivial task, {name}: {_spread(seconds)}; sbatch --wait of its container: {_spread(slurms)}; "
              f"x {ratio:.2f}")  # fmt: skip


def _one(site: TrialSite) -> None:
    site.ended(site.submit(site.request("/bin/true", limits=LIMITS)))


def many(folder: Path) -> None:
    """Many trivial tasks at once, beside a job array."""
    each = MANY // SLICES
    seconds: dict[str, list[float]] = {"a job array": [], "with the service": [], "without it": []}
    for number in range(SLICES):
        seconds["a job array"].append(_of_an_array(each))
        with served_site(folder / f"served-{number}", each) as site:
            seconds["with the service"].append(_of_ours(site, each))
        seconds["without it"].append(_of_ours(site_in(folder / f"plain-{number}", each), each))
    rates = {name: [each / one for one in taken] for name, taken in seconds.items()}
    floor = statistics.median(rates["a job array"])
    for name, found in rates.items():
        print(f"{each} trivial tasks on two nodes, {name}: {statistics.median(found):.2f}/s "
              f"({min(found):.2f} to {max(found):.2f}); x {statistics.median(found) / floor:.2f}")  # fmt: skip


def _of_ours(site: TrialSite, count: int) -> float:
    for _ in range(count):
        site.submit(site.request("/bin/true", limits=LIMITS))
    with counted_questions(site) as questions:
        taken = _timed(lambda: _work(site, "COMPLETED", count))
    print(f"  {count} in {taken:.1f} s, {questions()} questions to squeue", flush=True)
    return taken


def _of_an_array(count: int) -> float:
    """The seconds until the last one of a job array has ended, by Slurm's own clock. ``sbatch --wait`` looks less and
    less often, at last once in 10 seconds."""
    began = time.time()
    identity = slurm("sbatch", "--parsable", f"--array=1-{count}", *OPTIONS, f"--wrap={CONTAINER}").strip()
    while slurm("squeue", "--noheader", f"--jobs={identity}").strip():
        time.sleep(0.5)
    ends = re.findall(r"EndTime=(\S+)", slurm("scontrol", "show", "job", identity))
    last = max(datetime.datetime.fromisoformat(end).timestamp() for end in ends)  # whole seconds, cut off
    print(f"  {count} of an array in {last + 0.5 - began:.1f} s", flush=True)
    return last + 0.5 - began


def waiting(folder: Path) -> None:
    """Many jobs wait in Slurm: what the worker needs."""
    site = site_in(folder, WAITING)
    for _ in range(WAITING):
        site.submit(site.request("/bin/true", limits=LIMITS))
    before = threading.active_count()
    with drained("n1", "n2"), site.working():
        wait_until(lambda: len(site.engine.jobs(site.worker()._served.scope)) == WAITING, "all jobs", PATIENCE)
        with counted_questions(site) as questions:
            used, threads, until = _processor_seconds(), 0, time.monotonic() + WATCHED_SECONDS
            while time.monotonic() < until:
                threads = max(threads, threading.active_count() - before + 1)
                time.sleep(0.1)
            used = _processor_seconds() - used
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{WAITING} jobs in Slurm: peak memory {memory:.0f} MB (under 150), threads {threads} (under 64), "
              f"{questions()} questions in {WATCHED_SECONDS:.0f} s, "
              f"{100 * used / WATCHED_SECONDS:.1f} % of a processor")  # fmt: skip
        slurm("scancel", "--state=PENDING", "--user=root")
        wait_until(lambda: site.engine.jobs(site.worker()._served.scope) == (), "all tasks to end", PATIENCE)


@contextlib.contextmanager
def counted_questions(site: TrialSite) -> Iterator[Callable[[], int]]:
    """Counts the questions about jobs."""
    engine = site.engine
    assert isinstance(engine, SlurmEngine)
    before = engine._queue.questions
    after = [0]
    yield lambda: after[0] - before
    after[0] = engine._queue.questions


def _work(site: TrialSite, state: str, count: int) -> None:
    query = Query(EntityKind.COLLECTION, site.configuration.attributes.state, state, COMPUTE)

    def reached() -> bool:
        time.sleep(0.2)
        return len(site.storage.find(query)) == count

    with site.working():
        wait_until(reached, f"{count} tasks to be {state}", PATIENCE)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    need_slurm()
    chosen = {"one": one_by_one, "many": many, "wait": waiting}
    for name in sys.argv[1:] or chosen:
        with tempfile.TemporaryDirectory(prefix="c2d-bench-") as place:
            chosen[name](Path(place))
