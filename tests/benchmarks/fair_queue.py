"""Choosing the next task among many: 100,000 queued of 1,000 users, beside 5,000 of one user.

A choice asks the catalog for a page of its user's next tasks, unless it has a fresh one. One user's next choices then
need no question; with many users, each choice is another user's. So both kinds are measured, and compared with their
like: choices that ask, and choices from a page.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.crowds import queue_for
from support.site import TrialSite

from compute_to_data.worker import line
from compute_to_data.worker.service import Worker

_CHOICES = 200


def measure(folder: Path, users: int, tasks: int) -> tuple[float, float, float]:
    """Milliseconds of a look at all users, of choices that ask, and of choices from pages (medians)."""
    site = TrialSite(folder, {"name": "process", "images": {"none": str(folder)}}, "none")
    queue_for(site, users, tasks)
    worker = site.worker()
    looks = [_took(lambda: worker._line.look(now=True)) for _ in range(10)]
    worker._next_tasks.choose(1)
    asking = statistics.median(choices(worker, asking=True))
    fetch_pages(worker)
    return statistics.median(looks), asking, statistics.median(choices(worker, asking=False))


def fetch_pages(worker: Worker) -> None:
    """Let the line have a page of each user's tasks, which it believes from now on."""
    line._PAGE_SECONDS = 3600.0
    worker._line.choose(len(worker._line._order), (), ())
    worker._line._chosen = []


def choices(worker: Worker, *, asking: bool) -> list[float]:
    """Milliseconds of each of many choices. Each chosen task begins, so that each choice is another user's.
    ``asking``: with old pages."""
    took, here = [], []
    for _ in range(_CHOICES):
        for level in [one for levels in worker._line._order.values() for one in levels.values() if asking]:
            level.asked = 0.0
        began = time.perf_counter()
        (chosen,) = worker._line.choose(1, here, ())
        took.append((time.perf_counter() - began) * 1000)
        worker._line.began(())
        here = [*here[-3:], chosen]
    return took


def _took(action: object) -> float:
    began = time.perf_counter()
    action()  # type: ignore[operator]
    return (time.perf_counter() - began) * 1000


def main() -> None:
    for users, tasks in ((1, 5_000), (1_000, 100_000)):
        with tempfile.TemporaryDirectory(prefix="c2d-bench-") as folder:
            look, asking, choice = measure(Path(folder), users, tasks)
        print(
            f"{tasks:>7,} queued of {users:>5,} users: a look at all users {look:.2f} ms, a choice that asks "
            f"{asking:.3f} ms, one from a page {choice:.3f} ms (each at most 20; at most twice that of one user)"
        )


if __name__ == "__main__":
    main()
