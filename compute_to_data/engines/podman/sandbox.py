"""Writes a sandbox in the form of Podman's own interface.

``docker/sandbox.py`` says what a sandbox is. This writer knows every key that it uses, and refuses any other, so that
nothing is dropped without a word.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from compute_to_data.engines.podman.ids import Ids

PARENT_LABEL = "compute_to_data.podman_parent"
"""The control group around a container, below the root; Podman itself shows only its last part."""
_IGNORED = {"MemorySwappiness", "PidMode", "UTSMode", "Privileged"}
"""Keys whose meaning cgroup v2 or Podman's own settings below give."""
_SECCOMP = "seccomp="
_SIGTERM = 15


def log_path(folder: str, name: str) -> str:
    """Where Podman keeps the output of the container with this name."""
    return os.path.join(folder, name)


def first_log(path: str) -> str:
    """A second name of the first file that Podman makes for a container's output: a full one is replaced by another."""
    return f"{path}.first"


def remove_log(folder: str, name: str) -> None:
    """Remove what is left of a container's output."""
    path = log_path(folder, name)
    for one in (path, first_log(path)):
        with suppress(FileNotFoundError):
            os.unlink(one)


def written(
    body: Mapping[str, Any], name: str, ids: Ids, profile: str, log_folder: str, controllers: frozenset[str]
) -> dict[str, Any]:
    """The body of the request for a container. ``profile``: the file with the seccomp profile. ``log_folder``: where
    Podman keeps its output. ``controllers``: the control group controllers that the account has.

    ValueError for a sandbox with anything that this writer does not know.
    """
    given, host = dict(body), dict(body["HostConfig"])
    del given["HostConfig"]
    spec = {
        "name": name,
        **_FIXED,
        "image": given.pop("Image"),
        "entrypoint": given.pop("Entrypoint"),
        "command": [],
        **_environment(given.pop("Env", [])),
        "labels": given.pop("Labels"),
        "netns": {"nsmode": "none"},
        **_program(given, ids),
    }
    if host:
        spec.update(_host(host, profile, log_path(log_folder, name), controllers, spec["labels"]))
    for key in ("Healthcheck", "NetworkDisabled", "StopSignal"):  # constants of _FIXED
        given.pop(key, None)
    unknown = sorted({*given, *host} - _IGNORED)
    if unknown:
        raise ValueError(f"the sandbox has settings that Podman's writer does not know: {', '.join(unknown)}")
    return spec


_FIXED: Mapping[str, Any] = {
    "ipcns": {"nsmode": "private"},
    "pidns": {"nsmode": "private"},
    "utsns": {"nsmode": "private"},
    "cgroupns": {"nsmode": "private"},
    "cap_drop": ["all"],
    "privileged": False,
    "stop_signal": _SIGTERM,
    "healthconfig": {"Test": ["NONE"]},
    "image_volume_mode": "ignore",
    "read_write_tmpfs": False,
    "systemd": "false",  # else a program with the name of an init would get writable mounts
    "sdnotifyMode": "ignore",
    "httpproxy": False,
    "env_host": False,
    "use_image_hosts": True,
    "use_image_resolve_conf": True,
    "manage_password": False,
    "create_working_dir": True,
    "terminal": False,
    "stdin": False,
    "remove": False,
}


def _program(given: dict[str, Any], ids: Ids) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "WorkingDir" in given:
        found["work_dir"] = given.pop("WorkingDir")
    if "Hostname" in given:
        found["hostname"] = given.pop("Hostname")
    if "User" in given:
        user = given.pop("User")
        # Podman's own namespace has all ids of jobs. Only the account itself is root there, and needs another one.
        shared = ids.is_shared(user)
        found["user"] = user if shared else ids.inside(user)
        found["userns"] = {"nsmode": "keep-id" if shared else "host"}
    return found


def _environment(given: list[str]) -> dict[str, Any]:
    """Docker's list: ``NAME=VALUE`` sets a variable, ``NAME`` removes the image's."""
    values = dict(one.partition("=")[::2] for one in given if "=" in one)
    return {"env": values, "unsetenv": [one for one in given if "=" not in one]}


