"""The Debian package: build it from the same files, install it into a scratch root with its scripts,
remove and purge it without a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import ADMIN_CORE, ScratchServer, dpkg, make_package_database, must_dpkg

pytestmark = pytest.mark.skipif(
    not shutil.which("dpkg-deb") or not os.path.exists("/usr/bin/python3"), reason="no Debian: dpkg-deb is missing"
)

CONFIGURATION = "/etc/irods/compute_to_data.json"
GATEWAY_SETTINGS = "/etc/compute_to_data/gateway.json"
PODMANS_UNIT = "/etc/systemd/system/compute-to-data-worker@.service.d/podman.conf"
VAULTS_UNIT = "/etc/systemd/system/compute-to-data-worker@dsp.service.d/vault.conf"
ACCOUNTS = {
    "etc/.pwd.lock",
    *(f"etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")),
}
"""Where the gateway's account stands, which stays as on Debian."""


@pytest.fixture
def debian(server: ScratchServer) -> ScratchServer:
    """A server with an empty package database."""
    make_package_database(server)
    return server


def _without_dpkgs_own(server: ScratchServer) -> dict[str, str]:
    return {name: what for name, what in server.contents().items() if not name.startswith("var/lib/dpkg")}


def _field(package: Path, name: str) -> str:
    done = subprocess.run(["dpkg-deb", "--field", str(package), name], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_it_recommends_irods_and_depends_only_on_this_python(package: Path) -> None:
    assert "irods-rule-engine-plugin-python" in _field(package, "Recommends")
    assert "irods" not in _field(package, "Depends")
    assert _field(package, "Depends").startswith("python3 (>= 3.")


def test_its_files_are_roots_and_the_configuration_is_a_conffile(package: Path, tmp_path: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "--contents", str(package)], capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()
    assert {line.split()[1] for line in lines} == {"root/root"}
    assert not [line for line in lines if "__pycache__" in line or "manifest.json" in line]
    subprocess.run(["dpkg-deb", "--control", str(package), str(tmp_path / "control")], check=True)
    assert (tmp_path / "control/conffiles").read_text().split() == [CONFIGURATION, GATEWAY_SETTINGS]


def test_installed_edited_removed_and_purged(package: Path, debian: ScratchServer) -> None:
    before = _without_dpkgs_own(debian)
    must_dpkg(debian, "--install", str(package))
    assert debian.path("/etc/irods/core.py").read_bytes().startswith(ADMIN_CORE)
    assert b"compute_to_data.rulebase" in debian.path("/etc/irods/core.py").read_bytes()
    assert list(debian.path("/opt/compute-to-data/agent/compute_to_data/__pycache__").iterdir())
    python = debian.path("/opt/compute-to-data/venv/bin/python")
    subprocess.run([str(python), "-I", "-c", "import docker, irods, compute_to_data.worker"], check=True)
    python = debian.path("/opt/compute-to-data/gateway-venv/bin/python")
    subprocess.run([str(python), "-I", "-c", "import irods, compute_to_data.gateway.serving"], check=True)
    assert debian.path("/lib/systemd/system/compute-to-data-gateway.service").exists()
    assert "c2d-gateway" in debian.path("/etc/passwd").read_text()
    assert must_dpkg(debian, "--verify", "compute-to-data") == ""

    debian.path(CONFIGURATION).write_text("{}")
    must_dpkg(debian, "--install", str(package))
    assert debian.path(CONFIGURATION).read_text() == "{}", "an edited configuration survives an upgrade"

    must_dpkg(debian, "--remove", "compute-to-data")
    assert debian.path("/etc/irods/core.py").read_bytes() == ADMIN_CORE
    left = {name for name in _without_dpkgs_own(debian) if name not in before} - ACCOUNTS
    assert left == {CONFIGURATION.lstrip("/"), "etc/compute_to_data", GATEWAY_SETTINGS.lstrip("/")}

    must_dpkg(debian, "--purge", "compute-to-data")
    assert {name: what for name, what in _without_dpkgs_own(debian).items() if name not in ACCOUNTS} == before


def test_it_does_not_overwrite_the_other_installers_files(package: Path, debian: ScratchServer) -> None:
    debian.must("install", "--no-venv")
    before = _without_dpkgs_own(debian)
    done = dpkg(debian, "--install", str(package))
    assert done.returncode != 0
    assert "packaging/install" in done.stderr
    assert _without_dpkgs_own(debian) == before


def _accounts(server: ScratchServer) -> None:
    server.path("/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nirods:x:998:998::/var/lib/irods:/bin/sh\n")
    for path in ("/etc/group", "/etc/subuid", "/etc/subgid"):
        server.path(path).touch()


def test_what_a_host_needs_beside_the_package(package: Path, debian: ScratchServer) -> None:
    """Podman, a worker's vault and the rule engines are set up by the package's own copy of the installer."""
    _accounts(debian)
    debian.path("/data/vault").mkdir(parents=True)
    before = _without_dpkgs_own(debian)
    must_dpkg(debian, "--install", str(package))
    ours = replace(debian, checkout=debian.path("/opt/compute-to-data"))
    options = ("--podman", "--worker", "dsp=/data/vault", "--edit-server-config")
    wanted = ours.must("configure", *options, "--dry-run")
    assert not debian.path(PODMANS_UNIT).exists()
    assert f"would write {PODMANS_UNIT}\n" in wanted and "would edit /etc/irods/server_config.json" in wanted
    assert "systemctl restart user@998.service" in ours.must("configure", *options)
    assert "SupplementaryGroups=\n" in debian.path(PODMANS_UNIT).read_text()
    assert "ReadWritePaths=/data/vault\n" in debian.path(VAULTS_UNIT).read_text()
    assert "python-instance" in debian.path("/etc/irods/server_config.json").read_text()

    debian.path(PODMANS_UNIT).write_text("edited")
    said = must_dpkg(debian, "--install", str(package))
    assert f"left: {PODMANS_UNIT}: it was changed" in said
    assert "systemctl restart" not in said, "that would end jobs"
    assert debian.path(PODMANS_UNIT).read_text() == "edited" and debian.path(VAULTS_UNIT).exists()
    ours.must("configure", "--force")
    assert "SupplementaryGroups=\n" in debian.path(PODMANS_UNIT).read_text(), "an upgrade keeps what was set up"

    must_dpkg(debian, "--purge", "compute-to-data")
    assert {name: what for name, what in _without_dpkgs_own(debian).items() if name not in ACCOUNTS} == {
        name: what for name, what in before.items() if name not in ACCOUNTS
    }


def test_a_vault_that_does_not_exist_stops_nothing_and_is_named(package: Path, debian: ScratchServer) -> None:
    _accounts(debian)
    must_dpkg(debian, "--install", str(package))
    ours = replace(debian, checkout=debian.path("/opt/compute-to-data"))
    assert "/data/vault, the vault of dsp, does not exist" in ours.must("configure", "--worker", "dsp=/data/vault")


@pytest.mark.parametrize("verb", ["install", "uninstall"])
def test_the_installer_leaves_a_package_alone(package: Path, debian: ScratchServer, verb: str) -> None:
    must_dpkg(debian, "--install", str(package))
    before = debian.contents()
    done = debian.run(verb, "--no-venv")
    assert done.returncode == 1
    assert "the Debian package compute-to-data is installed. Use apt" in done.stderr
    assert "packaging/install configure" in done.stderr
    assert debian.contents() == before


def test_a_package_that_was_removed_but_not_purged(package: Path, debian: ScratchServer) -> None:
    """Purged later, it would take the configuration of the installation away."""
    must_dpkg(debian, "--install", str(package))
    must_dpkg(debian, "--remove", "compute-to-data")
    done = debian.run("install", "--no-venv")
    assert done.returncode == 1
    assert "was removed, but /etc/irods/compute_to_data.json still belongs to it" in done.stderr
    must_dpkg(debian, "--purge", "compute-to-data")
    debian.must("install", "--no-venv")
