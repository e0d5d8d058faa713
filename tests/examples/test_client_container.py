"""The client's image: build it as its README says, run its own verification, and use it with a real gateway."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import container_image
import pytest
from support.gateways import RunningGateway, gateway_settings, give_passwords, running
from support.site import PATIENCE, TrialSite

CHECKOUT = Path(__file__).parents[2]
CONTAINER = CHECKOUT / "containers" / "c2d"
IMAGE = "compute-to-data/c2d:1"
USER = "12345:54321"
SETTINGS = "/home/c2d/.config/compute-to-data"
STATE = "/home/c2d/.local/state/compute-to-data"

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def image(docker_answers: None) -> str:
    """The image, built from this tree unless Docker already holds it."""
    container_image.build(CONTAINER, IMAGE, print, context=CHECKOUT)
    return IMAGE


@pytest.fixture
def gateway(site: TrialSite) -> Iterator[RunningGateway]:
    give_passwords(site)
    with running(gateway_settings(site)) as started:
        yield started


def _c2d(image: str, folder: Path, *words: str, typed: str = "", options: tuple[str, ...] = (), token: str = "") -> str:
    """What the image prints, run by a user without a name, on a read-only root."""
    box = ["--rm", "--interactive", "--read-only", "--network=host", "--cap-drop=ALL", f"--user={USER}"]
    volumes = [f"--volume={folder}/data:/data", f"--volume={folder}/settings:{SETTINGS}"]
    command = ["docker", "run", *box, "-e", "C2D_TOKEN", *volumes, *options, image, *words]
    done = subprocess.run(
        command,
        input=typed, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
        env={**os.environ, "C2D_TOKEN": token},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders of the user who runs the image."""
    found = tmp_path / "laptop"
    found.mkdir()
    for name in ("data", "settings", "state"):
        (found / name).mkdir()
        (found / name).chmod(0o777)
    return found


def test_the_image_verifies(image: str) -> None:
    done = subprocess.run([str(CONTAINER / "verify"), image], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all checks pass\n")


def test_a_token_is_all_that_a_script_needs(image: str, gateway: RunningGateway, site: TrialSite, folder: Path) -> None:
    """Upload, run and fetch, as a user of the gateway."""
    with gateway.client("alice") as alice:
        token = alice.post("/authenticate").text
    settings = {"zone": {"kind": "gateway", "url": gateway.url}}
    (folder / "settings/config.json").write_text(json.dumps(settings))
    (folder / "data/measured").mkdir()
    (folder / "data/measured/a.txt").write_text("abc\n")
    with site.working():
        dataset = _c2d(image, folder, "dataset", "upload", "measured", "--output", "raw", token=token).split()[0]
        program = ("/bin/sh", "-c", "echo printed; echo result > x")
        said = _c2d(image, folder, "run", site.image, "-i", dataset, "--", *program, token=token)
    assert said == "printed\n"
    (listed,) = json.loads(_c2d(image, folder, "list", "--output", "json", token=token))
    assert listed["state"] == "COMPLETED"
    _c2d(image, folder, "fetch", listed["task_id"], "x", "--output", "here", token=token)
    fetched = folder / "data/here/x"
    assert fetched.read_text() == "result\n"
    assert fetched.stat().st_uid == int(USER.partition(":")[0]), "fetched files are the caller's"
    assert [path.name for path in (folder / "settings").iterdir()] == ["config.json"]
    assert token not in (folder / "settings/config.json").read_text()


def test_a_login_lasts_from_one_container_to_the_next(image: str, gateway: RunningGateway, folder: Path) -> None:
    state = (f"--volume={folder}/state:{STATE}",)
    said = _c2d(image, folder, "login", gateway.url, "--user", "alice", typed="correct horse\n", options=state)
    assert said == "alice#tempZone\n"
    found = json.loads(_c2d(image, folder, "whoami", "--output", "json", options=state))
    assert (found["user"], found["gateway"]) == ("alice#tempZone", gateway.url)
