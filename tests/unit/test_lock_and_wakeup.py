"""The lock names the worker that holds a resource and is freed when it dies; the bell wakes a worker at once."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Any

import pytest

from compute_to_data import site_file
from compute_to_data.configuration import Configuration
from compute_to_data.coordination.lock import AlreadyServed, ResourceLock, scope
from compute_to_data.coordination.wakeup import ARRIVAL, TASKS, Bell, call_worker


def configured(folder: Path, **worker: object) -> Configuration:
    document = {
        "zone": {"kind": "embedded", "directory": str(folder / "zone")},
        "images": [],
        "worker": {"state_directory": str(folder / "state"), **worker},
    }
    file = folder / "site.json"
    file.write_text(json.dumps(document))
    return site_file.load(str(file))


@pytest.fixture
def site(tmp_path: Path) -> Configuration:  # type: ignore[override]
    return configured(tmp_path)


HOLDER = """
import sys
from compute_to_data import site_file
from compute_to_data.coordination.lock import ResourceLock
ResourceLock(site_file.load(sys.argv[1]), "z", "r").acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_dies_with_it(site: Configuration) -> None:
    lock = ResourceLock(site, "z", "r")
    assert not lock.is_held()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, site.source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert lock.is_held()
        with pytest.raises(AlreadyServed, match=f"process {holder.pid} on "):
            lock.acquire()
        holder.kill()
        holder.wait()
    lock.acquire()
    lock.release()
    assert not lock.is_held()


def test_checking_the_lock_does_not_keep_a_worker_from_starting(
    site: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when a busy host stops the checking process for long in the middle of it."""
    lock = ResourceLock(site, "z", "r")
    lock.acquire()
    lock.release()
    asking = os.open(lock._path, os.O_RDWR)
    fcntl.flock(asking, fcntl.LOCK_SH)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 100:
            os.close(asking)

    monkeypatch.setattr(time, "sleep", pause)
    lock.acquire()
    assert len(pauses) == 100
    with pytest.raises(AlreadyServed, match=f"process {os.getpid()} on "):
        ResourceLock(site, "z", "r").acquire()
    assert len(pauses) == 100, "a worker that serves is known at once"
    lock.release()


def test_resources_and_zones_are_locked_one_by_one(site: Configuration) -> None:
    held = ResourceLock(site, "z", "r")
    held.acquire()
    for zone, resource in (("z", "other"), ("other", "r"), ("z-r", ""), ("z", "r/.."), ("z", "r_")):
        another = ResourceLock(site, zone, resource)
        another.acquire()
        another.release()
    held.release()


def test_a_ring_wakes_the_listener_at_once(site: Configuration) -> None:
    bell = Bell(site, "z", "r")
    bell.listen()
    assert not bell.wait(0)
    threading.Timer(0.05, Bell(site, "z", "r").ring).start()
    began = time.monotonic()
    assert bell.wait(30)
    assert time.monotonic() - began < 10
    bell.close()


def test_several_rings_count_as_one_and_need_no_listener(site: Configuration) -> None:
    ringer = Bell(site, "z", "r")
    ringer.ring()  # no worker has ever listened
    bell = Bell(site, "z", "r")
    bell.listen()
    for _ in range(100_000):
        ringer.ring()
    assert bell.wait(0)
    assert not bell.wait(0)
    bell.close()
    ringer.ring()  # no worker listens any more


def test_a_ring_says_for_what(site: Configuration) -> None:
    bell, ringer = Bell(site, "z", "r"), Bell(site, "z", "r")
    bell.listen()
    ringer.ring(ARRIVAL)
    ringer.ring(ARRIVAL)
    assert bell.wait(0) == {ARRIVAL}
    ringer.ring()
    assert bell.wait(0) == {TASKS}
    ringer.ring(ARRIVAL)
    call_worker(site, "z", "r")
    assert bell.wait(0) == {ARRIVAL, TASKS}
    call_worker(site, "z", "r", ARRIVAL)
    assert bell.wait(0) == {ARRIVAL}
    bell.close()


def test_a_worker_with_many_open_files_hears_the_bell(site: Configuration) -> None:
    """More than select(2) can take: FD_SETSIZE is 1024."""
    before = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (max(before[0], 4096), before[1]))
    bell = Bell(site, "z", "r")
    with contextlib.ExitStack() as stack:
        stack.callback(setrlimit, RLIMIT_NOFILE, before)
        while stack.enter_context(open(os.devnull)).fileno() < 1100:
            pass
        bell.listen()
        stack.callback(bell.close)
        assert not bell.wait(0)
        Bell(site, "z", "r").ring()
        assert bell.wait(30)


def test_no_worker_starts_unless_the_configuration_allows_it(
    site: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a worker was started"))
    call_worker(site, "z", "r")


def test_installations_do_not_share_a_scope(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, other = configured(tmp_path / "a"), configured(tmp_path / "b")
    assert scope(one, "z", "r") == scope(one, "z", "r")
    assert len({scope(one, "z", "r"), scope(other, "z", "r"), scope(one, "z", "s"), scope(one, "y", "r")}) == 4


def test_the_configured_command_starts_the_worker(tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = ["/bin/sh", "-c", f'echo "$@" > {told}.new && mv {told}.new {told}', "sh"]
    site = configured(tmp_path, on_demand=True, command=command)
    call_worker(site, "z", "r")
    deadline = time.monotonic() + 30
    while not told.exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert told.read_text().split() == ["--configuration", site.source, "--resource", "r", "--on-demand"]


def test_ringing_while_the_listener_leaves_is_no_error(site: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    bell, opened = Bell(site, "z", "r"), os.open
    bell.listen()

    def leaving(*arguments: Any, **more: Any) -> int:
        descriptor = opened(*arguments, **more)
        bell.close()
        return descriptor

    monkeypatch.setattr(os, "open", leaving)
    Bell(site, "z", "r").ring()
