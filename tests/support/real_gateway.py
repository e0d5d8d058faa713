"""``c2d serve`` as a process of its own, for a real zone. ``irods_site.py`` says what that needs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.irods_site import ENVIRONMENT, RealSite
from support.site import PATIENCE


@contextlib.contextmanager
def serving(site: RealSite, folder: Path, **sections: Any) -> Iterator[str]:
    """The gateway's address while inside. ``folder`` takes its log and its settings, which ``sections`` add to."""
    zone = {"kind": "irods", "environment_file": os.environ[ENVIRONMENT]}
    settings = {"zone": zone, "site": site.configuration.source, "listen": {"port": 0}, **sections}
    file = folder / "gateway.json"
    file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "compute_to_data.cli.main", "serve", "--configuration", str(file)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), (folder / "log").read_text()
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        process.stdout.close()
