"""What must be there first, and what will be missing afterwards; each with what to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from installer import core_block, server_config
from installer.layout import InstallError, Layout
from installer.manifest import Manifest, checksum

_PLUGIN = "/usr/lib/irods/plugins/rule_engines/libirods_rule_engine_plugin-python.so"
OLDEST_IRODS = (4, 3, 2)


@dataclass(frozen=True)
class Missing:
    """What is not as it must be, and what to do. ``stops``: nothing can be installed before that."""

    what: str
    remedy: str
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}."


def before_installing(layout: Layout, record: Manifest, force: bool) -> list[Missing]:
    """Everything that is missing, what stops us first."""
    found = [*_installer(layout), *_python(layout), *_core(layout, record, force), *_changes(layout, record, force)]
    return sorted([*found, *of_the_server(layout)], key=lambda one: not one.stops)


def of_the_server(layout: Layout) -> list[Missing]:
    """What the server itself lacks; the installation works once it has that."""
    return [*_account(layout), *_irods(layout), *_rule_engines(layout), *_docker(layout)]


def _installer(layout: Layout) -> Iterator[Missing]:
    if layout.is_live and os.geteuid() != 0:
        yield Missing("this is not root", "Run it with sudo, or below another root with --root", stops=True)
    if layout.on_disk("/var/lib/dpkg/info/compute-to-data.list").exists():
        yield Missing("the Debian package compute-to-data is installed", "Use apt to upgrade or remove it", stops=True)


def _python(layout: Layout) -> Iterator[Missing]:
    program = "import sys, ensurepip, venv; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([layout.python, "-I", "-c", program], capture_output=True, text=True, check=False)
    except OSError as error:
        yield Missing(f"{layout.python} does not run ({error.strerror})", "Install the distribution's python3", True)
        return
    if done.returncode != 0:
        yield Missing(
            f"{layout.python} cannot make virtual environments", "On Debian: apt-get install python3-venv", True
        )
    elif tuple(map(int, done.stdout.split())) < (3, 9):
        yield Missing(f"{layout.python} is older than 3.9", "Name another with --python", stops=True)


def _core(layout: Layout, record: Manifest, force: bool) -> Iterator[Missing]:
    place = layout.on_disk(layout.core)
    if not place.exists():
        return
    try:
        text = core_block.read(layout.real(layout.core))
        block = core_block.find(text)
        compile(text, layout.core, "exec", dont_inherit=True)
    except (InstallError, SyntaxError, UnicodeDecodeError) as error:
        yield Missing(f"{layout.core} cannot be added to: {error}", "Mend it first", stops=True)
        return
    if block and checksum(block.encode()) not in record.block and not force:
        yield Missing(
            f"our block in {layout.core} was edited, or its record is gone",
            "Move your edits outside of the marker lines; with --force it is written anew",
            stops=True,
        )


def _changes(layout: Layout, record: Manifest, force: bool) -> Iterator[Missing]:
    pip_s_own = f"{layout.venv}/"
    mine = [path for path in record.files if path not in record.defaults and not path.startswith(pip_s_own)]
    changed = record.changed(layout, mine)
    if changed and not force:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        yield Missing(
            f"changed since they were installed: {', '.join(changed[:5])}{more}",
            "Keep your changes elsewhere; with --force these files are written anew",
            stops=True,
        )


def _account(layout: Layout) -> Iterator[Missing]:
    if layout.account_ids() is None:
        yield Missing(
            f"there is no account {layout.account}",
            "The iRODS packages and their setup make it; the worker runs under it",
        )


def _irods(layout: Layout) -> Iterator[Missing]:
    names = [f"{layout.irods_home}/version.json", f"{layout.irods_home}/version.json.dist"]
    place = next((layout.on_disk(name) for name in names if layout.on_disk(name).exists()), None)
    if place is None:
        yield Missing(f"no iRODS server is here: {names[0]} is missing", "Install irods-server and set it up")
        return
    try:
        version = str(json.loads(place.read_text(encoding="utf-8"))["irods_version"])
        known = tuple(int(part) for part in version.split(".")[:3])
    except (ValueError, KeyError, TypeError, OSError):
        yield Missing(f"{place} does not tell the iRODS version", "Is its setup finished?")
        return
    if known < OLDEST_IRODS:
        yield Missing(f"this is iRODS {version}", "Rights are as expected here from 4.3.2 on: upgrade it")
    if not layout.on_disk(_PLUGIN).exists():
        yield Missing(
            "the Python rule engine plugin is not installed", "Install irods-rule-engine-plugin-python of that version"
        )


def _rule_engines(layout: Layout) -> Iterator[Missing]:
    try:
        wrong = server_config.problem(server_config.read(layout))
    except FileNotFoundError:
        yield Missing(f"{server_config.path(layout)} is missing", "Set the iRODS server up: setup_irods.py")
        return
    except (InstallError, OSError) as error:
        yield Missing(f"the rule engines cannot be seen: {error}", "Mend it, then look again")
        return
    if wrong:
        yield Missing(
            wrong,
            f"Put this before the native one's: {json.dumps(server_config.STANZA)}, or let --edit-server-config do "
            "it; then have the server read it (5.0: kill -HUP, 4.3: the next connection does)",
        )


def _docker(layout: Layout) -> Iterator[Missing]:
    if not layout.is_live:
        return
    if shutil.which("docker") is None and not os.path.exists("/var/run/docker.sock"):
        yield Missing("Docker is not here", "On a compute resource's server, install it (Debian: docker.io)")
