"""What the engine ``podman`` needs of the host: the account's own systemd, which runs without a session, has the
controllers of control groups and starts Podman's service; and workers that see its socket."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from installer.layout import InstallError, Layout
from installer.payload import PODMAN, UNIT, Item, filled

_SOCKET, _SERVICE = PODMAN
_OURS = "compute-to-data.conf"
_DELEGATION = """\
[Service]
# Memory, processors and processes of jobs can be limited only with these.
Delegate={}
# With the jobs of other engines: all together, they have less weight than the iRODS server.
Slice=c2d.slice
# For Podman's socket: compute-to-data-podman.socket says why there.
RuntimeDirectory=compute-to-data-podman
RuntimeDirectoryMode=0700
"""
_CONTROLLERS = "cpu cpuset io memory pids"
_WANTED = f"[Unit]\nWants={_SOCKET}\n"
_WORKER = """\
# Workers use the Podman of their own account, and no other engine.
[Unit]
Wants=user@{uid}.service
After=user@{uid}.service
# If the account's systemd ends while the worker runs, it starts again: without it, no job could.
Upholds=user@{uid}.service

[Service]
SupplementaryGroups=
"""
PROGRAMS = {
    "podman": "podman",
    "crun": "crun",
    "newuidmap": "uidmap, Red Hat: shadow-utils-subid",
    "tini": "tini",
}
"""What must be installed, with the packages of Debian."""


def files(layout: Layout) -> dict[str, Item]:
    """The files, by their paths. InstallError when the account does not exist."""
    ids = layout.account_ids()
    if ids is None:
        raise InstallError(f"--podman: the account {layout.account} does not exist. Create it first")
    users, uid = f"{os.path.dirname(layout.units)}/user", ids[0]
    return {
        f"{users}/{_SOCKET}": Item(filled(_SOCKET, layout).encode()),
        f"{users}/{_SERVICE}": Item(filled(_SERVICE, layout).encode()),
        f"{users}/sockets.target.d/{_OURS}": Item(_WANTED.encode()),
        f"{layout.units}/user@{uid}.service.d/{_OURS}": Item(_DELEGATION.format(_CONTROLLERS).encode()),
        f"{layout.units}/{UNIT}.d/podman.conf": Item(_WORKER.format(uid=uid).encode()),
        # As loginctl enable-linger does: the account's systemd runs from the start of the host.
        f"/var/lib/systemd/linger/{layout.account}": Item(b"", shared=True),
    }


def is_installed(files: Mapping[str, object]) -> bool:
    """Whether an earlier installation has set it up. ``files``: those of the record."""
    return any(path.endswith(f"/user/{_SERVICE}") for path in files)


def left(layout: Layout) -> Iterator[str]:
    """What stays when the rest is removed, and why: we end no job, and remove no image."""
    unit = account_unit(layout)
    if layout.is_live and os.path.isdir("/run/systemd/system") and _is_active(unit):
        yield f"{unit}: jobs may run in it. The account's systemd and its Podman end with: systemctl stop {unit}"
    images = f"{layout.irods_home}/.local/share/containers"
    if layout.on_disk(images).exists():
        yield f"{images}: the account's images. Some of their files belong to ids that another account may get later"


def account_unit(layout: Layout) -> str:
    """The unit of the account's own systemd."""
    ids = layout.account_ids()
    return f"user@{ids[0] if ids else layout.account}.service"


def _is_active(unit: str) -> bool:
    return subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode == 0


def missing_programs() -> Iterator[tuple[str, str]]:
    """Programs that this host lacks, with their packages."""
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None and not (program == "tini" and shutil.which("docker-init")):
            yield program, package
