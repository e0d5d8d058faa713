"""The gateway under the properties of its unit: account, capabilities, system calls and, with systemd, namespaces."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from installer import payload
from installer.layout import Layout
from support.confined import Service, allowed_calls
from support.gateways import PASSWORDS, give_passwords
from support.site import COMPUTE, PATIENCE, TrialSite
from support.worker_unit import HAS_SYSTEMD, unit_process

ACCOUNT = "daemon"
"""An ordinary account that every Debian has, in place of the gateway's."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder below /var/lib, because a service with this unit cannot see our /tmp and /home."""
    if os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail("CI must run this test as root: a service of another account is started")
        pytest.skip("only root can start a service of another account")
    folder = Path(tempfile.mkdtemp(prefix="c2d-gateway-", dir="/var/lib"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _environment(folder: Path, wheels: Path) -> None:
    """The gateway's environment with Debian's Python, because another account may not be able to run ours."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "--disable-pip-version-check"]
    install = ["install", "--quiet", "--ignore-installed", "--no-index", "--find-links", str(wheels)]
    subprocess.run([*pip, *install, "compute-to-data[gateway]"], check=True, timeout=5 * PATIENCE)


def _give(folder: Path) -> None:
    account = pwd.getpwnam(ACCOUNT)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)


def test_it_serves_under_the_units_own_properties(place: Path, wheels: Path) -> None:
    layout = Layout(prefix=str(place), gateway_configuration=str(place), gateway_account=ACCOUNT)
    _environment(Path(layout.gateway_venv), wheels)
    (place / "site").mkdir()
    (place / "tools").mkdir()
    site = TrialSite(place / "site", {"name": "process", "images": {"tools": str(place / "tools")}}, "tools")
    give_passwords(site)
    _give(place / "site")
    zone = {"kind": "embedded", "directory": site.zone.directory}
    document = {"zone": zone, "site": str(site.configuration_file), "listen": {"port": 0}}
    Path(layout.gateway_settings).write_text(json.dumps(document))
    unit = place / payload.GATEWAY
    # An iRODS zone is out on the network. This one is in a folder.
    text = payload.filled(payload.GATEWAY, layout)
    unit.write_text(text.replace("[Service]\n", f"[Service]\nReadWritePaths={place}/site\n"))

    with unit_process(unit) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, auth=("alice", PASSWORDS["alice"]), timeout=PATIENCE, trust_env=False) as alice:
            assert alice.get("/readyz").json() == {"status": "ok", "zone": "tempZone"}
            task = alice.post("/api/v1/tasks", json=site.request("/bin/true")).json()
            assert task["resource"] == COMPUTE
            stored = alice.put("/api/v1/secrets/A", content=b"value")
            assert stored.status_code == 201, stored.text
        if not HAS_SYSTEMD:  # there the process of systemd-run is another one
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert f"Uid:\t{pwd.getpwnam(ACCOUNT).pw_uid}\t" in status
            assert "CapEff:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
            assert "Seccomp:\t2" in status


def test_a_forbidden_system_call_fails_and_does_not_kill_the_gateway(tmp_path: Path) -> None:
    unit = tmp_path / payload.GATEWAY
    unit.write_text(payload.filled(payload.GATEWAY, Layout()))
    service = Service(unit)
    allowed = allowed_calls(service.every("SystemCallFilter"))
    assert {"openat", "execve", "connect", "listen"} <= allowed
    forbidden = {"setuid", "setresuid", "setgroups", "chroot", "chown", "setpriority", "bpf", "mount", "ptrace"}
    assert not forbidden & allowed
    assert service.last("SystemCallErrorNumber") == "EPERM"
