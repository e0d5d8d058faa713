"""A worker as its systemd unit runs it: with the unit's own account, limits and command.

Where systemd is the init it runs the worker itself, in a transient unit with the properties of our unit's
file. Elsewhere ``confined.py`` takes on those that need no init.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compute_to_data.configuration import Configuration
from support import confined
from support.service_worker import ServiceWorker
from support.site import PATIENCE

HAS_SYSTEMD = os.path.isdir("/run/systemd/system")
"""Whether systemd is the init of this machine (sd_booted(3))."""


class UnitWorker(ServiceWorker):
    """The program of a unit's file for one resource, under the unit's properties."""

    def __init__(self, unit: Path, configuration: Configuration, resource: str, log: Path) -> None:
        self._transient = f"c2d-test-{uuid.uuid4().hex[:12]}.service" if HAS_SYSTEMD else ""
        command = (
            _systemd_run(unit, resource, self._transient)
            if self._transient
            else [sys.executable, confined.__file__, str(unit), resource]
        )
        super().__init__(configuration, resource, log, command)

    def end(self, number: int = ServiceWorker.STOP) -> int:
        """As the init would; its exit status."""
        if not self._transient:
            return super().end(number)
        assert number == self.STOP, "systemd chooses the signal"
        subprocess.run(["systemctl", "stop", self._transient], check=True, timeout=PATIENCE)
        return self._process.wait(PATIENCE)


@contextmanager
def unit_process(unit: Path) -> Iterator[subprocess.Popen[str]]:
    """The program of another unit's file, while inside. Its standard output can be read."""
    name = f"c2d-test-{uuid.uuid4().hex[:12]}.service" if HAS_SYSTEMD else ""
    command = _systemd_run(unit, "", name) if name else [sys.executable, confined.__file__, str(unit), ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if name:
                subprocess.run(["systemctl", "stop", name], check=process.poll() is None, timeout=PATIENCE)
            else:
                process.terminate()


def _systemd_run(unit: Path, instance: str, name: str) -> list[str]:
    service = confined.service_of(unit)
    program = next(value for name, value in service if name == "ExecStart").replace("%i", instance).split()
    # Not Restart: a worker that ends must be seen to end.
    properties = [f"--property={name}={value}" for name, value in service if name not in ("ExecStart", "Restart")]
    return ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={name}", *properties, *program]
