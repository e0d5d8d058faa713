"""Debian's own packages that some tests need, installed when they are missing."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

_APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=600")


def need_packages(*names: str) -> None:
    """Install what is missing. Skips where that is not possible, with the reason; in CI that is a failure."""
    with Path(tempfile.gettempdir(), "compute-to-data-packages.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = [name for name in names if not _is_installed(name)]
        if not missing:
            return
        if os.geteuid() != 0 and not os.environ.get("CI"):
            pytest.skip(f"this test needs Debian's {', '.join(missing)}, and only root can install that")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (("update",), ("install", "-y", "--no-install-recommends", *missing)):
            done = subprocess.run(
                [*_APT, *words], env=environment, capture_output=True, text=True, check=False, timeout=600
            )
            assert done.returncode == 0, f"apt-get {' '.join(words)}:\n{done.stdout}\n{done.stderr}"


def _is_installed(name: str) -> bool:
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"
    except FileNotFoundError:
        pytest.skip("this test needs Debian")
