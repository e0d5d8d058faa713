"""The settings of the Docker engine, and the account under which its jobs run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.engines import checks
from compute_to_data.errors import ConfigurationError

NOBODY = 65534


@dataclass(frozen=True)
class DockerSettings:
    """The engine's settings in the configuration.

    ``socket``: the daemon's address; empty for ``DOCKER_HOST`` or Docker's default. ``uid`` and ``gid``: the
    account of jobs if the worker is root; else jobs have the worker's account. ``init``: whether a small first
    process forwards signals and reaps processes. ``runtime``: an OCI runtime that the daemon knows; empty for its
    default. ``timeout_seconds``: the time-out for one request to the daemon.
    """

    socket: str = ""
    uid: int = NOBODY
    gid: int = NOBODY
    init: bool = True
    runtime: str = ""
    timeout_seconds: float = 60.0


_KNOWN: dict[str, type] = {
    "socket": str, "uid": int, "gid": int, "init": bool, "runtime": str, "timeout_seconds": float,
}  # fmt: skip


def read(given: Mapping[str, Any]) -> DockerSettings:
    """The checked settings. ConfigurationError with the JSON pointer."""
    values = checks.settings("docker", given, _KNOWN)
    for key in ("uid", "gid"):
        if not 0 < values.get(key, NOBODY) < 2**31:
            raise ConfigurationError(
                f"/engine/settings/{key}",
                f"jobs cannot run as {values[key]}",
                "use the id of an account other than root",
            )
    if values.get("timeout_seconds", 1) <= 0:
        raise ConfigurationError("/engine/settings/timeout_seconds", "it must be more than 0")
    if os.geteuid() != 0 and values.get("uid", os.geteuid()) != os.geteuid():
        raise ConfigurationError(
            "/engine/settings/uid",
            f"only a worker that runs as root can run jobs as {values['uid']}",
            f"leave it out: jobs run as the worker's own account, {os.geteuid()}",
        )
    socket = values.get("socket", "")
    return DockerSettings(**{**values, "socket": f"unix://{socket}" if socket.startswith("/") else socket})


def account(settings: DockerSettings) -> tuple[int, int]:
    """The uid and gid of jobs, never 0: those in the settings if the worker is root, else the worker's own."""
    if os.geteuid() == 0:
        return settings.uid, settings.gid
    return os.geteuid(), os.getegid() or settings.gid
