"""The thumbnail program's image: build it as its README says, run its own verification, and run a
task of its role."""

from __future__ import annotations

import subprocess
from pathlib import Path

import container_image
import pytest
from support.pictures import grey_png
from support.site import COMPUTE, HOME, TrialSite

from compute_to_data.model import Avu, Entity, EntityKind

CONTAINER = Path(__file__).parents[2] / "containers" / "image-processing"
IMAGE = "compute-to-data/image-processing:1"

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def image(docker_answers: None) -> str:
    """The image, built from this tree unless Docker already holds it."""
    container_image.build(CONTAINER, IMAGE, print)
    return IMAGE


def test_the_image_verifies(image: str) -> None:
    done = subprocess.run([str(CONTAINER / "verify"), image], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all checks pass\n")


def test_the_role_runs_it_sandboxed(image: str, tmp_path: Path) -> None:
    site = TrialSite(tmp_path, {"name": "docker"}, image, roles={"IMAGE_PROCESSING": {"image": image}})
    site.take_role(COMPUTE, "CONTAINER")
    site.give_role(COMPUTE, "IMAGE_PROCESSING")
    site.alice.write(f"{HOME}/my scan.png", grey_png(300, 200), resource=COMPUTE)
    request = {"resource": COMPUTE, "inputs": [f"{HOME}/my scan.png"], "output_collection": f"{HOME}/out"}
    facts = site.run(request)
    assert facts["state"] == "COMPLETED", facts
    found = {name for name in site.contents(facts["collection"]) if "_thumbnails/" in name}
    folder = "my scan_thumbnails/my scan"
    assert found == {f"{folder}_metadata.json", *(f"{folder}_{size}.jpg" for size in (128, 256, 512, 1024))}
    avus = site.alice.avus(Entity(EntityKind.DATA_OBJECT, f"{facts['collection']}/{folder}_128.jpg"))
    assert {Avu("image::width", "300", "pixels"), Avu("image::format", "PNG")} <= {*avus}
