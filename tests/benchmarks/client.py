"""The client's figures: floor and product side by side in one run.

python tests/benchmarks/client.py [help] [list] [log]
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.people import settings_of  # noqa: E402
from support.site import COMPUTE, HOME, TrialSite  # noqa: E402

from compute_to_data.model import Avu, Entity, EntityKind  # noqa: E402

C2D = [sys.executable, "-m", "compute_to_data.cli.main"]
TASKS = 10_000


def timed(command: list[str], times: int = 15) -> list[float]:
    """Wall seconds of each run."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - began)
    return taken


def bench_help() -> None:
    """Floor and product in turn."""
    floor, product = [], []
    for _ in range(15):
        floor += timed([sys.executable, "-c", "pass"], 1)
        product += timed([*C2D, "--help"], 1)
    more = statistics.median(product) - statistics.median(floor)
    print(f"c2d --help: python -c pass {statistics.median(floor):.3f} s, c2d {statistics.median(product):.3f} s, "
          f"{more * 1000:.0f} ms more (at most 150)")  # fmt: skip


def bench_list(folder: Path) -> None:
    """All 10,000 tasks of one user, and a page of them, each in a process of its own."""
    tools = folder / "tools"
    tools.mkdir()
    site = TrialSite(folder, {"name": "process", "images": {"tools": str(tools)}}, "tools")
    for number in range(TASKS):
        collection = f"{HOME}/out/task-{number:05d}"
        site.alice.create_collection(collection)
        facts = {"task_id": f"task-{number:05d}", "role": "CONTAINER", "name": f"n{number}", "reason": "x" * 200}
        prefix = "irods::compute_to_data::"
        avus = [Avu(prefix + name, value) for name, value in facts.items()]
        state = ("COMPLETED", "FAILED", "QUEUED")[number % 3]
        site.alice.annotate(
            Entity(EntityKind.COLLECTION, collection), add=[*avus, Avu(f"{prefix}state", state, COMPUTE)]
        )
    (folder / "config.json").write_text(json.dumps(settings_of(site, "alice")))
    os.environ["C2D_CONFIG_FILE"] = str(folder / "config.json")
    for title, options in (
        ("a page", []),
        ("all", ["--limit", "0"]),
        ("one role and two states, last page", ["--role", "CONTAINER", "--state", "FAILED", "--state", "QUEUED",
                                                "--offset", "6600"]),
        ("by a task's beginning", None),
    ):  # fmt: skip
        command = [*C2D, "list", *options] if options is not None else [*C2D, "status", "task-0999"]
        if options is None:
            command = [*C2D, "status", "task-09999"]
        print(f"{TASKS} tasks, {title:<36} {statistics.median(timed(command, 5)):.2f} s (list: under 2)")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"most memory of any of them: {peak:.0f} MB (under 150)")


def bench_log(folder: Path) -> None:
    """From a line written in a container to that line on the follower's stdout."""
    site = TrialSite(folder, {"name": "docker"}, "compute-to-data/base:bookworm")
    (folder / "config.json").write_text(json.dumps(settings_of(site, "alice")))
    os.environ["C2D_CONFIG_FILE"] = str(folder / "config.json")
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do date +%s.%N; sleep 0.7; done"
    command = [*C2D, "run", "compute-to-data/base:bookworm", "--", "sh", "-c", script]
    late = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        for line in running.stdout or ():
            late.append(time.time() - float(line))
    print(f"a log line from container to terminal: median {statistics.median(late):.2f} s, "
          f"most {max(late):.2f} s of {len(late)} (under 1)")  # fmt: skip


def main(chosen: list[str]) -> None:
    """Run what is named, or all."""
    if not chosen or "help" in chosen:
        bench_help()
    for name, bench in (("list", bench_list), ("log", bench_log)):
        if not chosen or name in chosen:
            with tempfile.TemporaryDirectory() as folder:
                bench(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
