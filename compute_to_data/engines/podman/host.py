"""Checks whether a rootless Podman can isolate and limit jobs as the sandbox requires.

Podman accepts limits that its host cannot hold, and says nothing. So after its own word, what counts is what the kernel
shows of a container that was made with limits.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException

from compute_to_data.engines.docker import host_copies
from compute_to_data.engines.docker.host_copies import LOADER
from compute_to_data.engines.docker.memory_groups import CGROUPS
from compute_to_data.engines.docker.sandbox import CORE_DUMPS
from compute_to_data.engines.job_ids import JobIds
from compute_to_data.engines.podman.client import PodmanClient
from compute_to_data.engines.podman.ids import Ids
from compute_to_data.engines.podman.sandbox import limits_of_processes
from compute_to_data.engines.process_runner import birth
from compute_to_data.errors import EngineError

SUBJECT = "the Podman engine"
NEEDED = ("memory", "pids", "cpu")
"""The controllers of control groups that the account must have."""
_MEMORY, _PIDS, _PERIOD, _QUOTA = 48 << 20, 7, 100_000, 50_000
"""The limits of the probe."""
_PROBE = "compute-to-data-probe-"
"""Begins the name of the probe. The worker's process id follows, and when that process began."""
_SET_UP = (
    "packaging/install install --podman (after our package: /opt/compute-to-data/packaging/install configure --podman)"
)
_DELEGATE = (
    f"Run {_SET_UP}, or write [Service] Delegate=cpu cpuset io memory pids to "
    "/etc/systemd/system/user@.service.d/delegate.conf, then: systemctl daemon-reload, and log the account out"
)


def own_group(cgroups: Path = CGROUPS) -> str:
    """The control group, below the root, of the systemd that manages this account's services: where the installer puts
    it, with the jobs of other engines; else where systemd does, beside the services of people."""
    uid = os.geteuid()
    ours = f"c2d.slice/user@{uid}.service"
    return ours if (cgroups / ours).is_dir() else f"user.slice/user-{uid}.slice/user@{uid}.service"


def check_account() -> None:
    """EngineError for root, and for a kernel or Python without descriptors of processes."""
    if os.geteuid() == 0:
        raise EngineError(
            SUBJECT,
            "the worker runs as root, but this engine is for a service account: it needs no root",
            "Run the worker as the iRODS service account, or use the engine docker",
        )
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        raise EngineError(
            SUBJECT,
            f"Linux {os.uname().release} with Python {sys.version.split()[0]} has no descriptors of processes",
            "Use Linux 5.3 or newer and a Python that was built for it, or the engine docker",
        ) from error


def check_kernel(cgroups: Path = CGROUPS) -> int:
    """EngineError when the host has no cgroup v2, or has not delegated what limits need to this account. Returns a
    number of the control group of the account's systemd. It is another one when that has started again."""
    if not (cgroups / "cgroup.controllers").exists():
        raise EngineError(
            SUBJECT,
            "this host has cgroup v1, with which a rootless Podman limits neither memory nor processors nor processes",
            "Boot it with systemd.unified_cgroup_hierarchy=1, or use the engine docker",
        )
    own = cgroups / own_group(cgroups)
    try:
        number = own.stat().st_ino
        given = (own / "cgroup.controllers").read_text().split()
    except OSError as error:
        raise EngineError(
            SUBJECT,
            f"systemd runs no services of this account ({own} is not there)",
            f"Run: systemctl start user@{os.geteuid()}. If it was never set up for Podman, first run {_SET_UP}",
        ) from error
    lacking = [name for name in NEEDED if name not in given]
    if lacking:
        raise EngineError(
            SUBJECT, f"systemd has not delegated {', '.join(lacking)} to this account, so it is not limited", _DELEGATE
        )
    return number


def check_info(info: Mapping[str, Any], ids: JobIds | None) -> None:
    """EngineError when Podman itself says that it cannot do what is needed. ``info``: its answer to ``GET /info``.
    ``ids``: those of jobs; None when they share the account."""
    host, store = info["host"], info.get("store") or {}
    security = host.get("security") or {}
    wrong = [
        (not security.get("rootless"), "it is not rootless", "Name the socket of the worker's own account"),
        (host.get("cgroupManager") != "systemd", "its control groups are not managed by systemd",
         'Set cgroup_manager = "systemd" in containers.conf'),
        (not security.get("seccompEnabled"), "it filters no system calls", "Use a Podman with seccomp"),
        (store.get("graphDriverName") != "overlay",
         f"its storage driver is {store.get('graphDriverName')}, which copies an image for each job",
         'Set driver = "overlay" in ~/.config/containers/storage.conf, then: podman system reset'),
    ]  # fmt: skip
    for is_wrong, cause, remedy in wrong:
        if is_wrong:
            raise EngineError(SUBJECT, cause, remedy)
    mapped = Ids.of(info)
    if not any(count > 1 for _, _, count in mapped.uids) or not any(count > 1 for _, _, count in mapped.gids):
        raise EngineError(
            SUBJECT,
            "the account has no subordinate ids, so images with files of several owners cannot be unpacked",
            "Run packaging/install install, or: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST ACCOUNT; "
            "then, as the account: podman system migrate",
        )
    if ids is not None:
        for number in (0, ids.count - 1):
            mapped.inside("{}:{}".format(*ids.account(number)))


