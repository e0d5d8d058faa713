"""The engine podman on a host with systemd and cgroup v2: the suites that Docker passes, run as the service account.

It takes the tests' image from the file that the guest's Docker loads. Each suite is a process of its own, because the
account's worker enters a user namespace of its own.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.real_docker import IMAGE

from .guest import SAVED

ACCOUNT = "irods"
CHECKOUT = Path(__file__).resolve().parents[2]
CONTRACT = "tests/engines/test_contract.py"
SUITES = {
    "limits and isolation": ("tests/adversarial/test_sandbox.py",),
    "contract and warm sandboxes": (CONTRACT, "-k", "TestDocker or TestWarmSandboxes"),
    "attacks on warm sandboxes, deadlines, secrets": (
        "tests/adversarial/test_warm.py",
        "tests/adversarial/test_deadline.py",
        "tests/adversarial/test_secrets.py",
        "tests/adversarial/test_tasks.py",
    ),
    "killed workers": (
        "tests/recovery/test_killed_workers.py",
        "tests/recovery/test_workloads.py",
        "tests/adversarial/test_limits_without_worker.py",
        "-m",
        "docker",
    ),
}
GUARD = """\
[Service]
User={account}
AmbientCapabilities=CAP_SETUID CAP_SETGID
RuntimeDirectory=c2d-tests
WorkingDirectory={checkout}
Environment=PYTHONPATH={checkout}
ExecStart={python} -m compute_to_data.engines.guard --configuration {configuration} --socket /run/c2d-tests/guard
"""


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def _as_account(*command: str, **environment: str) -> tuple[str, ...]:
    """A command of the account's, as a unit: beside the account's own systemd, as a worker is."""
    home = pwd.getpwnam(ACCOUNT)
    given = {"HOME": home.pw_dir, "XDG_RUNTIME_DIR": f"/run/user/{home.pw_uid}", **environment}
    options = [f"--setenv={name}={value}" for name, value in given.items()]
    place = f"--working-directory={CHECKOUT}"
    return ("systemd-run", "--quiet", "--wait", "--pipe", f"--uid={ACCOUNT}", place, *options, "--", *command)


@pytest.fixture(scope="session")
def podman() -> Iterator[None]:
    """What the installer sets up, the image, and the guard of the account's workers."""
    home = Path(pwd.getpwnam(ACCOUNT).pw_dir)
    subprocess.run(["dpkg", "--purge", "compute-to-data"], check=False)  # the installer does not change its files
    _run(sys.executable, "packaging/install", "install", "--podman", "--no-venv")
    _run(*_as_account("mkdir", "-p", f"{home}/.config/containers", str(_scratch())))
    (home / ".config/containers/storage.conf").write_text('[storage]\ndriver = "overlay"\n')
    uid = pwd.getpwnam(ACCOUNT).pw_uid
    _run("systemctl", "daemon-reload")
    _run("systemctl", "restart", f"user@{uid}.service")
    socket = Path(f"/run/user/{uid}/compute-to-data/podman.sock")
    deadline = time.monotonic() + 120
    while not socket.exists():
        assert time.monotonic() < deadline, f"{socket} is not there"
        time.sleep(0.5)
    _run(*_as_account("sh", "-c", f"podman image exists {IMAGE} || podman load --quiet --input {SAVED}"))
    configuration = home / "c2d-tests.json"
    configuration.write_text('{"zone": {"kind": "irods"}, "engine": {"name": "podman"}}')
    unit = Path("/run/systemd/system/c2d-tests-guard.service")
    given = {"account": ACCOUNT, "checkout": CHECKOUT, "python": sys.executable, "configuration": configuration}
    unit.write_text(GUARD.format(**given))
    _run("systemctl", "daemon-reload")
    _run("systemctl", "restart", unit.name)
    yield
    _run("systemctl", "stop", unit.name)
    unit.unlink()


def _given() -> dict[str, str]:
    patience = {"C2D_TEST_PATIENCE": os.environ.get("C2D_TEST_PATIENCE", "600"), "PYTHONDONTWRITEBYTECODE": "1"}
    examples = {"HYPOTHESIS_STORAGE_DIRECTORY": str(_scratch() / "hypothesis")}  # the account cannot write the checkout
    return {"C2D_TEST_ENGINE": "podman", "CI": "true", "C2D_GUARD": "/run/c2d-tests/guard", **patience, **examples}


def _scratch() -> Path:
    return Path(pwd.getpwnam(ACCOUNT).pw_dir, "c2d-tests")


@pytest.mark.parametrize("suite", SUITES)
def test_podman_passes(podman: None, suite: str) -> None:
    folder = f"--basetemp={_scratch() / 'files'}"
    words = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--tb=short", "--durations=0", folder)
    done = subprocess.run(_as_account(*words, *SUITES[suite], **_given()), check=False)
    assert done.returncode == 0
    assert _run(*_as_account("podman", "ps", "--all", "--quiet")) == "", "containers are left"


def test_the_figures_can_be_taken(podman: None) -> None:
    """Prints them, beside ``podman run``. C2D_BENCH_ROUNDS and C2D_BENCH_TASKS say of how many tasks."""
    counts = {name: os.environ.get(name, "2") for name in ("C2D_BENCH_ROUNDS", "C2D_BENCH_TASKS")}
    done = subprocess.run(_as_account(sys.executable, "tests/benchmarks/podman.py", **_given(), **counts), check=False)
    assert done.returncode == 0
    assert _run(*_as_account("podman", "ps", "--all", "--quiet")) == "", "containers are left"
