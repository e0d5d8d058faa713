"""Figures of logs: `c2d run` beside `docker run`, a line's way to the terminal, what followers ask of the catalog.

python tests/benchmarks/logs.py [run] [line] [followers]

``run`` and ``line`` use Docker, and the installed command in a zone of its own. ``followers`` counts the calls of 20
followers of 20 running tasks, for a minute.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support.counting import Counting  # noqa: E402
from support.people import settings_of  # noqa: E402
from support.real_docker import IMAGE  # noqa: E402
from support.site import TrialSite  # noqa: E402

C2D = [sys.executable, "-m", "compute_to_data.cli.main"]
PROGRAM = ["seq", "5000000"]
FOLLOWERS, SECONDS = 20, 60.0


def zone(folder: Path) -> dict[str, str]:
    """A new zone on Docker, with a worker on demand; the environment for its commands."""
    files = {"C2D_CONFIG_FILE": str(folder / "config.json"), "C2D_SESSION_FILE": str(folder / "session.json")}
    environment = {**os.environ, **files}
    subprocess.run([*C2D, "zone", "create", str(folder / "zone")], env=environment, check=True, capture_output=True)
    subprocess.run([*C2D, "run", IMAGE, "--", "true"], env=environment, check=True, capture_output=True)
    return environment


def timed(command: list[str], file: Path, **more: Any) -> tuple[float, str]:
    """Wall seconds of a command whose output goes to a file, and the checksum of that."""
    with file.open("wb") as out:
        began = time.perf_counter()
        subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL, check=True, **more)
    return time.perf_counter() - began, hashlib.sha256(file.read_bytes()).hexdigest()


def bench_run(folder: Path, environment: dict[str, str]) -> None:
    """Floor and product in turn."""
    floor, product, same = [], [], True
    for _ in range(3):
        plain = timed(["docker", "run", "--rm", IMAGE, *PROGRAM], folder / "plain")
        ours = timed([*C2D, "run", IMAGE, "--", *PROGRAM], folder / "ours", env=environment)
        floor.append(plain[0])
        product.append(ours[0])
        same = same and plain[1] == ours[1]
    one, other = statistics.median(floor), statistics.median(product)
    print(f"{' '.join(PROGRAM)} > f: docker run {one:.2f} s, c2d run {other:.2f} s ({other / one:.2f} times; "
          f"at most 2), bytes {'identical' if same else 'DIFFERENT'}")  # fmt: skip


def bench_line(environment: dict[str, str]) -> None:
    """From the program's write to the follower's pipe."""
    script = "for i in $(seq 50); do date +%s.%N; sleep 0.2; done"
    delays = []
    with subprocess.Popen(
        [*C2D, "run", IMAGE, "--", "sh", "-c", script],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as run:  # fmt: skip
        assert run.stdout is not None
        for line in run.stdout:
            delays.append(time.time() - float(line))
    later = sorted(delays[10:])
    most = later[int(len(later) * 0.95)]
    print(f"a line to the terminal: median {statistics.median(later):.3f} s, 95 % {most:.3f} s (at most 0.5); the "
          f"first line {delays[0]:.2f} s after it was written")  # fmt: skip


def bench_followers(folder: Path) -> None:
    """Tasks that print a line each second. Programs on this host, so that Docker's load does not matter."""
    import json

    import compute_to_data as c2d
    from compute_to_data.client import logs
    from compute_to_data.client.tasks import TaskHandle

    (folder / "tools").mkdir(parents=True)
    engine = {"name": "process", "images": {"tools": str(folder / "tools")}}
    site = TrialSite(folder, engine, "tools", worker={"slots": FOLLOWERS})
    (folder / "alice.json").write_text(json.dumps(settings_of(site, "alice")))
    calls: Counter[str] = Counter()
    lines: list[bytes] = []
    threads: list[threading.Thread] = []
    script = f"for i in $(seq {int(SECONDS) + 30}); do echo $i; sleep 1; done"
    with site.working(), closing(c2d.connect(str(folder / "alice.json"))) as session:
        tasks = [session.submit(site.request("/bin/sh", "-c", script)) for _ in range(FOLLOWERS)]
        hears: Callable[[str, bytes], None] = lambda _, said: lines.append(said)  # noqa: E731
        for task in tasks:
            one = TaskHandle(session, task.collection, Counting(session.catalog, calls))  # type: ignore[arg-type]
            threads.append(threading.Thread(target=logs.follow, args=(one, hears)))
            threads[-1].start()
        while len(lines) < 5 * FOLLOWERS:
            time.sleep(0.1)
        calls.clear()
        lines.clear()
        time.sleep(SECONDS)
        asked, heard = dict(calls), len(lines)
        for task in tasks:
            task.cancel()
        for thread in threads:
            thread.join()
    print(f"{FOLLOWERS} followers for {SECONDS:.0f} s: {sum(asked.values()) / SECONDS:.2f} questions a second in all "
          f"(at most 2) {asked}; {heard} pieces of output")  # fmt: skip


def main() -> None:
    """The figures that are asked for, or all."""
    chosen = sys.argv[1:] or ["run", "line", "followers"]
    with tempfile.TemporaryDirectory(prefix="c2d-logs-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        folder.chmod(0o755)
        if {"run", "line"} & {*chosen}:
            environment = zone(folder)
            if "run" in chosen:
                bench_run(folder, environment)
            if "line" in chosen:
                bench_line(environment)
        if "followers" in chosen:
            bench_followers(folder / "followers")


if __name__ == "__main__":
    main()
