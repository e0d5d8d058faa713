"""The gateway's own system account, which systemd-sysusers makes of the file that we install.

It stays when we are removed, as on Debian and Red Hat: another account with its uid would own its files.
"""

from __future__ import annotations

import shutil
import subprocess

from installer.layout import InstallError, Layout
from installer.payload import GATEWAY_ACCOUNT

_PROGRAM = "systemd-sysusers"


def is_missing(layout: Layout) -> bool:
    """Whether there is no such account yet."""
    return layout.account_ids(layout.gateway_account) is None


def can_be_made(layout: Layout) -> bool:
    """Whether the account is missing and there is what makes it."""
    return is_missing(layout) and shutil.which(_PROGRAM) is not None


def make(layout: Layout) -> None:
    """Make the account. InstallError when that fails."""
    done = subprocess.run([_PROGRAM, f"--root={layout.root}", GATEWAY_ACCOUNT], capture_output=True, text=True)
    if done.returncode != 0 or is_missing(layout):
        cause = (done.stderr or done.stdout).strip() or "it says nothing"
        remedy = f"Make it with useradd --system {layout.gateway_account}, and run this again"
        raise InstallError(f"{_PROGRAM} did not make the account {layout.gateway_account}: {cause}. {remedy}")
