"""What of this product runs on the host, which an upgrade must start again.

A process loads some modules only when it needs them, and starts programs of the package. One that ran through an
upgrade would mix both versions, so systemd stops our units before the files change. Jobs go on meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys

from installer import removal
from installer.layout import Layout

UNITS = (
    "compute-to-data-worker@*.service",
    "compute-to-data-gateway.service",
    "compute-to-data-guard.service",
    "compute-to-data-quotas.service",
    "compute-to-data-node@*.service",
)
"""Those that run our code. packaging/debian/preinst and packaging/rpm/compute-to-data.spec name them, too."""


def has_systemd(layout: Layout) -> bool:
    """Whether the files are those of this host, and systemd runs it."""
    return layout.is_live and os.path.isdir("/run/systemd/system")


def units(layout: Layout) -> list[str]:
    """Our units that run."""
    if not has_systemd(layout):
        return []
    command = ["systemctl", "list-units", "--state=active,activating", "--plain", "--no-legend", *UNITS]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.strip()]


def stop_units(names: list[str]) -> None:
    """Stop units. OSError or CalledProcessError."""
    subprocess.run(["systemctl", "stop", *names], check=True)


def start_units(names: list[str]) -> None:
    """Start units that :func:`stop_units` stopped."""
    if names:
        print(f"start {' '.join(names)}", flush=True)
        if subprocess.run(["systemctl", "start", *names], check=False).returncode != 0:
            print(f"not all of them run: systemctl status {' '.join(names)}", file=sys.stderr)


def name_other_workers(layout: Layout) -> None:
    """Print which workers run that were not started by systemd, or by a systemd that we cannot ask."""
    for name in removal.served(layout):
        print(
            f"a worker that holds {layout.state_directory}/{name} still runs the version before. Start it again:\n"
            f"  {layout.prefix}/bin/compute-to-data-worker stop <resource>, then start <resource>"
        )
