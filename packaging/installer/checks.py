"""Checks before an installation: what is missing, and what the administrator can do about it."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from installer import core_block, gateway_account, podman, server_config, wheels
from installer.environment import Environment
from installer.layout import InstallError, Layout
from installer.manifest import Manifest, checksum
from installer.payload import Checkout

_PLUGIN = "/usr/lib/irods/plugins/rule_engines/libirods_rule_engine_plugin-python.so"
OLDEST_IRODS = (4, 3, 2)


@dataclass(frozen=True)
class Missing:
    """Something missing or wrong, and its remedy. ``stops``: we cannot install before it is repaired."""

    what: str
    remedy: str
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.what}. {self.remedy}."


def before_installing(layout: Layout, record: Manifest, force: bool) -> list[Missing]:
    """Everything that is missing; what stops us comes first."""
    found = [*_installer(layout), *_python(layout), *_core(layout, record, force), *_changes(layout, record, force)]
    return sorted([*found, *of_the_server(layout)], key=lambda one: not one.stops)


def of_the_wheels(checkout: Checkout, environments: Iterable[Environment], folder: Path) -> Iterator[Missing]:
    """What the folder of wheels lacks, when one of these environments needs it."""
    if all(one.is_current(checkout) for one in environments):
        return
    try:
        wheels.own(checkout, folder)
    except InstallError as error:
        cause, _, remedy = str(error).rpartition(". ")
        yield Missing(cause, remedy, stops=True)


def of_the_server(layout: Layout) -> list[Missing]:
    """What the iRODS server lacks. It does not stop an installation, which works once the server has it."""
    return [*_account(layout), *_irods(layout), *_rule_engines(layout), *_docker(layout), *_job_accounts(layout)]


def _installer(layout: Layout) -> Iterator[Missing]:
    if layout.is_live and os.geteuid() != 0:
        yield Missing("you are not root", "Run it with sudo, or give another root with --root", stops=True)
    yield from of_a_package(layout)


def of_a_package(layout: Layout) -> Iterator[Missing]:
    """A package of ours that is here. Two installers that write the same files could not remove them cleanly."""
    beside = f"For --worker, --podman and --edit-server-config, run {layout.prefix}/packaging/install configure"
    database = "/var/lib/dpkg/info/compute-to-data"
    if layout.on_disk(f"{database}.prerm").exists():
        cause = "the Debian package compute-to-data is installed"
        yield Missing(cause, f"Use apt to upgrade or remove it. {beside}", stops=True)
    elif layout.on_disk(f"{database}.list").exists():  # purging it later would remove our configuration
        cause = f"the Debian package compute-to-data was removed, but {layout.configuration} still belongs to it"
        remedy = "Keep a copy of your configuration elsewhere, and run: dpkg --purge compute-to-data"
        yield Missing(cause, remedy, stops=True)
    if layout.on_disk(f"{layout.prefix}/share/package").exists():
        cause = "the RPM package compute-to-data is installed"
        yield Missing(cause, f"Use dnf to upgrade or remove it. {beside}", stops=True)


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
        yield Missing(f"{layout.python} is older than 3.9", "Give a newer one with --python", stops=True)


def _core(layout: Layout, record: Manifest, force: bool) -> Iterator[Missing]:
    place = layout.on_disk(layout.core)
    if not place.exists():
        return
    try:
        text = core_block.read(layout.real(layout.core))
        block = core_block.find(text)
        compile(text, layout.core, "exec", dont_inherit=True)
    except (InstallError, SyntaxError, UnicodeDecodeError) as error:
        yield Missing(f"our block cannot be added to {layout.core}: {error}", "Repair the file first", stops=True)
        return
    if block and checksum(block.encode()) not in record.block and not force:
        yield Missing(
            f"our block in {layout.core} was edited, or its record was lost",
            "Move your edits outside the marker lines, or let --force overwrite the block",
            stops=True,
        )


def _changes(layout: Layout, record: Manifest, force: bool) -> Iterator[Missing]:
    venvs = tuple(f"{place}/" for place in layout.environments)
    mine = [path for path in record.files if path not in record.defaults and not path.startswith(venvs)]
    changed = record.changed(layout, mine)
    if changed and not force:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        yield Missing(
            f"files were changed since their installation: {', '.join(changed[:5])}{more}",
            "Keep a copy of your changes elsewhere, and let --force overwrite these files",
            stops=True,
        )


def _account(layout: Layout) -> Iterator[Missing]:
    if layout.account_ids() is None:
        yield Missing(
            f"the account {layout.account}, under which workers run, does not exist",
            "Install and set up iRODS, which creates it, or name another with --account",
        )


def _irods(layout: Layout) -> Iterator[Missing]:
    names = [f"{layout.irods_home}/version.json", f"{layout.irods_home}/version.json.dist"]
    place = next((layout.on_disk(name) for name in names if layout.on_disk(name).exists()), None)
    if place is None:
        yield Missing(f"this host has no iRODS server: {names[0]} is missing", "Install irods-server and set it up")
        return
    try:
        version = str(json.loads(place.read_text(encoding="utf-8"))["irods_version"])
        known = tuple(int(part) for part in version.split(".")[:3])
    except (ValueError, KeyError, TypeError, OSError):
        yield Missing(f"{place} does not contain the version of iRODS", "Finish the setup of the iRODS server")
        return
    if known < OLDEST_IRODS:
        cause = f"this server runs iRODS {version}, whose access rights differ from those we rely on"
        yield Missing(cause, "Upgrade iRODS to 4.3.2 or later")
    if not layout.on_disk(_PLUGIN).exists():
        remedy = f"Install irods-rule-engine-plugin-python for iRODS {version}"
        yield Missing("the Python rule engine plugin is not installed", remedy)


def _rule_engines(layout: Layout) -> Iterator[Missing]:
    try:
        wrong = server_config.problem(server_config.read(layout))
    except FileNotFoundError:
        yield Missing(f"{server_config.path(layout)} is missing", "Set up the iRODS server: setup_irods.py")
        return
    except (InstallError, OSError) as error:
        yield Missing(f"the rule engines cannot be checked: {error}", "Repair the file, then run this again")
        return
    if wrong:
        yield Missing(
            wrong,
            f"Put this entry before the native engine's: {json.dumps(server_config.STANZA)}, or let "
            "--edit-server-config do it. iRODS 5.0 reads the file after kill -HUP, 4.3 at the next connection",
        )


def _docker(layout: Layout) -> Iterator[Missing]:
    if not layout.is_live:
        return
    if shutil.which("docker") is None and not os.path.exists("/var/run/docker.sock"):
        yield Missing("Docker is not installed", "If this host has a compute resource, install it (Debian: docker.io)")


def _job_accounts(layout: Layout) -> Iterator[Missing]:
    """What a uid of its own for each job needs where no systemd starts our guard."""
    if layout.is_live and not os.path.isdir("/run/systemd/system") and shutil.which("newuidmap") is None:
        yield Missing(
            "newuidmap is not installed, so that workers on demand cannot give jobs user ids of their own",
            "If this host has workers on demand, install it (Debian: uidmap, Red Hat: shadow-utils-subid)",
        )


def of_the_gateway(layout: Layout) -> Iterator[Missing]:
    """What the gateway lacks. It must not run under an account that can use the engine or the vaults."""
    if layout.gateway_account in (layout.account, "root"):
        cause = f"the gateway must not run as {layout.gateway_account}, which may do more than its users"
        yield Missing(cause, "Name another account with --gateway-account", stops=True)
    elif gateway_account.is_missing(layout) and not gateway_account.can_be_made(layout):
        cause = f"the account {layout.gateway_account} does not exist, and there is no systemd-sysusers to make it"
        yield Missing(cause, f"Run useradd --system {layout.gateway_account}")


def of_podman(layout: Layout) -> Iterator[Missing]:
    """What the engine podman lacks."""
    if layout.account_ids() is None:
        yield Missing(f"the account {layout.account} does not exist", "Create it first", stops=True)
    elif layout.is_live:
        for program, package in podman.missing_programs():
            yield Missing(
                f"{program} is not installed, which the engine podman needs", f"Install it (Debian: {package})"
            )


def of_slurm(layout: Layout, directory: str) -> Iterator[Missing]:
    """What the directory lacks that ``--slurm`` names; '' for a host without Slurm."""
    if directory and not layout.on_disk(directory).is_dir():
        cause = f"{directory}, which --slurm names, is not a directory here"
        yield Missing(cause, "Mount the one that the cluster's nodes share, or create it, on all of them")


def of_the_vaults(layout: Layout, workers: Mapping[str, str]) -> Iterator[Missing]:
    """What the vaults lack that ``--worker`` names. It writes nothing into them."""
    for resource, vault in workers.items():
        place = layout.on_disk(vault)
        try:
            os.getxattr(place, "system.posix_acl_access")
        except FileNotFoundError:
            yield Missing(
                f"{vault}, the vault of {resource}, does not exist", "Create the resource first: iadmin mkresc"
            )
        except OSError as error:
            if error.errno != errno.ENODATA:  # no access list yet, but the file system could hold one
                cause = f"{vault}, the vault of {resource}, cannot hold POSIX access lists ({error.strerror})"
                yield Missing(cause, "Mount its file system with ACLs (ext4: acl), or use XFS or ext4")
