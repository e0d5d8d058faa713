"""The worker's systemd unit, and the program that starts a worker by hand."""

from __future__ import annotations

import configparser
import getpass
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from installer import payload
from installer.layout import Layout
from support.confined import Service
from support.site import TrialSite

from compute_to_data.coordination.lock import ResourceLock
from compute_to_data.engines.docker import memory_groups

from .conftest import CHECKOUT


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A layout in one folder, with this test's interpreter in place of the workers' environment."""
    prefix = tmp_path / "opt"
    (prefix / "venv" / "bin").mkdir(parents=True)
    python = prefix / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return Layout(
        prefix=str(prefix),
        irods_configuration=str(tmp_path),
        state_directory=str(tmp_path / "state"),
        account=getpass.getuser(),
    )


def _unit(layout: Layout, folder: Path) -> Path:
    path = folder / payload.UNIT
    path.write_text(payload.filled(payload.UNIT, layout))
    return path


def test_the_unit_is_hardened(layout: Layout, tmp_path: Path) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(_unit(layout, tmp_path))
    service = parser["Service"]
    assert service["User"] == layout.account
    assert service["ReadWritePaths"] == layout.state_directory, "only a drop-in adds the vault"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == service["PrivateTmp"] == service["ProtectHome"] == "true"
    assert service["CapabilityBoundingSet"] == service["AmbientCapabilities"] == ""
    assert service["RestrictNamespaces"] == "true"
    assert service["ProtectProc"] == "invisible"
    assert service["SupplementaryGroups"] == "docker", "only the worker, not the account, is in the group"


def test_the_guard_has_two_capabilities_and_no_network(layout: Layout, tmp_path: Path) -> None:
    unit = tmp_path / payload.GUARD
    unit.write_text(payload.filled(payload.GUARD, layout))
    service = Service(unit)
    assert service.last("CapabilityBoundingSet") == service.last("AmbientCapabilities") == "CAP_SETUID CAP_SETGID"
    assert service.last("User") == layout.account
    assert service.last("PrivateNetwork") == "true"
    assert service.last("RestrictNamespaces") == "user"
    assert service.last("ReadWritePaths") is None
    assert service.last("KillMode") == "process", "a worker's own helper ends with the worker"


def test_the_workers_memory_and_threads_are_bounded(layout: Layout, tmp_path: Path) -> None:
    """``MemoryMax`` is above what a worker may use (150 MB) and far below the memory of a server."""
    service = Service(_unit(layout, tmp_path))
    assert service.last("MemoryMax") == "512M"
    assert service.last("MemorySwapMax") == "0", "secrets in memory files must not reach a disk"
    slots = json.loads((CHECKOUT / "compute_to_data/documents/schemas/configuration.json").read_text())
    most = slots["properties"]["worker"]["properties"]["slots"]["maximum"]
    assert 4 * most <= int(service.last("TasksMax") or 0)


def test_jobs_weigh_less_than_the_iRODS_server(tmp_path: Path) -> None:
    """The slice that systemd applies is the one below which the engine makes each job's control group."""
    assert f"{memory_groups.slice_name('scope', 1).partition('-')[0]}.slice" == payload.SLICE
    weights = dict(
        line.split("=") for line in payload.filled(payload.SLICE, Layout()).splitlines() if "Weight=" in line
    )
    assert set(weights) == {"CPUWeight", "IOWeight"}
    assert all(int(weight) < 100 for weight in weights.values()), "a service weighs 100 by default"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_understands_the_unit(layout: Layout, tmp_path: Path) -> None:
    """With an ordinary account, like that of an iRODS server: systemd rates a service of root by other rules."""
    layout = replace(layout, account="daemon")
    unit = _unit(layout, tmp_path)
    others = [tmp_path / name for name in (payload.GUARD, payload.QUOTAS, payload.NODE, payload.SLICE)]
    for other in others:
        other.write_text(payload.filled(other.name, layout))
    command = ["systemd-analyze", "verify", "--man=no", str(unit), *map(str, others)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert str(unit.name).split("@")[0] not in verified.stderr, verified.stderr
    assert not any(other.name in verified.stderr for other in others), verified.stderr
    for one, most in ((unit, 20), (others[0], 15), (others[1], 15), (others[2], 14)):
        command = ["systemd-analyze", "security", "--offline=true", f"--threshold={most}", str(one)]
        rated = subprocess.run(command, capture_output=True, text=True, check=False)
        assert rated.returncode == 0, f"exposed more than {most} of 100:\n{rated.stdout}\n{rated.stderr}"


@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv here")
def test_by_hand_a_worker_starts_once_and_stops(layout: Layout, site: TrialSite, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    document = json.loads(site.configuration_file.read_text())
    document["worker"]["state_directory"] = str(state)
    Path(layout.configuration).write_text(json.dumps(document))
    program = tmp_path / "compute-to-data-worker"
    packages = os.pathsep.join(path for path in sys.path if path)
    text = payload.filled("compute-to-data-worker", layout).replace(" -I -m compute_to_data", " -m compute_to_data")
    program.write_text(text.replace("set -eu", f"set -eu\nexport PYTHONPATH='{packages}'"))
    program.chmod(0o755)

    def say(verb: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(program), verb, "dsp_resc"], capture_output=True, text=True, check=False, timeout=60)

    assert say("status").returncode == 3
    started = say("start")
    assert started.returncode == 0, started.stderr
    try:
        assert "is already running" in say("start").stdout
        assert say("status").returncode == 0
        from compute_to_data import site_file

        lock = ResourceLock(site_file.load(layout.configuration), "tempZone", "dsp_resc")
        from support.site import wait_until

        wait_until(lock.is_held, "the worker to serve")
    finally:
        stopped = say("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert not lock.is_held()
    assert say("status").returncode == 3


@pytest.mark.parametrize("arguments", [[], ["start"], ["begin", "dsp_resc"], ["start", "a/b"], ["stop", "-x"]])
def test_by_hand_wrong_arguments_are_refused(layout: Layout, tmp_path: Path, arguments: list[str]) -> None:
    program = tmp_path / "compute-to-data-worker"
    program.write_text(payload.filled("compute-to-data-worker", layout))
    done = subprocess.run(["sh", str(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
