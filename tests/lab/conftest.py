"""The package as its installer installed it in the guest, with a zone in a folder and a real engine: Docker, or the
service account's Podman."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.site import BASE_IMAGE, COMPUTE, PATIENCE, TrialSite, until

from compute_to_data.coordination import lock
from compute_to_data.records.state import State
from compute_to_data.submission.submit import Submitted

from . import podman_account

ACCOUNT = podman_account.ACCOUNT
OUTPUT_FILES = 50
"""How many files a task may leave."""
FOLDER = Path("/var/lib/irods/trial")
STATE = Path("/var/lib/irods/compute_to_data")
CONFIGURATION = podman_account.CONFIGURATION
WORKER = f"compute-to-data-worker@{COMPUTE}.service"
GUARD, QUOTAS = podman_account.GUARD, "compute-to-data-quotas.service"


def systemctl(*arguments: str) -> str:
    """What ``systemctl`` prints; it must succeed."""
    return podman_account.run("systemctl", *arguments).strip()


def shown(unit: str, name: str) -> str:
    """A property of a unit."""
    return systemctl("show", "--value", f"--property={name}", unit)


class LabSite(TrialSite):
    """A zone of the service account. Its worker is the installed unit's."""

    def install(self, **engine: object) -> None:
        """Write the configuration of the units."""
        document = json.loads(self.configuration_file.read_text())
        document["engine"] = {"name": self.configuration.engine.name, "timeout_seconds": PATIENCE, **engine}
        document["worker"].update({"on_demand": False, "state_directory": str(STATE)})
        CONFIGURATION.write_text(json.dumps(document))

    def start(self, *units: str) -> None:
        """Start units, of which the worker's is the last, and wait until they run."""
        subprocess.run(["chown", "-R", f"{ACCOUNT}:", str(FOLDER)], check=True)
        systemctl("start", *(units or (WORKER,)))

    def end(self, *submitted: Submitted) -> list[dict[str, str]]:
        """Wait for the end of tasks; their facts."""
        records = [self.record(one) for one in submitted]
        until(lambda: all((one.state() or State.QUEUED).is_final for one in records), "the tasks to end")
        return [{**one.facts(), "collection": one.collection} for one in records]


@contextmanager
def lab_site(engine: str) -> Iterator[LabSite]:
    """A site whose vault a test may still replace. No unit runs before and after."""
    _clean()
    FOLDER.mkdir(mode=0o755)
    limits = {"default": {"output_files": OUTPUT_FILES}}
    yield LabSite(FOLDER, {"name": engine}, BASE_IMAGE, worker={"state_directory": str(STATE)}, limits=limits)
    systemctl("stop", WORKER, GUARD, QUOTAS)
    units = [f"--unit={name}" for name in (WORKER, GUARD, QUOTAS)]
    subprocess.run(["journalctl", "--no-pager", "--boot", "--lines=40", *units], check=True)  # shown if the test failed


@pytest.fixture
def bare_site(docker_answers: None) -> Iterator[LabSite]:
    """A site with Docker."""
    with lab_site("docker") as made:
        yield made
    for key in made.engine.jobs(lock.scope(made.configuration, "tempZone", COMPUTE)):
        made.engine.remove(key)
    _clean()


def _clean() -> None:
    """Remove what a test leaves, or an earlier run that was interrupted left."""
    systemctl("stop", WORKER, GUARD, QUOTAS)
    with suppress(FileNotFoundError):
        shutil.rmtree(FOLDER)
    for place in STATE.iterdir():
        shutil.rmtree(place) if place.is_dir() else place.unlink()


@pytest.fixture
def site(bare_site: LabSite) -> LabSite:
    """A site whose units can start."""
    bare_site.install()
    return bare_site


@pytest.fixture(scope="session")
def podman(vault_of_the_worker: None) -> None:
    """The account's own Podman, as the installer sets it up, with the tests' image."""
    podman_account.set_up()


@pytest.fixture
def podman_site(podman: None) -> Iterator[LabSite]:
    """A site with Podman whose units can start."""
    with lab_site("podman") as made:
        made.install()
        yield made
    podman_account.run(*podman_account.command("podman", "rm", "--all", "--force", "--time=0"))
    _clean()


@pytest.fixture(scope="session", autouse=True)
def vault_of_the_worker() -> None:
    """The worker may write into the zone: as an administrator says it after installing the package."""
    if not os.path.exists("/opt/c2d-tests"):
        pytest.fail("these tests run in the guest: make lab")
    drop_in = Path(f"/etc/systemd/system/{WORKER}.d/vault.conf")
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text(f"[Service]\nReadWritePaths={FOLDER}\n")
    systemctl("daemon-reload")
