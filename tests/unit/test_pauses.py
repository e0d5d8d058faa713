"""How often a user who waits asks the catalog. The clock is the test's own: nobody sleeps."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from compute_to_data.agent import dispatch
from compute_to_data.client import several, tasks
from compute_to_data.coordination.pauses import WaitingPauses
from compute_to_data.records.state import State

MINUTE = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def questions(
    first: float, longest: float, seconds: float, change: Callable[[float], bool] = lambda _: False
) -> list[float]:
    """When a user asks who waits so long, in seconds from the beginning."""
    clock = Clock()
    pauses = WaitingPauses(first, longest, clock.sleep, clock)
    asked = []
    while clock.now - 1000 < seconds:
        asked.append(clock.now - 1000)
        if change(asked[-1]):
            pauses.restart()
        pauses.pause()
    return asked


WAITERS = {
    "irule": (dispatch._FIRST_PAUSE, dispatch._LONGEST_PAUSE),
    "c2d wait": (tasks._FIRST_PAUSE, tasks._LONGEST_PAUSE),
    "c2d wait of many": (several._FIRST_PAUSE, several._LONGEST_PAUSE),
}


@pytest.mark.parametrize("who", WAITERS)
@pytest.mark.parametrize("changes", [False, True], ids=["nothing changes", "each question finds a change"])
def test_at_most_one_question_a_second_after_ten_seconds(who: str, changes: bool) -> None:
    asked = questions(*WAITERS[who], 2 * MINUTE, lambda _: changes)
    later = [one for one in asked if one >= 10]
    assert min(b - a for a, b in zip(later, later[1:])) >= 1


def test_a_hundred_users_who_wait_by_irule_ask_thirty_questions_a_second() -> None:
    asked = questions(*WAITERS["irule"], 10 + MINUTE)
    assert 100 * len([one for one in asked if one >= 10]) / MINUTE <= 30


@pytest.mark.parametrize("who", WAITERS)
def test_waiting_takes_little_longer_than_the_task(who: str) -> None:
    first, longest = WAITERS[who]
    asked = questions(first, longest, 5 * MINUTE)
    for a, b in zip(asked, asked[1:]):
        assert b - a <= max(first, a / 6, 1.0 if a >= 10 else 0) + 1e-9
        assert b - a <= longest + 1e-9


def test_a_timeout_is_kept() -> None:
    clock = Clock()
    pauses = WaitingPauses(0.1, 5.0, clock.sleep, clock)
    clock.now += MINUTE
    pauses.pause(0.25)
    assert clock.now == 1000 + MINUTE + 0.25
    pauses.pause(-1)
    assert clock.now == 1000 + MINUTE + 0.25


def test_the_rule_asks_for_the_state_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that runs by itself is called once, which asks for its host."""
    clock, states, calls = Clock(), [], []

    def waiting(first: float, longest: float, sleep: Any) -> WaitingPauses:
        return WaitingPauses(first, longest, clock.sleep, clock)

    def state() -> State:
        states.append(clock.now - 1000)
        return State.RUNNING if clock.now < 1000 + MINUTE else State.COMPLETED

    monkeypatch.setattr(dispatch, "WaitingPauses", waiting)
    monkeypatch.setattr(dispatch, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    monkeypatch.setattr(dispatch, "call_worker", lambda *_: calls.append(1) or True)
    worker = SimpleNamespace(on_demand=False)
    site = SimpleNamespace(tell=lambda _: None, abandoned=lambda: False, configuration=SimpleNamespace(worker=worker))
    record = SimpleNamespace(state=state, task_id="t", collection="c")
    assert dispatch.follow(site, record) is State.COMPLETED  # type: ignore[arg-type]
    assert len(calls) == 1
    later = [one for one in states if one >= 10]
    assert len(later) <= 15 and min(b - a for a, b in zip(later, later[1:])) >= 1


def test_a_client_that_disconnects_is_noticed_during_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(dispatch, "time", SimpleNamespace(monotonic=clock, sleep=clock.sleep))
    dispatch._sleep(SimpleNamespace(abandoned=lambda: clock.now > 1001), 5.0)  # type: ignore[arg-type]
    assert clock.now < 1001.5
