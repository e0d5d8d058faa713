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
from compute_to_data.engines.docker import seccomp, warm_runner
from compute_to_data.engines.docker.settings import DockerSettings
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
TERMINALS = "/dev/pts"
CORE_DUMPS = {"Name": "core", "Soft": 1, "Hard": 1}
"""The limit of core dumps, in bytes. With 1, the kernel writes none for a crash, and calls no program of the host
(``core_pattern``). With 0 it does call that, as root."""
HOME = "/tmp"  # private to the sandbox

_HOSTS = Path(__file__).with_name("hosts")  # has localhost: without a network, Docker writes no hosts file
_CPU_PERIOD = 100_000  # microseconds; the kernel's smallest quota is 1 ms
_OPEN_FILES = 4096  # a container with a higher limit than the daemon's does not start
# The kernel counts some of these for all processes of a uid, which may be those of the service account.
_KERNEL_LIMITS = {
    "sigpending": 1024,  # queued signals and POSIX timers
    "msgqueue": 0,  # bytes of POSIX message queues
    "memlock": 64 << 10,  # bytes
    "rtprio": 0,  # no real-time scheduling
    "nice": 0,  # no better priority than it has
}
_TERMINALS = 32
"""How many pseudo-terminals a job can open. All containers of a host together have some 3,000."""
_SHARED_MEMORY = 64 << 20  # /dev/shm, which counts as memory; Docker's default
# The daemon's log is needed only for what a job writes while no worker runs. An entry needs some 38 bytes in addition
# to its line. The daemon keeps two files of this size, and drops the older one when both are full.
_LOG_FACTOR, _LOG_LEAST = 2, 8 << 20


def container_name(key: JobKey) -> str:
    """The name of a job's container, which Docker keeps unique. EngineError for an invalid key."""
    return f"compute-to-data-{checks.key(key)}"


def container(
    job: Job,
    account: tuple[int, int],
    *,
    volumes: Iterable[str] = (),
    init: bool = True,
    runtime: str = "",
    cpu_shares: int = DockerSettings.cpu_shares,
    block_io_weight: int = DockerSettings.block_io_weight,
) -> dict[str, Any]:
    """The container that runs ``job`` as ``account`` (uid, gid). Options without an explanation here: see
    :class:`DockerSettings`.

    ``volumes``: paths at which the image declares volumes. They become empty scratch space of limited size,
    like ``/tmp``, because a volume would be another place on disk to write to. The program starts in the job's
    working directory, by default ``/tmp``. Only what it writes to ``/outputs`` is a result.
    EngineError for a job that :func:`checks.job` refuses.
    """
    checks.job(job)
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
        "Labels": _labels(job),
        "HostConfig": {
            **_isolation(),
            **_limits(job.limits),
            "CpuShares": cpu_shares,
            "BlkioWeight": block_io_weight,
            "Mounts": _mounts(job, volumes),
            "Init": init,
            **({"Runtime": runtime} if runtime else {}),
        },
    }


def inputs(job: Job) -> list[str]:
    """The physical paths of what a job reads: files, and the directory of its dataset."""
    dataset = [job.sandbox.inputs] if job.sandbox is not None and job.sandbox.inputs else []
    return [*(mount.physical_path for mount in job.inputs), *dataset]


def _labels(job: Job) -> dict[str, str]:
    return {
        TASK_LABEL: job.key.text,
        OWNER_LABEL: str(job.owner),
        RESOURCE_LABEL: job.scope,
        LOG_BYTES_LABEL: str(job.limits.log_bytes),
        LOG_FILE_LABEL: job.log_file,
    }


def warm(
    job: Job, account: tuple[int, int], folder: str, area: str, *, volumes: Iterable[str], **options: Any
) -> dict[str, Any]:
    """The container of a warm sandbox, in which ``job`` and others like it run as ``account``.

    It is like a job's container, without anything specific to this job. ``folder`` has the FIFOs between worker
    and runner, ``area`` the directories ``outputs`` and ``inputs``. ``options``: as for :func:`container`.
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
        # Otherwise TCP would keep the ports of a workload's task for a minute after its end.
        "Sysctls": {"net.ipv4.tcp_max_tw_buckets": "0"},
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", seccomp.option()],
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
            CORE_DUMPS,
            {"Name": "nofile", "Soft": _OPEN_FILES, "Hard": _OPEN_FILES},
            *({"Name": name, "Soft": most, "Hard": most} for name, most in _KERNEL_LIMITS.items()),
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
    if any(mount["Target"].startswith("/inputs/") for mount in mounts):
        # The runtime makes the mount points of the inputs here. It does not see what the image has at /inputs.
        mounts.append(_empty("/inputs"))
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
    taken = {TERMINALS, *(mount["Target"] for mount in mounts)}
    # ImagePaths refuses a volume inside an output directory.
    inside = tuple(f"{output.target}/" for output in job.output_mounts)
    scratch = {HOME, *map(normal, volumes)} - taken
    scratch = {path for path in scratch if not path.startswith(inside)}
    return [*mounts, _terminals(), *(_scratch(path, job.limits.tmp_bytes) for path in sorted(scratch))]


def _terminals() -> dict[str, Any]:
    """The job's pseudo-terminals, in the place of those that the runtime mounts without a limit."""
    options = f"newinstance,nosuid,noexec,ptmxmode=0666,mode=0620,max={_TERMINALS}"
    driver = {"Name": "local", "Options": {"type": "devpts", "device": "devpts", "o": options}}
    return {"Type": "volume", "Target": TERMINALS, "VolumeOptions": {"NoCopy": True, "DriverConfig": driver}}


def _empty(path: str) -> dict[str, Any]:
    """A read-only directory without content."""
    return {"Type": "tmpfs", "Target": path, "ReadOnly": True, "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o555}}


def _scratch(path: str, size: int) -> dict[str, Any]:
    """Scratch space in memory. Docker mounts this type with noexec, nosuid and nodev."""
    return {"Type": "tmpfs", "Target": path, "TmpfsOptions": {"SizeBytes": size, "Mode": 0o1777}}


def working_directory(job: Job) -> str:
    """The directory in which a job starts. EngineError for a directory below a mount, where the runtime would
    make a missing directory as root, and for a path that the kernel does not read as it is written."""
    directory = job.working_directory or HOME
    plain = directory if directory == "/" else directory.removesuffix("/")
    own = [mount.target for mount in job.output_mounts]
    tops = (OUTPUTS, HOME, "/inputs", WORKLOAD_INPUT, WORKLOAD_OUTPUT, *own)
    below = any(plain.startswith(f"{top}/") for top in tops)
    filled = f"{plain}/".startswith(("/proc/", "/sys/", "/dev/"))
    if below or filled or not plain.startswith("/") or normal(plain) != plain:
        raise EngineError(
            f"working directory {job.working_directory!r}",
            "a job starts in /outputs, in /tmp or in a directory of its image, written without '.', '..' and '//'",
            "Name one of these and change directory in the program",
        )
    return plain


def normal(path: str) -> str:
    """An absolute path without '.', '..' and needless slashes, as Docker writes it."""
    return posixpath.normpath(f"/{path.lstrip('/')}")
