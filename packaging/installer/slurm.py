"""What workers need whose jobs run on a Slurm cluster: the directory that they share with its nodes, and no engine of
this host."""

from __future__ import annotations

import re

from installer.layout import InstallError, Layout
from installer.payload import UNIT, Item

_WORKER = """\
# Workers run no job on this host. They run Slurm's commands, and share a directory with the nodes.
[Service]
SupplementaryGroups=
ReadWritePaths={directory}
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
