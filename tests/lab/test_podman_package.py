"""The product on a host whose workers use Podman: what the doctor finds; an upgrade while a task runs and others wait,
a removal and another installation. As the Debian package, and by ``packaging/install`` from a checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.site import BASE_IMAGE

from .conftest import GUARD, WORKER, LabSite, shown, systemctl
from .guest import SOURCES, WHEELS_THERE
from .podman_account import ACCOUNT, CONFIGURATION, home, run, set_up, uid
from .test_units import running

DOCTOR = "/opt/compute-to-data/bin/compute-to-data-doctor"
UNITS = Path("/etc/systemd/system")


def delegation() -> Path:
    """Where the installer says what systemd delegates to the account."""
    return UNITS / f"user@{uid()}.service.d"


def problems() -> dict[str, dict[str, str]]:
    """What the installed doctor finds wrong about the engine, its images and the host. There is no iRODS server."""
    done = subprocess.run([DOCTOR, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    found = {one["link"]: one for one in json.loads(done.stdout)}
    assert {"engine", "ids of jobs: guard", "weight of jobs: processors"} <= {*found}, found
    ours = ("doctor", "engine", "image", "ids of jobs", "weight of jobs")
    return {link: one for link, one in found.items() if link.startswith(ours) and one["verdict"] == "problem"}


@pytest.fixture
def host(podman: None) -> Iterator[None]:
    """A host that is set up as docs/podman.md says. It is so again afterwards."""
    engine = {"name": "podman", "timeout_seconds": 600}
    CONFIGURATION.write_text(json.dumps({"zone": {"kind": "irods"}, "engine": engine, "images": [BASE_IMAGE]}))
    systemctl("start", GUARD)
    yield
    (delegation() / "zz-test.conf").unlink(missing_ok=True)
    set_up()


def _delegate_processes_only() -> None:
    (delegation() / "zz-test.conf").write_text("[Service]\nDelegate=\nDelegate=pids\n")
    systemctl("daemon-reload")
    systemctl("restart", f"user@{uid()}.service")


WRONG: dict[str, tuple[Callable[[], object], str, str]] = {
    "nothing": (lambda: None, "", ""),
    "its systemd is stopped": (
        lambda: systemctl("stop", f"user@{uid()}.service"), "systemd runs no services of this account", "user@",
    ),
    "processors are not delegated": (_delegate_processes_only, "has not delegated cpu", "Delegate=cpu"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_the_doctor_finds_what_is_wrong(host: None, what: str) -> None:
    break_it, seen, remedy = WRONG[what]
    assert problems() == {}
    break_it()
    found = problems()
    if seen:
        assert seen in found["engine"]["seen"] and remedy in found["engine"]["remedy"], found
    else:
        assert found == {}


@dataclass(frozen=True)
class Way:
    """How the product comes onto a host, is upgraded there and removed."""

    install: tuple[str, ...]
    upgrade: tuple[str, ...]
    remove: tuple[str, ...]


def package() -> Way:
    """The Debian package that was made of this checkout."""
    (file,) = Path("/opt/package").glob("*.deb")
    install = ("dpkg", "--install", str(file))
    return Way(install, install, ("dpkg", "--purge", "compute-to-data"))


def checkout(folder: Path) -> Way:
    """This checkout, and for the upgrade a copy that differs."""
    newer = folder / "newer"
    shutil.copytree(SOURCES, newer, symlinks=True)
    with (newer / "docs/podman.md").open("a") as page:
        page.write("\nnewer\n")
    first, second = (
        (f"{one}/packaging/install", "install", "--podman", "--wheels", WHEELS_THERE) for one in (SOURCES, newer)
    )
    return Way(first, second, (f"{SOURCES}/packaging/install", "uninstall"))


@pytest.fixture(params=["package", "checkout"])
def way(request: pytest.FixtureRequest, podman: None, tmp_path: Path) -> Iterator[Way]:
    """The product is on the host in this way. Afterwards its package is there, as other tests expect."""
    if request.param == "package":
        yield package()
        return
    CONFIGURATION.unlink(missing_ok=True)
    run(*package().remove)
    made = checkout(tmp_path)
    run(*made.install)
    yield made
    run(*made.remove)
    CONFIGURATION.unlink(missing_ok=True)
    run(*package().install)
    set_up()


@pytest.fixture
def site(way: Way, podman_site: LabSite) -> LabSite:
    return podman_site


def test_it_is_upgraded_removed_and_installed_again(site: LabSite, way: Way) -> None:
    """No task is lost by the upgrade. The removal leaves nothing of ours, and names what it leaves."""
    first = running(site, "echo on >/outputs/on")
    waiting = [site.submit(site.request("/bin/true")) for _ in range(3)]
    refused = subprocess.run(way.remove, capture_output=True, text=True, check=False)
    assert refused.returncode != 0 and "a worker is running" in refused.stderr, refused
    before = shown(WORKER, "MainPID")
    assert "systemctl restart user@" not in run(*way.upgrade), "that would end the job"
    assert shown(WORKER, "MainPID") not in ("0", before)
    site.let_go(first)
    for facts in site.end(first, *waiting):
        assert (facts["state"], facts["attempt"]) == ("COMPLETED", "1"), facts
    assert site.contents(first.collection)["on"] == b"on\n"

    systemctl("enable", WORKER)
    systemctl("stop", WORKER)
    said = run(*way.remove)
    account = f"user@{uid()}.service"
    assert f"left: {account}: " in said and f"left: {home()}/.local/share/containers: " in said
    assert shown(GUARD, "ActiveState") == shown(WORKER, "ActiveState") == "inactive"
    assert ACCOUNT not in Path("/etc/subuid").read_text()
    ours = [str(one) for one in Path("/etc/systemd").rglob("*compute-to-data*") if one.parent.name != f"{WORKER}.d"]
    assert (ours, (Path("/var/lib/systemd/linger") / ACCOUNT).exists()) == ([f"{UNITS}/{WORKER}.d"], False)
    systemctl("stop", account)

    run(*way.install)
    set_up()
    site.install()
    after = site.submit(site.request("/bin/true"))
    site.start()
    (facts,) = site.end(after)
    assert facts["state"] == "COMPLETED", facts
