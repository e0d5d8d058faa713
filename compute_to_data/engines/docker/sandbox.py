"""A job's sandbox, as the body of the request that creates its container.

Users decide only about the command, the environment's values and the names of the inputs. All privileges
are constants in this file. Key names are those of Docker's HTTP API.
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

# The names are those of earlier versions: the label for a task holds the job's key, that for a resource the scope.
TASK_LABEL = "compute_to_data.task"
OWNER_LABEL = "compute_to_data.owner"
RESOURCE_LABEL = "compute_to_data.resource"
LOG_BYTES_LABEL = "compute_to_data.log_bytes"
LOG_FILE_LABEL = "compute_to_data.log_file"

OUTPUTS = "/outputs"
WORKLOAD_INPUT, WORKLOAD_OUTPUT = "/input", "/output"  # the names for tasks of a workload
HOME = "/tmp"  # private to the sandbox

_HOSTS = Path(__file__).with_name("hosts")  # has localhost: without a network, Docker writes no hosts file
_CPU_PERIOD = 100_000  # microseconds; the kernel's smallest quota is 1 ms
_OPEN_FILES = 4096  # a container with a higher limit than the daemon's does not start
_SHARED_MEMORY = 64 << 20  # /dev/shm, which counts as memory; Docker's default
# The daemon's log is needed only for what a job writes while no worker runs. An entry needs some 38 bytes in addition
# to its line. The daemon keeps two files of this size, and drops the older one when both are full.
_LOG_FACTOR, _LOG_LEAST = 2, 8 << 20


def container_name(key: JobKey) -> str:
    """The name of a job's container, which Docker keeps unique. EngineError for an invalid key."""
    return f"compute-to-data-{checks.key(key)}"


def container(
    job: Job, account: tuple[int, int], *, init: bool = True, runtime: str = "", volumes: Iterable[str] = ()
) -> dict[str, Any]:
    """The container that runs ``job`` as ``account`` (uid, gid).

    ``volumes``: paths at which the image declares volumes. They become empty scratch space of limited size,
    like ``/tmp``, because a volume would be another place on disk to write to. The program starts in the job's
    working directory, by default ``/tmp``. Only what it writes to ``/outputs`` is a result.
    EngineError for a job that :func:`checks.job` refuses.
    """
    checks.job(job)
    labels = {
        TASK_LABEL: job.key.text,
        OWNER_LABEL: str(job.owner),
        RESOURCE_LABEL: job.scope,
        LOG_BYTES_LABEL: str(job.limits.log_bytes),
        LOG_FILE_LABEL: job.log_file,
    }
    return {
        # The digest, because the tag could have moved since the worker checked that the image is allowed.
        "Image": job.image.digest,
        # The whole command is the entrypoint, so the image's entrypoint is not used.
        "Entrypoint": list(job.command),
        "Env": [f"{name}={value}" for name, value in {"HOME": HOME, **job.environment}.items()],
        "WorkingDir": working_directory(job),
        "User": "{}:{}".format(*account),
        "Hostname": "compute-to-data",
        # Docker then sets up no network at all, not even "none". The container gets no resolver's address and
        # starts in two thirds of the time. The runtime still gives it a loopback device.
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
    """The container of a warm sandbox, in which ``job`` and others like it run as ``account``.

    It is like a job's container, without anything specific to this job. ``folder`` has the FIFOs between worker
    and runner, ``area`` the directories ``outputs`` and ``inputs``. ``options``: ``init`` and ``runtime``, as for
    :func:`container`.
    """
    everybody = replace(
        job,
        command=warm_runner.COMMAND,
        inputs=(),
        input_folders=(),
        environment={},
        working_directory="",
        outputs=f"{area}/outputs",
    )
    body = container(everybody, account, volumes=volumes, **options)
    del body["Labels"][TASK_LABEL], body["Labels"][LOG_FILE_LABEL]
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
        "SecurityOpt": ["no-new-privileges"],  # in addition to the daemon's default seccomp profile
        "OomScoreAdj": 500,  # if the host lacks memory, the kernel kills jobs before iRODS
        "RestartPolicy": {"Name": "no"},
    }


def daemon_log_size(log_bytes: int) -> int:
    """The size in bytes of each of the two files of the daemon's log. A log that is shorter is whole."""
    return max(_LOG_FACTOR * log_bytes, _LOG_LEAST)


def _limits(limits: Limits) -> dict[str, Any]:
    return {
        "PidsLimit": limits.pids,
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,  # memory and swap together: no swap
        "MemorySwappiness": 0,
        "CpuPeriod": _CPU_PERIOD,
        "CpuQuota": max(int(limits.cpus * _CPU_PERIOD), 1000),
        "ShmSize": min(_SHARED_MEMORY, limits.tmp_bytes),
        "Ulimits": [
            # One file cannot exceed the outputs' limit between two checks of the directory. One byte more: a file
            # that the kernel cut off then breaks the limit, also when its program took no notice.
            {"Name": "fsize", "Soft": limits.output_bytes + 1, "Hard": limits.output_bytes + 1},
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": _OPEN_FILES, "Hard": _OPEN_FILES},
        ],
        # This driver is safe for binary data and needs the fewest bytes per line. Compression would slow the daemon.
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": str(daemon_log_size(limits.log_bytes)), "max-file": "2", "compress": "false"},
        },
    }


def _mounts(job: Job, volumes: Iterable[str]) -> list[dict[str, Any]]:
    # Unlike "Binds", these mounts never create a missing source.
    mounts: list[dict[str, Any]] = [
        {"Type": "bind", "Source": mount.physical_path, "Target": mount.target, "ReadOnly": True}
        for mount in job.inputs
    ]
    mounts += [_empty(place) for place in job.input_folders]
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
    # A volume inside an output directory is writable anyway, and the runtime would make its mount point as root.
    inside = tuple(f"{output.target}/" for output in job.output_mounts)
    scratch = {HOME, *map(posixpath.normpath, volumes)} - taken
    scratch = {path for path in scratch if not path.startswith(inside)}
    return mounts + [_scratch(path, job.limits.tmp_bytes) for path in sorted(scratch)]


def _empty(path: str) -> dict[str, Any]:
    """A read-only directory without content."""
    return {"Type": "tmpfs", "Target": path, "ReadOnly": True, "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o555}}


def _scratch(path: str, size: int) -> dict[str, Any]:
    """Scratch space in memory. Docker mounts this type with noexec, nosuid and nodev."""
    return {"Type": "tmpfs", "Target": path, "TmpfsOptions": {"SizeBytes": size, "Mode": 0o1777}}


def working_directory(job: Job) -> str:
    """The directory in which a job starts. EngineError for a directory below a mount, where the runtime would
    make a missing directory as root."""
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
