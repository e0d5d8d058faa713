"""Where everything is installed. Paths are those that the server sees; ``on_disk`` adds the root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


class InstallError(Exception):
    """Why the installer cannot continue, and what to do about it."""


@dataclass(frozen=True)
class Layout:
    """The paths of an installation. ``root`` is ``/`` on a live server, or a folder for an image build
    or a test.

    ``account`` is the iRODS service account, ``gateway_account`` the gateway's own. ``python`` is the interpreter
    of iRODS agents: the distribution's own, with which the rule engine plugin was built.
    """

    root: Path = Path("/")
    prefix: str = "/opt/compute-to-data"
    irods_configuration: str = "/etc/irods"
    irods_home: str = "/var/lib/irods"
    state_directory: str = "/var/lib/irods/compute_to_data"
    units: str = "/etc/systemd/system"
    account: str = "irods"
    gateway_account: str = "c2d-gateway"
    gateway_configuration: str = "/etc/compute_to_data"
    sysusers: str = "/etc/sysusers.d"
    python: str = "/usr/bin/python3"

    def on_disk(self, path: str) -> Path:
        """The place, below the root, of a path of the server."""
        return self.root / path.lstrip("/")

    def real(self, path: str) -> Path:
        """The same with symbolic links resolved. InstallError when a link leads out of the root."""
        place = self.on_disk(path).resolve()
        if self.root not in place.parents:
            link = self.on_disk(path)
            raise InstallError(f"{link} is a link to {place}, which is not below {self.root}. Replace the link")
        return place

    @property
    def is_live(self) -> bool:
        """Whether we install on the running server, not below another root."""
        return self.root == Path("/")

    @property
    def agent(self) -> str:
        """The folder of the package for the agents' Python. It holds nothing else, so it can come first
        on their path without hiding other modules."""
        return f"{self.prefix}/agent"

    @property
    def venv(self) -> str:
        """The workers' virtual environment."""
        return f"{self.prefix}/venv"

    @property
    def gateway_venv(self) -> str:
        """The gateway's virtual environment."""
        return f"{self.prefix}/gateway-venv"

    @property
    def environments(self) -> tuple[str, str]:
        """All virtual environments."""
        return self.venv, self.gateway_venv

    @property
    def trees(self) -> tuple[str, ...]:
        """The folders below the prefix that hold nothing of others."""
        return self.agent, *self.environments, f"{self.prefix}/share/doc", f"{self.prefix}/packaging"

    @property
    def configuration(self) -> str:
        """The site's configuration."""
        return f"{self.irods_configuration}/compute_to_data.json"

    @property
    def core(self) -> str:
        """The core.py that the Python rule engine loads."""
        return f"{self.irods_configuration}/core.py"

    @property
    def record(self) -> str:
        """The manifest of what was installed."""
        return f"{self.prefix}/manifest.json"

    @property
    def gateway_settings(self) -> str:
        """The gateway's configuration."""
        return f"{self.gateway_configuration}/gateway.json"

    def account_ids(self, account: str = "") -> tuple[int, int] | None:
        """The uid and gid of an account, by default the service account; None when it does not exist."""
        account = account or self.account
        if self.is_live:
            try:
                found = pwd.getpwnam(account)
            except KeyError:
                return None
            return found.pw_uid, found.pw_gid
        try:
            lines = self.on_disk("/etc/passwd").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        for line in lines:
            fields = line.split(":")
            if fields[0] == account and len(fields) > 3:
                return int(fields[2]), int(fields[3])
        return None


def replace_file(
    path: Path, content: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None, *, durable: bool = False
) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part. ``durable``: this
    also holds after a loss of power; use it for files that are not ours."""
    temporary = path.with_name(f".{path.name}.installing")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            if owner is not None and os.geteuid() == 0:
                os.fchown(file.fileno(), *owner)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk names no file by itself
