"""Processes in which coverage is not measured: it loads modules of its own, and ignores a Ctrl-C while it loads."""

from __future__ import annotations

import os
import subprocess
import sys


def unmeasured() -> dict[str, str]:
    """The environment of such a process."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


def run_unmeasured(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a new interpreter, without coverage; its output as text."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=unmeasured(), capture_output=True, text=True, check=False)
