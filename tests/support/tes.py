"""GA4GH TES tasks for tests, and a second image beside the usual one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from support.site import BASE_IMAGE, COMPUTE, HOME, TrialSite

SECOND_IMAGE = "compute-to-data/tes-second:test"
"""The usual image, with another value of the variable WHICH."""


def second_image() -> str:
    """Make the second image, if Docker does not hold it yet."""
    listed = subprocess.run(["docker", "images", "-q", SECOND_IMAGE], capture_output=True, text=True, check=True)
    if not listed.stdout.strip():
        built = f"FROM {BASE_IMAGE}\nENV WHICH=second\nRUN echo second > /etc/which\n"
        command = ["docker", "build", "--network", "none", "-q", "-t", SECOND_IMAGE, "-"]
        subprocess.run(command, input=built, capture_output=True, text=True, check=True)
    return SECOND_IMAGE


def tes_site(folder: Path, **sections: Any) -> TrialSite:
    """A site with Docker, in which both images may run."""
    images = [BASE_IMAGE, second_image()]
    return TrialSite(folder, {"name": "docker"}, BASE_IMAGE, images=images, **sections)


def shell(script: str, image: str = BASE_IMAGE, **more: Any) -> dict[str, Any]:
    """An executor that runs a shell script."""
    return {"image": image, "command": ["/bin/sh", "-c", script], **more}


def of_zone(path: str) -> str:
    """The URL of something below alice's home."""
    return f"irods://{HOME}/{path}"


def request(*executors: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request in our own format with a TES task."""
    tes = {"executors": list(executors), **more}
    return {"resource": COMPUTE, "output_collection": f"{HOME}/out", "inputs": [], "tes": tes}
