"""A job's whole sandbox, as the body of the request that creates its container.

Nothing here comes from a user but the command, the environment's values and the names of the
inputs; every privilege is a constant of this file. Key names are those of Docker's HTTP API.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from compute_to_data.engines import checks
from compute_to_data.engines.docker import warm_runner
from compute_to_data.errors import EngineError
from compute_to_data.job import Job, JobKey, Limits

# Names that earlier versions used, too: a label of a task holds its job's key, that of a resource the job's scope.
TASK_LABEL = "compute_to_data.task"
OWNER_LABEL = "compute_to_data.owner"
RESOURCE_LABEL = "compute_to_data.resource"
LOG_BYTES_LABEL = "compute_to_data.log_bytes"

OUTPUTS = "/outputs"
WORKLOAD_INPUT, WORKLOAD_OUTPUT = "/input", "/output"  # what the tasks of a workload know them as
HOME = "/tmp"  # the sandbox's private one

_HOSTS = Path(__file__).with_name("hosts")  # localhost: Docker writes none without a network
_CPU_PERIOD = 100_000  # microseconds; a quota of 1 ms is the least the kernel takes
_OPEN_FILES = 4096  # more than the daemon itself may open would not start
_SHARED_MEMORY = 64 << 20  # /dev/shm, which counts as memory; Docker's default
# A log entry costs some 38 bytes beside its line. With files of 8 times the wanted bytes, one
# of them always complete, those bytes are there for lines of 6 bytes or more on average.
_LOG_FACTOR, _LOG_LEAST = 8, 1 << 16


def container_name(key: JobKey) -> str:
    """The container of a job: the name makes it unique. Errors: EngineError for a bad key."""
    return f"compute-to-data-{checks.key(key)}"


def container(
    job: Job, account: tuple[int, int], *, init: bool = True, runtime: str = "", volumes: Iterable[str] = ()
) -> dict[str, Any]:
    """The container that runs ``job`` as ``account`` (uid, gid).

    ``volumes``: paths where the image declares volumes. They become bounded, empty scratch space
    like ``/tmp``, since a volume would be a second place on disk to write to. It starts in the job's working
    directory, by default ``/tmp``: only what a program writes to ``/outputs`` by name is a
    result. Errors: EngineError for a job that cannot be passed on as it is.
    """
    checks.job(job)
    labels = {
        TASK_LABEL: job.key.text,
        OWNER_LABEL: str(job.owner),
        RESOURCE_LABEL: job.scope,
        LOG_BYTES_LABEL: str(job.limits.log_bytes),
    }
    return {
        # The content's identity: a tag could have moved since the image was allowed.
        "Image": job.image.digest,
        # The whole command is the entrypoint, so that the image's own cannot wrap it.
        "Entrypoint": list(job.command),
        "Env": [f"{name}={value}" for name, value in {"HOME": HOME, **job.environment}.items()],
        "WorkingDir": working_directory(job),
        "User": "{}:{}".format(*account),
        "Hostname": "compute-to-data",
        # With it Docker sets up no network at all, not even "none": no resolver's address comes in,
        # and a third of the time to start is saved. The runtime still gives it a loopback.
        "NetworkDisabled": True,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": labels,
        "HostConfig": {
            **_isolation(),
            **_limits(job.limits),
            "Mounts": _mounts(job, volumes),
            "Init": init,
            **({"Runtime": runtime} if runtime else {}),
        },
    }


def warm(
    job: Job, account: tuple[int, int], folder: str, area: str, *, volumes: Iterable[str], **options: Any
) -> dict[str, Any]:
    """The container in which ``job`` and others of its kind run, as ``account``: what a job's own
    would be, with nothing that is this job's alone.

    ``folder`` has what worker and runner talk through, ``area`` the directories ``outputs`` and
    ``inputs``. ``options``: ``init`` and ``runtime``, as for :func:`container`.
    """
    everybody = replace(
        job, command=warm_runner.COMMAND, inputs=(), environment={}, working_directory="", outputs=f"{area}/outputs"
    )
    body = container(everybody, account, volumes=volumes, **options)
    del body["Labels"][TASK_LABEL]
    body["HostConfig"]["LogConfig"] = {"Type": "none", "Config": {}}
    own = {
        "/inputs": {"Type": "bind", "Source": f"{area}/inputs", "Target": "/inputs", "ReadOnly": True},
        warm_runner.FOLDER: {"Type": "bind", "Source": folder, "Target": warm_runner.FOLDER, "ReadOnly": True},
    }
    mounts = [mount for mount in body["HostConfig"]["Mounts"] if mount["Target"] not in own]
    body["HostConfig"]["Mounts"] = [*mounts, *own.values()]
    return body


def _isolation() -> dict[str, Any]:
    return {
        "NetworkMode": "none",
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],  # beside the daemon's default seccomp profile
        "OomScoreAdj": 500,  # should the host itself run short, a job goes before iRODS does
        "RestartPolicy": {"Name": "no"},
    }


def _limits(limits: Limits) -> dict[str, Any]:
    log_file = max(_LOG_FACTOR * limits.log_bytes, _LOG_LEAST)
    return {
        "PidsLimit": limits.pids,
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # memory and swap together: no swap
        "MemorySwappiness": 0,
        "CpuPeriod": _CPU_PERIOD,
        "CpuQuota": max(int(limits.cpus * _CPU_PERIOD), 1000),
        "ShmSize": min(_SHARED_MEMORY, limits.tmp_bytes),
        "Ulimits": [
            # One file cannot outgrow the outputs' limit between two looks at the directory.
            {"Name": "fsize", "Soft": limits.output_bytes, "Hard": limits.output_bytes},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": _OPEN_FILES, "Hard": _OPEN_FILES},
        ],
        # Binary-safe and the smallest a line; not compressed, which would cost the daemon's time.
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": str(log_file), "max-file": "2", "compress": "false"},
        },
    }


def _mounts(job: Job, volumes: Iterable[str]) -> list[dict[str, Any]]:
    # Unlike "Binds", mounts of this kind never create a source that is missing.
    mounts: list[dict[str, Any]] = [
        {"Type": "bind", "Source": mount.physical_path, "Target": mount.target, "ReadOnly": True}
        for mount in job.inputs
    ]
    mounts.append({"Type": "bind", "Source": str(_HOSTS), "Target": "/etc/hosts", "ReadOnly": True})
    mounts.append({"Type": "bind", "Source": job.outputs, "Target": OUTPUTS})
    if job.sandbox is not None:
        mounts.append({"Type": "bind", "Source": job.outputs, "Target": WORKLOAD_OUTPUT})
        if job.sandbox.inputs:
            dataset = {"Type": "bind", "Source": job.sandbox.inputs, "Target": WORKLOAD_INPUT, "ReadOnly": True}
            mounts.append(dataset)
    mounts += [
        {"Type": "bind", "Source": posixpath.join(job.outputs, output.name), "Target": output.target}
        for output in job.output_mounts
    ]
    taken = {mount["Target"] for mount in mounts}
    # A volume below an output directory is writable with it: its mount point would be made in there, as root.
    inside = tuple(f"{output.target}/" for output in job.output_mounts)
    scratch = {HOME, *map(posixpath.normpath, volumes)} - taken
    scratch = {path for path in scratch if not path.startswith(inside)}
    return mounts + [_scratch(path, job.limits.tmp_bytes) for path in sorted(scratch)]


def _scratch(path: str, size: int) -> dict[str, Any]:
    """In memory, and as Docker has it for this type: noexec, nosuid, nodev."""
    return {"Type": "tmpfs", "Target": path, "TmpfsOptions": {"SizeBytes": size, "Mode": 0o1777}}


def working_directory(job: Job) -> str:
    """Where a job starts. EngineError for a place below a mount.

    Below a mount the runtime would make a missing directory, as root, in the outputs."""
    directory = posixpath.normpath(job.working_directory) if job.working_directory else HOME
    own = [mount.target for mount in job.output_mounts]
    tops = (OUTPUTS, HOME, "/inputs", WORKLOAD_INPUT, WORKLOAD_OUTPUT, *own)
    below = any(directory.startswith(f"{top}/") for top in tops)
    if below or not directory.startswith("/"):
        raise EngineError(
            f"working directory {job.working_directory!r}",
            "a job starts in /outputs, in /tmp or in a directory of its image",
            "Name one of these and change directory in the program",
        )
    return directory
