"""Users whose tasks end before their jobs begin wait between them."""

from __future__ import annotations

import pytest

from compute_to_data.model import User
from compute_to_data.worker import pace
from compute_to_data.worker.pace import Pace

ALICE, BOB = User("alice", "z"), User("bob", "z")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_who_has_a_refused_task_waits_three_times_as_long_as_it_took(clock: list[float]) -> None:
    made = Pace()
    made.spent("/a", ALICE, 0.1)
    made.spent("/a", ALICE, 0.1)
    assert made.may_begin(ALICE), "it has not ended"
    made.over("/a", ended=True, had_job=False)
    assert not made.may_begin(ALICE)
    assert made.may_begin(BOB)
    assert made.due_in() == pytest.approx(0.6)
    clock[0] += 0.61
    assert made.may_begin(ALICE)
    assert made.due_in() is None


def test_tasks_that_end_at_the_same_time_add_up_to_two_seconds_at_most(clock: list[float]) -> None:
    made = Pace()
    for name, seconds in (("/a", 0.1), ("/b", 0.2), ("/c", 9.0)):
        made.spent(name, ALICE, seconds)
    made.over("/a", ended=True, had_job=False)
    made.over("/b", ended=True, had_job=False)
    assert made.due_in() == pytest.approx(0.9)
    made.over("/c", ended=True, had_job=False)
    assert made.due_in() == pytest.approx(2.0)


@pytest.mark.parametrize(("ended", "had_job"), [(True, True), (False, False), (False, True)])
def test_a_task_with_a_job_or_one_that_is_tried_again_costs_no_wait(
    clock: list[float], ended: bool, had_job: bool
) -> None:
    made = Pace()
    made.spent("/a", ALICE, 1.0)
    made.over("/a", ended=ended, had_job=had_job)
    assert made.may_begin(ALICE)
    assert not made._spent, "it is forgotten"
    made.over("/a", ended=True, had_job=False)
    assert made.may_begin(ALICE)
