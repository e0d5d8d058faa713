"""Python programs in an interpreter of their own, which has loaded nothing yet."""

from __future__ import annotations

import subprocess
import sys


def run_python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program's text; its output as text."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