def _host(
    host: dict[str, Any], profile: str, log_path: str, controllers: frozenset[str], labels: dict[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {"mounts": [_mount(one) for one in host.pop("Mounts", [])]}
    if "NetworkMode" in host and host.pop("NetworkMode") != "none":
        raise ValueError("Podman's writer knows no network")
    if "ReadonlyRootfs" in host:
        found["read_only_filesystem"] = host.pop("ReadonlyRootfs")
    if "SecurityOpt" in host:
        options = [one for one in host.pop("SecurityOpt") if not one.startswith(_SECCOMP)]
        if options != ["no-new-privileges"]:
            raise ValueError(f"Podman's writer does not know the options {options}")
        found.update({"no_new_privileges": True, "seccomp_policy": "default", "seccomp_profile_path": profile})
    for key in ("CapDrop", "IpcMode"):  # constants of _FIXED
        host.pop(key, None)
    names = {"Init": "init", "OomScoreAdj": "oom_score_adj", "ShmSize": "shm_size", "Sysctls": "sysctl"}
    names["Runtime"] = "oci_runtime"
    found.update({names[key]: host.pop(key) for key in names if key in host})
    if "RestartPolicy" in host:
        found["restart_policy"] = host.pop("RestartPolicy")["Name"]
    if "Ulimits" in host:
        found["r_limits"] = limits_of_processes(host.pop("Ulimits"))
    if "CgroupParent" in host:
        parent = host.pop("CgroupParent")
        found["cgroup_parent"] = os.path.basename(parent)
        labels[PARENT_LABEL] = parent
    found["resource_limits"] = _limits(host, controllers)
    found["log_configuration"] = _log(host.pop("LogConfig", {"Type": "none"}), log_path)
    return found


def limits_of_processes(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Docker's ``Ulimits``, as Podman has them."""
    return [{"type": one["Name"], "soft": one["Soft"], "hard": one["Hard"]} for one in given]


def _limits(host: dict[str, Any], controllers: frozenset[str]) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if "Memory" in host:
        limits["memory"] = {"limit": host.pop("Memory"), "swap": host.pop("MemorySwap")}
    if "PidsLimit" in host:
        limits["pids"] = {"limit": host.pop("PidsLimit")}
    if "CpuPeriod" in host:
        limits["cpu"] = {
            "period": host.pop("CpuPeriod"),
            "quota": host.pop("CpuQuota"),
            "shares": host.pop("CpuShares"),
        }
    weight = host.pop("BlkioWeight", 0)
    if weight and "io" in controllers:  # as with Docker, a host without it ignores the weight
        limits["blockIO"] = {"weight": weight}
    return limits


def _log(config: Mapping[str, Any], path: str) -> dict[str, Any]:
    if config["Type"] == "none":
        return {"driver": "none"}
    return {"driver": "k8s-file", "size": int(config["Config"]["max-size"]), "path": path}


def _mount(one: Mapping[str, Any]) -> dict[str, Any]:
    if one["Type"] == "volume":  # how Docker mounts a file system of the kernel
        made = one["VolumeOptions"]["DriverConfig"]["Options"]
        options = made["o"].split(",")
        return {"type": made["type"], "source": made["device"], "destination": one["Target"], "options": options}
    mode = "ro" if one.get("ReadOnly") else "rw"
    if one["Type"] == "bind":
        # Private and not recursive: a mount that appears on the host later does not appear in the sandbox.
        options = ["bind", mode, "rprivate", "nosuid", "nodev"]
        return {"type": "bind", "source": one["Source"], "destination": one["Target"], "options": options}
    tmpfs = one["TmpfsOptions"]
    options = [mode, "noexec", "nosuid", "nodev", f"size={tmpfs['SizeBytes']}", f"mode={tmpfs['Mode']:o}"]
    return {"type": "tmpfs", "source": "tmpfs", "destination": one["Target"], "options": options}


def write_profile(folder: str, text: str) -> str:
    """Write a seccomp profile to a file that Podman reads, and return its path."""
    path = os.path.join(folder, "seccomp.json")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(draft, path)
    return path
