"""A worker that does not trust its zone's server asks it nothing for a minute: only an administrator can change it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support.faults import Troubled
from support.site import WAITS, TrialSite, serving, wait_until

from compute_to_data.errors import ZoneDistrusted
from compute_to_data.worker import service


class Distrusted:
    """Whether the zone is trusted, and what it was asked while it was not."""

    def __init__(self, site: TrialSite) -> None:
        self.trusted = threading.Event()
        self.trusted.set()
        self.asked: list[str] = []
        names = ("find", "query", "count_by_owner", "owners", "owner", "avus")
        self.storage: Any = Troubled(site.storage, **{name: self._trouble(name) for name in names})

    def _trouble(self, name: str) -> Any:
        def trouble(original: Any, *arguments: Any, **options: Any) -> Any:
            if self.trusted.is_set():
                return original(*arguments, **options)
            self.asked.append(f"{threading.current_thread().name}: {name}")
            raise ZoneDistrusted("zone:1247", "its certificate has expired", "Renew it")

        return trouble


class Pauses:
    """In place of the worker's wait for its end: notes how long the worker would wait, and waits for the test."""

    def __init__(self) -> None:
        self.seconds: list[float | None] = []
        self.over = threading.Event()

    def __call__(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return self.over.wait(60)


def test_it_asks_nothing_for_a_minute_and_then_goes_on(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not whether a user cancels the task that runs meanwhile."""
    distrusted, pauses = Distrusted(site), Pauses()
    submitted = site.submit(site.request("/bin/sh", "-c", WAITS))
    worker = site.worker(storage=distrusted.storage)
    requests = worker._requests
    looked = threading.Semaphore(0)
    has_tasks = requests._has_tasks

    def noted() -> bool:
        found = has_tasks()
        looked.release()
        return found

    monkeypatch.setattr(requests, "_has_tasks", noted)
    monkeypatch.setattr(worker._stopping, "wait", pauses)
    with serving(worker):
        site.outputs(submitted)
        distrusted.trusted.clear()
        worker._bell.ring()
        wait_until(lambda: pauses.seconds, "the worker to leave the zone alone")
        while looked.acquire(blocking=False):
            pass
        looked.acquire(timeout=60)  # it may have begun before
        before = len(distrusted.asked)
        for _ in range(5):
            worker._bell.ring()
            requests.call()
            looked.acquire(timeout=60)
        asked, waited = distrusted.asked[before:], [*pauses.seconds]
        distrusted.trusted.set()
        pauses.over.set()
        site.let_go(submitted)
        assert asked == []
        assert waited == [60.0]
        assert site.ended(submitted)["state"] == "COMPLETED"


def test_it_stops_when_it_is_told_to(site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_DISTRUST_SECONDS", 3600.0)
    distrusted = Distrusted(site)
    distrusted.trusted.clear()
    worker = site.worker(storage=distrusted.storage)
    with serving(worker):
        wait_until(lambda: not worker._trusts, "the worker to leave the zone alone")
    assert not worker._lock.is_ours
