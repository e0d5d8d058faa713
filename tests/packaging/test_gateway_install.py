"""The gateway as ``packaging/install --gateway`` brings it: its environment, account, unit and configuration."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from installer import payload
from installer.layout import Layout
from support.confined import Service

from compute_to_data.gateway import settings

from .conftest import Installed, ScratchServer, make_server, without_network

VENV = "/opt/compute-to-data/gateway-venv"
UNIT = f"/etc/systemd/system/{payload.GATEWAY}"
SETTINGS = "/etc/compute_to_data/gateway.json"
ACCOUNT = "c2d-gateway"

pytestmark = pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="no systemd-sysusers here")


@pytest.fixture(scope="module")
def with_gateway(tmp_path_factory: pytest.TempPathFactory, checkout: Path, wheels: Path) -> Installed:
    """A server for the gateway and the rules, without a worker."""
    server = make_server(tmp_path_factory.mktemp("gateway") / "root", checkout)
    before = server.contents()
    offline = replace(server, before=without_network())
    output = offline.must("install", "--gateway", "--no-venv", "--wheels", str(wheels))
    return Installed(server, before, output, bool(offline.before))


def test_it_has_an_environment_of_its_own(with_gateway: Installed) -> None:
    """On Python 3.9, no urllib3 suits both the worker and the gateway."""
    server = with_gateway.server
    program = "import fastapi, irods, compute_to_data.gateway.serving as s; print(s.__file__)"
    python = server.path(f"{VENV}/bin/python")
    done = subprocess.run([str(python), "-I", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(server.path(VENV)))
    missing = subprocess.run([str(python), "-I", "-c", "import docker"], capture_output=True, check=False)
    assert missing.returncode == 1, "the gateway must not have the engine's client"
    assert not server.path("/opt/compute-to-data/venv").exists()


def test_its_account_is_made_and_is_in_no_other_group(with_gateway: Installed) -> None:
    passwd = with_gateway.server.path("/etc/passwd").read_text().splitlines()
    (line,) = [line for line in passwd if line.startswith(f"{ACCOUNT}:")]
    assert line.endswith(":/var/lib/compute-to-data-gateway:/usr/sbin/nologin")
    groups = [line for line in with_gateway.server.path("/etc/group").read_text().splitlines() if ACCOUNT in line]
    assert len(groups) == 1
    assert groups[0].startswith(f"{ACCOUNT}:")
    assert f"make the system account {ACCOUNT}" in with_gateway.output


def test_its_configuration_is_valid_and_listens_on_the_loopback(with_gateway: Installed) -> None:
    loaded = settings.load(str(with_gateway.server.path(SETTINGS)))
    assert (loaded.zone.kind, loaded.listen.address, loaded.listen.proxies) == ("irods", "127.0.0.1", ("127.0.0.1",))


def test_it_stays_up_to_date_without_the_option(with_gateway: Installed, wheels: Path) -> None:
    before = with_gateway.server.contents()
    assert "nothing to do" in with_gateway.server.must("install", "--no-venv", "--wheels", str(wheels))
    assert with_gateway.server.contents() == before


def test_a_dry_run_lists_all_changes_and_makes_none(server: ScratchServer, wheels: Path) -> None:
    before = server.contents()
    output = server.must("install", "--dry-run", "--gateway", "--no-venv", "--wheels", str(wheels))
    assert server.contents() == before
    for path in (VENV, UNIT, SETTINGS, "/etc/sysusers.d/compute-to-data-gateway.conf"):
        assert any(line.startswith(("would make ", "would write ")) and path in line for line in output.splitlines())
    assert f"would make the system account {ACCOUNT}" in output


def test_without_the_option_there_is_nothing_of_it(installed: Installed) -> None:
    names = [name for name in installed.server.contents() if "gateway" in name and "/agent/" not in name]
    ours = ("/site-packages/", "/share/doc/", "/share/locks/", "/packaging/installer/")
    assert [name for name in names if not any(part in f"/{name}" for part in ours)] == []
    python = installed.server.path("/opt/compute-to-data/venv/bin/python")
    found = subprocess.run([str(python), "-I", "-c", "import fastapi"], capture_output=True, check=False)
    assert found.returncode == 1, "the workers' environment must not have the gateway's libraries"


def test_uninstalling_leaves_only_the_account_and_names_it(with_gateway: Installed, tmp_path: Path) -> None:
    copy = ScratchServer(tmp_path / "root", with_gateway.server.checkout)
    shutil.copytree(with_gateway.server.root, copy.root, symlinks=True)
    output = copy.must("uninstall")
    assert f"left: the account {ACCOUNT}" in output
    left = {name for name in copy.contents() if name not in with_gateway.before}
    assert left <= {"etc/.pwd.lock", *(f"etc/{name}" for name in ("passwd", "group", "shadow", "gshadow"))}


@pytest.mark.parametrize("account", ["irods", "root"])
def test_it_never_runs_as_an_account_that_may_do_more(server: ScratchServer, wheels: Path, account: str) -> None:
    before = server.contents()
    done = server.run("install", "--gateway", "--gateway-account", account, "--wheels", str(wheels))
    assert done.returncode == 1
    assert f"STOP: the gateway must not run as {account}" in done.stderr
    assert server.contents() == before


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    layout = replace(Layout(), gateway_account="daemon", prefix=str(tmp_path))
    python = tmp_path / "gateway-venv/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/usr/bin/python3")
    unit = tmp_path / payload.GATEWAY
    unit.write_text(payload.filled(payload.GATEWAY, layout))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert payload.GATEWAY not in verified.stderr, verified.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert rated.returncode == 0, f"exposed more than 1.5 of 10:\n{rated.stdout}\n{rated.stderr}"


def test_the_unit_reaches_neither_the_engine_nor_the_servers_files(tmp_path: Path) -> None:
    unit = tmp_path / payload.GATEWAY
    unit.write_text(payload.filled(payload.GATEWAY, Layout()))
    service = Service(unit)
    assert service.last("User") == ACCOUNT
    assert service.every("SupplementaryGroups") == []
    assert service.last("InaccessiblePaths") == "-/var/lib/irods -/run/docker.sock"
    assert service.every("ReadWritePaths") == []
    assert service.last("MemorySwapMax") == "0"
