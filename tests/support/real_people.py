"""People who type ``c2d`` at a terminal, and work in a real zone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compute_to_data.model import User

_PATIENCE = 90.0


@dataclass
class Person:
    """A person at a terminal."""

    user: User
    environment: dict[str, str]

    def types(self, *words: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "compute_to_data.cli.main", *words]
        return subprocess.run(command, env=self.environment, input=content, capture_output=True, timeout=_PATIENCE)

    def gets(self, *words: str, content: bytes = b"") -> Any:
        done = self.types("--output", "json", *words, content=content)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)


def own_environment(environment_file: str, home: Path) -> dict[str, str]:
    """The environment of a person who has only run ``iinit``."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("C2D_", "IRODS_", "XDG_"))}
    return {**plain, "HOME": str(home), "IRODS_ENVIRONMENT_FILE": environment_file}
