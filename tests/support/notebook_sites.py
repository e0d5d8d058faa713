"""Sites whose process engine runs notebooks with the real runner of the notebook container."""

from __future__ import annotations

import sys
from pathlib import Path

from support.site import COMPUTE, TrialSite

RUNNER = Path(__file__).parents[2] / "containers" / "jupyter-digital-filter" / "run-notebook"


def notebook_site(folder: Path) -> TrialSite:
    """A resource with the roles CONTAINER and SIGNAL_PROCESSING, and the image ``tools`` with the runner."""
    program = folder / "tools" / "run-notebook"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {RUNNER} "$@"\n')
    program.chmod(0o755)
    site = TrialSite(folder, {"name": "process", "images": {"tools": str(folder / "tools")}}, "tools")
    site.give_role(COMPUTE, "SIGNAL_PROCESSING")
    return site
