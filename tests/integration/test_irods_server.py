"""A broken installation of this package costs a zone our rules, and nothing else.

``tests/support/irods_site.py`` and ``irods_server.py`` say what these tests need.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.irods_server import CORE, Installed, rules
from support.irods_site import ENVIRONMENT, NO_ZONE, RealSite
from support.reading import ENOUGH
from support.service_worker import PYTHON, SOURCES

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

NATIVE = "irods_rule_engine_plugin-irods_rule_language-instance"

pytestmark = pytest.mark.skipif(
    not (os.environ.get(ENVIRONMENT) and os.environ.get(CORE)), reason=f"{NO_ZONE[:-1]} and {CORE})"
)


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    """A site that starts workers on demand. Agents use its configuration during the tests."""
    tools = zone.make_place("tools")
    python = os.environ.get(PYTHON) or sys.executable
    command = ["/usr/bin/env", f"PYTHONPATH={SOURCES}", "PYTHONDONTWRITEBYTECODE=1", python, "-m"]
    worker = {
        "state_directory": str(zone.make_place("state")),
        "poll_seconds": 0.5,
        "idle_seconds": 1,
        "on_demand": True,
        "command": [*command, "compute_to_data.worker"],
    }
    roles = {tools.name: {"implementation": "compute_to_data.roles.container:Container"}}
    engine = {"name": "process", "images": {"tools": str(tools)}}
    return RealSite(zone, "tools", engine, roles=roles, worker=worker)


@pytest.fixture
def installed(zone: IrodsZoneUnderTest, site: RealSite) -> Iterator[Installed]:
    with rules(zone, site) as found:
        yield found


def _request(installed: Installed) -> str:
    path = installed.site.put("x.txt", b"abc") if not _has(installed, "x.txt") else f"{installed.site.home}/in/x.txt"
    document = installed.site.request(
        "/bin/sh", "-c", "cat /inputs/x.txt > /outputs/y.txt", inputs=[path], resource=installed.compute
    )
    request = f"{installed.site.home}/task.json"
    installed.site.alice.write(request, json.dumps(document).encode(), force=True)
    return request


def _has(installed: Installed, name: str) -> bool:
    children = installed.site.alice.children(f"{installed.site.home}/in")
    return any(one.logical_path.endswith(f"/{name}") for one in children)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _half_copied(package: Path) -> None:
    files = sorted(package.rglob("*.py"))
    for file in files[len(files) // 2 :]:
        file.unlink()


MISHAPS: dict[str, Callable[[Installed], object]] = {
    "deleted": lambda it: shutil.rmtree(it.package),
    "half copied": lambda it: _half_copied(it.package),
    "cut off in the middle": lambda it: _cut(it.package / "rulebase.py"),
    "a syntax error at the door": lambda it: (it.package / "rule.py").write_text("def rule(:\n"),
    "a syntax error deep inside": lambda it: (it.package / "records" / "task.py").write_text("def record(:\n"),
    "a module that leaves": lambda it: (it.package / "rulebase.py").write_text("raise SystemExit(1)\n"),
    "not readable": lambda it: (it.package / "rulebase.py").chmod(0),
    "configuration malformed": lambda it: it.configuration.write_text('{"zone": '),
    "configuration of another kind": lambda it: it.configuration.write_text('{"zone": {"kind": "marble"}}'),
    "configuration gone": lambda it: it.configuration.unlink(),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_the_zone_survives_a_broken_package(installed: Installed, mishap: str) -> None:
    request = _request(installed)
    MISHAPS[mishap](installed)
    local = installed.site.place / "local.txt"
    local.write_text("as before\n")
    home = installed.site.home
    assert installed.type("ils", home).returncode == 0
    assert installed.type("iput", "-f", str(local), f"{home}/put.txt").returncode == 0
    assert installed.type("iget", f"{home}/put.txt", "-").stdout == "as before\n"
    before = installed.type("ils", "-Alr", home).stdout
    output = installed.dispatch(request)
    assert re.search(r"not installed correctly|internal error|compute_to_data\.json", output.stdout), (
        output.stdout + output.stderr
    )
    assert installed.dispatch(request, "-r", NATIVE).returncode != 0
    assert installed.type("ils", "-Alr", home).stdout == before


def test_a_rule_starts_a_worker_on_demand(installed: Installed) -> None:
    """It has only the package: no systemd unit, and no worker started by hand."""
    output = installed.dispatch(_request(installed))
    assert " COMPLETED\n" in output.stdout, output.stdout + output.stderr
    (collection,) = re.findall(r"results in (\S+): ", output.stdout)
    listed = installed.type("ils", "-l", collection).stdout
    assert re.search(rf"{installed.site.alice.user.name} +0 {installed.compute} .* & y.txt", listed), listed
    assert installed.site.alice.read(f"{collection}/y.txt", ENOUGH) == b"abc"
    status = os.stat(_physical(installed, f"{collection}/y.txt"))
    assert status.st_uid == installed.site.place.stat().st_uid, "the service account owns it"


def _physical(installed: Installed, path: str) -> str:
    found = installed.site.alice.stat(path)
    return found.replicas[0].physical_path  # type: ignore[union-attr]
