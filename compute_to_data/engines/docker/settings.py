"""The settings of the Docker engine, and the account to which outputs belong."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.engines import checks, guard_client, job_ids
from compute_to_data.errors import ConfigurationError

NOBODY = 65534


@dataclass(frozen=True)
class DockerSettings:
    """The engine's settings in the configuration.

    ``socket``: the daemon's address; empty for ``DOCKER_HOST`` or Docker's default. ``job_uids``: the ids of which each
    running job gets one, ``FIRST-LAST``; empty for those of :func:`job_ids.of_this_account`; None when all jobs share
    an account. ``uid`` and ``gid``: the account to which outputs belong if the worker is root, and that of jobs
    that share one; else that is the worker's account. ``init``: whether a small first
    process forwards signals and reaps processes. ``runtime``: an OCI runtime that the daemon knows; empty for its
    default. ``project_quotas``: whether the kernel holds the outputs of each job to their limits by a project quota of
    the vault's file system. ``timeout_seconds``: the time-out for one request to the daemon.

    ``cpu_shares`` and ``block_io_weight`` are a job's parts of a busy processor and disk, beside other control groups
    on the same level, which have 1024 and 500 by default. Docker ignores the second where the kernel has none.
    """

    socket: str = ""
    job_uids: str | None = ""
    uid: int = NOBODY
    gid: int = NOBODY
    init: bool = True
    runtime: str = ""
    project_quotas: bool = False
    timeout_seconds: float = 60.0
    cpu_shares: int = 256
    block_io_weight: int = 100


_KNOWN: dict[str, type] = {
    "socket": str, "job_uids": str, "uid": int, "gid": int, "init": bool, "runtime": str,
    "project_quotas": bool, "timeout_seconds": float, "cpu_shares": int, "block_io_weight": int,
}  # fmt: skip


_WEIGHTS = {"cpu_shares": (2, 262_144), "block_io_weight": (10, 1000)}
"""The least and the most that the kernel takes."""


def read(given: Mapping[str, Any], engine: str = "docker") -> DockerSettings:
    """The checked settings. ``engine``: its name, for errors. ConfigurationError with the JSON pointer."""
    shared = given.get("job_uids", "") is None
    values = checks.settings(
        engine, {key: one for key, one in given.items() if not shared or key != "job_uids"}, _KNOWN
    )
    for key in ("uid", "gid"):
        if not 0 < values.get(key, NOBODY) < 2**31:
            raise ConfigurationError(
                f"/engine/settings/{key}",
                f"jobs cannot run as {values[key]}",
                "use the id of an account other than root",
            )
    for key, (least, most) in _WEIGHTS.items():
        if not least <= values.get(key, least) <= most:
            raise ConfigurationError(f"/engine/settings/{key}", f"{values[key]} is not between {least} and {most}")
    if "job_uids" in values:
        job_ids.read(values["job_uids"])
    if values.get("project_quotas") and shared:
        cause = "jobs that share an account have no project ids of their own"
        remedy = "Give jobs user ids of their own (job_uids), or remove project_quotas"
        raise ConfigurationError("/engine/settings/project_quotas", cause, remedy)
    if values.get("timeout_seconds", 1) <= 0:
        raise ConfigurationError("/engine/settings/timeout_seconds", "it must be more than 0")
    if os.geteuid() != 0 and values.get("uid", os.geteuid()) != os.geteuid():
        raise ConfigurationError(
            "/engine/settings/uid",
            f"only a worker that runs as root can run jobs as {values['uid']}",
            f"leave it out: jobs run as the worker's own account, {os.geteuid()}",
        )
    socket = values.get("socket", "")
    if shared:
        values["job_uids"] = None
    return DockerSettings(**{**values, "socket": f"unix://{socket}" if socket.startswith("/") else socket})


def account(settings: DockerSettings) -> tuple[int, int]:
    """The uid and gid to which outputs belong, never 0: those in the settings if the worker is root, else the worker's
    own."""
    if os.geteuid() == 0:
        return settings.uid, settings.gid
    return os.geteuid(), os.getegid() or settings.gid


def of_containers(settings: DockerSettings) -> dict[str, Any]:
    """The settings that each container has, as options of :func:`sandbox.container`."""
    return {key: getattr(settings, key) for key in ("init", "runtime", *_WEIGHTS)}


def prepare_worker(settings: DockerSettings) -> None:
    """As :func:`compute_to_data.engines.prepare_worker`."""
    ids = job_ids.of_setting(settings.job_uids)
    if ids is not None:
        guard_client.start(ids)
