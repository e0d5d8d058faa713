"""Tasks with the engine podman beside ``podman run`` of the same sandbox, in turns. It needs a host with systemd and
cgroup v2, and runs as the account whose Podman it is: tests/lab/test_podman.py runs it in the guest.

python tests/benchmarks/podman.py [one] [many]      C2D_BENCH_TASKS: how many tasks `many` runs (default: 200)
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.site import BASE_IMAGE, COMPUTE, HOME, TrialSite, wait_until  # noqa: E402

from compute_to_data.configuration import EngineSettings  # noqa: E402
from compute_to_data.engines import prepare_worker  # noqa: E402
from compute_to_data.engines.docker import seccomp  # noqa: E402
from compute_to_data.model import EntityKind, Query  # noqa: E402
from compute_to_data.records.state import State  # noqa: E402
from compute_to_data.submission import workloads  # noqa: E402

ROUNDS = int(os.environ.get("C2D_BENCH_ROUNDS", "10"))
MANY = int(os.environ.get("C2D_BENCH_TASKS", "200"))
SLOTS = 2
PATIENCE = 24 * 3600.0
LIMITS = {"memory_bytes": 128 << 20, "pids": 64, "cpus": 1, "walltime_seconds": 600}


def podman_run(folder: Path) -> list[str]:
    """The sandbox of a trivial task, as a person would write it. The outputs belong to the account."""
    profile, outputs = folder / "seccomp.json", folder / "outputs"
    profile.write_text(seccomp.text())
    outputs.mkdir()
    return [
        "podman", "run", "--rm", "--network=none", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all",
        "--security-opt=no-new-privileges", f"--security-opt=seccomp={profile}", "--init",
        f"--init-path={shutil.which('tini')}", "--userns=keep-id",
        "--memory=128m", "--memory-swap=128m", "--pids-limit=64", "--cpus=1", "--log-driver=none",
        "--tmpfs=/tmp:rw,noexec,nosuid,nodev,size=64m", f"--volume={outputs}:/outputs", BASE_IMAGE, "/bin/true",
    ]  # fmt: skip


def one(folder: Path) -> None:
    """Trivial tasks one by one. The first of each kind is not counted."""
    site, command = site_in(folder), podman_run(folder)
    ours, theirs = [], []
    with site.working():
        for number in range(ROUNDS + 1):
            run = timed(lambda: ran(command))
            task = timed(lambda: completed(site))
            print(f"  {'not counted: ' if not number else ''}podman run {run:.2f} s, task {task:.2f} s", flush=True)
            if number:
                theirs.append(run)
                ours.append(task)
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"a trivial task (median of {ROUNDS}): {statistics.median(ours):.2f} s; "
          f"podman run: {statistics.median(theirs):.2f} s; x {ratio:.2f} (<= 1.2)", flush=True)  # fmt: skip


def ran(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done


def completed(site: TrialSite) -> None:
    submitted = site.submit(site.request("/bin/true", limits=LIMITS))
    wait_until(lambda: (site.record(submitted).state() or State.QUEUED).is_final, "its end", PATIENCE)
    assert site.record(submitted).state() is State.COMPLETED, site.record(submitted).facts()


def many(folder: Path) -> None:
    """The tasks of a workload, which follow each other in warm sandboxes; as many at a time as ``podman run``."""
    site, command = site_in(folder), podman_run(folder)
    count = max(SLOTS, MANY // 10)  # the floor's rate does not change with their number
    with ThreadPoolExecutor(SLOTS) as pool:
        theirs = timed(lambda: list(pool.map(lambda _: ran(command), range(count)))) / count
    workload = workloads.start(
        site.alice, site.configuration, HOME, image=site.image, instances=SLOTS, limits=LIMITS
    ).collection
    for _ in range(MANY):
        workloads.create_task(site.alice, site.configuration, workload, ["/bin/true"])
    query = Query(EntityKind.COLLECTION, site.configuration.attributes.state, State.COMPLETED.value, COMPUTE)

    def work() -> None:
        with site.working():
            wait_until(lambda: len(site.alice.find(query)) == MANY, "all tasks to end", PATIENCE)

    ours = timed(work) / MANY
    print(f"{MANY} tasks of a workload: {1 / ours:.3f} a second; podman run ({count}), {SLOTS} at a time: "
          f"{1 / theirs:.3f} a second; {theirs / ours:.2f} times (>= 5)", flush=True)  # fmt: skip


def site_in(folder: Path) -> TrialSite:
    return TrialSite(folder, {"name": "podman", "timeout_seconds": 600}, BASE_IMAGE, worker={"slots": SLOTS})


def timed(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


FIGURES = {"one": one, "many": many}

if __name__ == "__main__":
    prepare_worker(EngineSettings("podman"))  # before there are other threads
    for name in sys.argv[1:] or FIGURES:
        with tempfile.TemporaryDirectory(dir=Path.home()) as made:
            FIGURES[name](Path(made))
