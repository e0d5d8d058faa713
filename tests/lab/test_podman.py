"""The engine podman on a host with systemd and cgroup v2: the suites that Docker passes, run as the service account.

It takes the tests' image from the file that the guest's Docker loads. Each suite is a process of its own, which enters
a user namespace (``support/powers_over_jobs.py``). C2D_LAB_SELECTION: what these processes get for pytest's ``-k``.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .conftest import systemctl
from .podman_account import ACCOUNT, GUARD, command, containers, home, of_the_tests, run

CONTRACT = "tests/engines/test_contract.py"
SELECTION = os.environ.get("C2D_LAB_SELECTION", "")
SUITES = {
    "limits and isolation": ("tests/adversarial/test_sandbox.py",),
    "contract": (f"{CONTRACT}::TestDocker",),
    "warm sandboxes": (f"{CONTRACT}::TestWarmSandboxes",),
    "attacks on warm sandboxes": ("tests/adversarial/test_warm.py",),
    "deadlines": ("tests/adversarial/test_deadline.py",),
    "secrets and tasks": ("tests/adversarial/test_secrets.py", "tests/adversarial/test_tasks.py"),
    "limits without a worker": ("tests/adversarial/test_limits_without_worker.py",),
    "killed workers": ("tests/recovery/test_killed_workers.py",),
    "killed workers of workloads": ("tests/recovery/test_workloads.py", "-m", "docker"),
    "crash points": ("tests/recovery/test_crash_points.py", "-k", "goes"),
}


@pytest.fixture
def guarded(podman: None) -> None:
    """The guard of the account's workers runs, and the account has a folder for its tests."""
    run("install", "-d", f"--owner={ACCOUNT}", f"--group={ACCOUNT}", str(home() / "c2d-tests"))
    systemctl("restart", GUARD)


@pytest.mark.parametrize("suite", SUITES)
def test_podman_passes(guarded: None, suite: str) -> None:
    folder = f"--basetemp={home() / 'c2d-tests/files'}"
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "--durations=0", folder]
    chosen = [f"-k={SELECTION}"] if SELECTION else []
    done = subprocess.run(command(*words, *SUITES[suite], *chosen, **of_the_tests()), check=False)
    assert done.returncode == 0
    assert containers() == "", "containers are left"


def test_the_figures_can_be_taken(guarded: None) -> None:
    """Prints them, beside ``podman run``. C2D_BENCH_ROUNDS and C2D_BENCH_TASKS say of how many tasks."""
    counts = {name: os.environ.get(name, "2") for name in ("C2D_BENCH_ROUNDS", "C2D_BENCH_TASKS")}
    words = command(sys.executable, "tests/benchmarks/podman.py", **of_the_tests(), **counts)
    assert subprocess.run(words, check=False).returncode == 0
    assert containers() == "", "containers are left"
