"""When the worker looks at a job's outputs again."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from compute_to_data.disk_usage import Usage
from compute_to_data.pipeline import watch_job
from compute_to_data.pipeline.watch_job import Watch

LIMIT = 1000


@dataclass
class Looks:
    """A job whose outputs have ``size`` bytes. A look takes ``wall`` seconds, and ``used`` seconds of a processor."""

    now: float = 100.0
    size: int = 0
    wall: float = 0.0
    used: float = 0.0

    def __post_init__(self) -> None:
        limits = SimpleNamespace(output_bytes=LIMIT, output_files=10, walltime_seconds=60.0)
        job: Any = SimpleNamespace(limits=limits, outputs="/outputs")
        engine: Any = self
        running: Any = None
        self.watch = Watch(engine, running, job, "/z/t", 1.0, cancelled_by=str, followed=bool)

    def measure(self, *_: Any) -> Usage:
        self.now += self.wall
        return Usage(self.size, 1, processor_seconds=self.used)

    def pause_after(self, size: int) -> float:
        """Look at outputs of this size when it is time. Seconds until the next look."""
        self.size, self.now = size, self.watch._next_look
        assert self.watch._check_outputs(1) is None
        return self.watch._next_look - self.now


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    looks = Looks()
    monkeypatch.setattr(watch_job, "time", SimpleNamespace(monotonic=lambda: looks.now))
    looks.watch.set_running(0.0)
    return looks


def test_a_job_that_could_reach_its_limit_before_the_next_look_is_looked_at_sooner(looks: Looks) -> None:
    assert looks.pause_after(100) == pytest.approx(0.25)
    assert looks.pause_after(500) == pytest.approx(0.25 * 500 / 400 / 2)
    assert looks.pause_after(990) == pytest.approx(0.05)
    assert looks.pause_after(990) == pytest.approx(0.25), "it writes no more"


def test_a_look_that_waited_for_a_busy_processor_does_not_put_off_the_next(looks: Looks) -> None:
    """Else a job that keeps the machine busy could write for seconds without a look."""
    looks.wall, looks.used = 0.06, 0.001
    assert looks.pause_after(100) == pytest.approx(0.25)


def test_looks_take_a_bounded_share_of_a_processor_and_of_a_thread(looks: Looks) -> None:
    looks.wall, looks.used = 0.2, 0.1
    assert looks.pause_after(990) == pytest.approx(2.0)
    looks.wall, looks.used = 1.0, 0.0
    assert looks.pause_after(990) == pytest.approx(1.0)
    looks.wall = looks.used = 3.0
    assert looks.pause_after(990) == pytest.approx(5.0)
