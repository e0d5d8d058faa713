"""Choosing the next task among many: 100,000 queued of 1,000 users, beside 5,000 of one user."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.crowds import queue_for
from support.site import TrialSite

from compute_to_data.worker.service import Worker

_CHOICES = 200


def measure(folder: Path, users: int, tasks: int) -> tuple[float, float, float]:
    """Milliseconds of a look at all users, of the first choice and of the choices after it (medians)."""
    site = TrialSite(folder, {"name": "process", "images": {"none": str(folder)}}, "none")
    queue_for(site, users, tasks)
    worker = site.worker()
    looks = [_took(lambda: worker._line.look(now=True)) for _ in range(10)]
    first = _took(lambda: worker._waiting(1))
    return statistics.median(looks), first, statistics.median(choices(worker))


def choices(worker: Worker) -> list[float]:
    """Milliseconds of each of many choices. Each chosen task begins, so that each choice is another user's."""
    took, here = [], []
    for _ in range(_CHOICES):
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
            look, first, choice = measure(Path(folder), users, tasks)
        print(
            f"{tasks:>7,} queued of {users:>5,} users: a look at all users {look:.2f} ms, "
            f"first choice {first:.2f} ms, a choice {choice:.3f} ms (at most 20; at most twice that of one user)"
        )


if __name__ == "__main__":
    main()
