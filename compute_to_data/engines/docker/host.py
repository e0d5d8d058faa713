"""Checks whether a Docker daemon can isolate jobs as the sandbox requires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.errors import EngineError

# A daemon without one of these accepts the limit with a warning, and ignores it.
_LIMITS = {"MemoryLimit": "memory", "CpuCfsQuota": "cpu", "PidsLimit": "pids"}


def check_host(info: Mapping[str, Any], runtime: str = "") -> None:
    """EngineError when a daemon cannot limit memory, processors or processes, does not filter system calls, maps
    users to other ids, or is Podman. ``info``: its answer to ``GET /info``."""
    subject = "the Docker engine"
    if info.get("Rootless") or "BuildahVersion" in info:
        # Rootless on cgroup v1, Podman 4.3 reports every limit, and then ignores all of them.
        raise EngineError(
            subject,
            "it is Podman, whose report of its limits is not reliable",
            "use a Docker daemon; docs/security.md describes the trials",
        )
    for key, name in _LIMITS.items():
        if not info.get(key):
            raise EngineError(subject, f"it cannot limit {name}", f"give the daemon the kernel's {name} control group")
    options = [dict(part.partition("=")[::2] for part in text.split(","))
               for text in info.get("SecurityOptions") or ()]  # fmt: skip
    seccomp = [option for option in options if option.get("name") == "seccomp"]
    if not seccomp or seccomp[0].get("profile") == "unconfined":
        raise EngineError(
            subject, "it runs containers without a seccomp profile", "give the daemon its default profile"
        )
    for mapped in ("rootless", "userns"):
        if any(option.get("name") == mapped for option in options):
            raise EngineError(
                subject,
                f"it maps users ({mapped}), so outputs would belong to another account",
                "use a daemon without user mapping",
            )
    if runtime and runtime not in (info.get("Runtimes") or {}):
        known = ", ".join(sorted(info.get("Runtimes") or {}))
        raise EngineError(subject, f"it does not know the runtime {runtime!r}", f"it knows: {known}")
