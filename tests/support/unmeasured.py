"""Processes in which coverage is not measured, since measuring loads modules of its own."""

from __future__ import annotations

import os
import subprocess
import sys


def run_unmeasured(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program in a new interpreter, without coverage; its output as text."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
