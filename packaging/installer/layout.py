"""Where everything goes. Paths are as the server will see them; ``on_disk`` adds the root."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path


class InstallError(Exception):
    """Why it cannot go on, and what to do, in words."""


@dataclass(frozen=True)
class Layout:
    """``root`` holds everything: ``/`` on a live server, another for an image build or a test.

    ``account`` is the service account, ``python`` the interpreter that the agent's plugin was
    built with: the distribution's own.
    """

    root: Path = Path("/")
    prefix: str = "/opt/compute-to-data"
    irods_configuration: str = "/etc/irods"
    irods_home: str = "/var/lib/irods"
    state_directory: str = "/var/lib/irods/compute_to_data"
    units: str = "/etc/systemd/system"
    account: str = "irods"
    python: str = "/usr/bin/python3"

    def on_disk(self, path: str) -> Path:
        """Where a path of the server lies while we work."""
        return self.root / path.lstrip("/")

    def real(self, path: str) -> Path:
        """The same behind symbolic links. InstallError for a link that leads out of the root."""
        place = self.on_disk(path).resolve()
        if self.root not in place.parents:
            raise InstallError(f"{self.on_disk(path)} is a link to {place}, which is not below {self.root}")
        return place

    @property
    def is_live(self) -> bool:
        """Whether this is the running server itself."""
        return self.root == Path("/")

    @property
    def agent(self) -> str:
        """Holds the package for the agent's Python, and nothing else: put first on its path, it
        shadows nobody's modules."""
        return f"{self.prefix}/agent"

    @property
    def venv(self) -> str:
        """The worker's virtual environment."""
        return f"{self.prefix}/venv"

    @property
    def configuration(self) -> str:
        """The site's configuration."""
        return f"{self.irods_configuration}/compute_to_data.json"

    @property
    def core(self) -> str:
        """What the Python rule engine loads."""
        return f"{self.irods_configuration}/core.py"

    @property
    def record(self) -> str:
        """The manifest of what was installed."""
        return f"{self.prefix}/manifest.json"

    def account_ids(self) -> tuple[int, int] | None:
        """uid and gid of the service account; None where there is no such account (yet)."""
        if self.is_live:
            try:
                found = pwd.getpwnam(self.account)
            except KeyError:
                return None
            return found.pw_uid, found.pw_gid
        try:
            lines = self.on_disk("/etc/passwd").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        for line in lines:
            fields = line.split(":")
            if fields[0] == self.account and len(fields) > 3:
                return int(fields[2]), int(fields[3])
        return None


def replace_file(
    path: Path, content: bytes, mode: int = 0o644, owner: tuple[int, int] | None = None, *, durable: bool = False
) -> None:
    """Write a file so that whoever reads it sees the old content or the new, never a part;
    ``durable``: not even after a loss of power, for what is not ours."""
    temporary = path.with_name(f".{path.name}.installing")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        if owner is not None and os.geteuid() == 0:
            os.fchown(file.fileno(), *owner)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