def check_limits(client: PodmanClient, folder: str, cgroups: Path = CGROUPS) -> None:
    """EngineError unless the kernel shows the limits of a container that was made with some. ``folder``: for the
    container's file system. No program runs in it."""
    _remove_left(client, folder)
    process = os.getpid()
    name = f"{_PROBE}{process}-{birth(process)}-{uuid.uuid4().hex[:16]}"
    root = os.path.join(folder, name)
    try:
        _make_root(root)
        client.create_from_specification(_probe(name, root))
        _initialize(client, name)
        _compare(_group_of(client.made(name).process, cgroups))
    finally:
        with suppress(DockerException):
            client.remove_container(name, force=True, v=True)
        shutil.rmtree(root, ignore_errors=True)


def _remove_left(client: PodmanClient, folder: str) -> None:
    """Remove what workers left that were killed while they checked. Others of this account may be checking now."""
    found = [name for one in client.containers(all=True, filters={"name": _PROBE}) for name in one["Names"]]
    for name in filter(_is_left, found):
        with suppress(DockerException):
            client.remove_container(name, force=True, v=True)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for name in filter(_is_left, os.listdir(folder)):
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def _is_left(name: str) -> bool:
    process, _, rest = name[len(_PROBE) :].partition("-")
    return name.startswith(_PROBE) and process.isdigit() and birth(int(process)) != rest.partition("-")[0]


def _initialize(client: PodmanClient, name: str) -> None:
    """EngineError when the account's own limit of core dumps is below that of jobs."""
    try:
        client.initialize(name)
    except APIError as error:
        if "rlimit" not in str(error).lower():
            raise
        raise EngineError(
            SUBJECT,
            "the account's limit of core dumps is 0, with which a crash in a job starts a program of the host as root "
            "(core_pattern)",
            "Let its services have more: [Service] LimitCORE=infinity in /etc/systemd/system/user@.service.d, and no "
            "limit of core in /etc/security/limits.conf; then: systemctl daemon-reload, and log the account out",
        ) from error


def _make_root(root: str) -> None:
    os.makedirs(root, mode=0o755)
    for name in ("proc", "sys", "dev", "etc", "run", "tmp"):
        os.mkdir(os.path.join(root, name), 0o755)
    program = shutil.copyfile(host_copies.libraries(["/bin/sh"], SUBJECT)[LOADER], os.path.join(root, LOADER))
    os.chmod(program, 0o755)


def _probe(name: str, root: str) -> dict[str, Any]:
    return {
        "name": name,
        "rootfs": root,
        "entrypoint": [f"/{LOADER}"],
        "command": [],
        "netns": {"nsmode": "none"},
        "cap_drop": ["all"],
        "systemd": "false",
        "use_image_hosts": True,
        "use_image_resolve_conf": True,
        "manage_password": False,
        "log_configuration": {"driver": "none"},
        "r_limits": limits_of_processes([CORE_DUMPS]),
        "resource_limits": {
            "memory": {"limit": _MEMORY, "swap": _MEMORY},
            "pids": {"limit": _PIDS},
            "cpu": {"period": _PERIOD, "quota": _QUOTA},
        },
    }


def _group_of(process: int, cgroups: Path) -> Path:
    own = Path(f"/proc/{process}/cgroup").read_text().strip().rpartition("::/")[2]
    return cgroups / own


def _compare(group: Path) -> None:
    """Look for each limit in the process's own group and in the one above it, which is the container's."""
    cpu = f"{_QUOTA} {_PERIOD}"
    for name, value in (("memory.max", _MEMORY), ("memory.swap.max", 0), ("pids.max", _PIDS), ("cpu.max", cpu)):
        seen = [(place / name).read_text().strip() for place in (group, group.parent) if (place / name).exists()]
        if name == "memory.swap.max" and not seen:
            continue  # a kernel without swap
        if str(value) not in seen:
            cause = f"{name} of a container is {' or '.join(seen) or 'not there'}, not {value}"
            raise EngineError(SUBJECT, f"the kernel does not hold its limits: {cause}", _DELEGATE)
