"""The service account's own Podman in the guest: how it is set up, and commands of the account."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from pathlib import Path

from support.real_docker import IMAGE

from .guest import SAVED

ACCOUNT = "irods"
CHECKOUT = Path(__file__).resolve().parents[2]
CONFIGURATION = Path("/etc/irods/compute_to_data.json")
GUARD = "compute-to-data-guard.service"
SERVICE = "compute-to-data-podman.service"
SOCKET = Path("/run/compute-to-data-podman/podman.sock")
INSTALLER = "/opt/compute-to-data/packaging/install"
SECONDS = 300.0
"""For what systemd does at once on any other machine."""


def run(*command: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def uid() -> int:
    """The account's."""
    return pwd.getpwnam(ACCOUNT).pw_uid


def home() -> Path:
    """The account's."""
    return Path(pwd.getpwnam(ACCOUNT).pw_dir)


def command(*words: str, **environment: str) -> tuple[str, ...]:
    """A command of the account's, as a unit: beside the account's own systemd, as a worker is."""
    given = {"HOME": str(home()), "XDG_RUNTIME_DIR": f"/run/user/{uid()}", **environment}
    options = [f"--setenv={name}={value}" for name, value in given.items()]
    place = f"--working-directory={CHECKOUT}"
    return ("systemd-run", "--quiet", "--wait", "--pipe", f"--uid={ACCOUNT}", place, *options, "--", *words)


def of_its_systemd(*words: str) -> str:
    """What ``systemctl --user`` of the account prints."""
    return run(*command("systemctl", "--user", *words)).strip()


def containers() -> str:
    """The ids of all containers of the account."""
    return run(*command("podman", "ps", "--all", "--quiet")).strip()


def set_up() -> None:
    """What docs/podman.md says, after the package was installed; and the image, from the guest's file."""
    run(INSTALLER, "configure", "--podman")
    run("install", "-d", f"--owner={ACCOUNT}", f"--group={ACCOUNT}", str(home() / ".config"), str(storage().parent))
    storage().write_text('[storage]\ndriver = "overlay"\n')
    CONFIGURATION.write_text('{"zone": {"kind": "irods"}, "engine": {"name": "podman"}}')
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", f"user@{uid()}.service")
    wait_for_socket()
    run(*command("sh", "-c", f"podman image exists {IMAGE} || podman load --quiet --input {SAVED}"))


def storage() -> Path:
    """The account's settings of Podman's storage."""
    return home() / ".config/containers/storage.conf"


def wait_for_socket() -> None:
    """Until the account's systemd listens for Podman."""
    deadline = time.monotonic() + SECONDS
    while not SOCKET.exists():
        assert time.monotonic() < deadline, f"{SOCKET} is not there"
        time.sleep(0.5)


def of_the_tests() -> dict[str, str]:
    """The environment of suites that the account runs. It cannot write the checkout."""
    examples = {"HYPOTHESIS_STORAGE_DIRECTORY": str(home() / "c2d-tests/hypothesis"), "PYTHONDONTWRITEBYTECODE": "1"}
    patience = {"C2D_TEST_PATIENCE": os.environ.get("C2D_TEST_PATIENCE", "600")}
    return {"C2D_TEST_ENGINE": "podman", "CI": "true", **patience, **examples}
