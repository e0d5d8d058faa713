"""What workers need whose jobs run on a Slurm cluster: the directory that they share with its nodes. Of this host they
need less than others, so their unit may do less."""

from __future__ import annotations

import re

from installer.layout import InstallError, Layout
from installer.payload import UNIT, Item

_WORKER = """\
# Workers run no job on this host. They run Slurm's commands, and share a directory with the nodes.
[Service]
SupplementaryGroups=
ReadWritePaths={directory}
# Without jobs here, a worker needs no user namespace, and looks at no processes of others.
RestrictNamespaces=true
ProtectProc=invisible
"""


def files(layout: Layout, directory: str) -> dict[str, Item]:
    """The files, by their paths. ``directory``: the one of the engine's settings; '' for a host without Slurm.
    InstallError for one that a unit cannot name."""
    if not directory:
        return {}
    if not re.fullmatch(r"/[^\s\"'%\\]*", directory):
        raise InstallError(f"--slurm {directory}: expected an absolute path without spaces, quotes, '%' or backslashes")
    text = _WORKER.format(directory=directory)
    return {f"{layout.units}/{UNIT}.d/slurm.conf": Item(text.encode())}
