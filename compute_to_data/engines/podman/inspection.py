"""Answers of Podman's own interface in the form of Docker's, as far as the engine reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from compute_to_data.engines.podman.connection import PodmanHasNot
from compute_to_data.engines.podman.ids import Ids
from compute_to_data.engines.podman.sandbox import PARENT_LABEL

_OWN, _HUB = "localhost/", "docker.io/"
_HOST = re.compile(r"(?:localhost|[^/]*[.:][^/]*)/")
_TIME = re.compile(r"(\d+-\d+-\d+T\d+:\d+:\d+)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_NEVER = "0001-01-01T00:00:00Z"
_UNSTARTED = {"initialized": "created", "configured": "created"}


def full_names(image: str) -> Iterator[str]:
    """The full names that a name can have here. Podman itself would also take an image of any registry whose name ends
    like this one."""
    if image.startswith("sha256:") or _HOST.match(image):
        yield image
        return
    yield f"{_OWN}{image}"
    yield f"{_HUB}{image}" if "/" in image else f"{_HUB}library/{image}"


def _short(name: str) -> str:
    """A name as users write it."""
    for host in (_OWN, f"{_HUB}library/", _HUB):
        if name.startswith(host):
            return name[len(host) :]
    return name


def image(found: Mapping[str, Any], asked: str) -> dict[str, Any]:
    """An image. PodmanHasNot when Podman found another one for the full name ``asked``."""
    names = [*(found.get("RepoTags") or ()), *(found.get("RepoDigests") or ())]
    if not asked.startswith("sha256:") and asked not in names:
        raise PodmanHasNot(f"{asked}: image not known")
    if asked.startswith("sha256:") and f"sha256:{found['Id']}" != asked:
        raise PodmanHasNot(f"{asked}: image not known")
    config = found.get("Config") or {}
    return {"Id": f"sha256:{found['Id']}", "RepoDigests": found.get("RepoDigests"), "Config": config}


def listed_image(found: Mapping[str, Any]) -> dict[str, Any]:
    """An image of the list."""
    return {kind: [_short(name) for name in found.get(kind) or ()] for kind in ("RepoTags", "RepoDigests")}


def container(found: Mapping[str, Any], ids: Ids) -> dict[str, Any]:
    """A container."""
    state, config = found["State"], found["Config"]
    labels = config.get("Labels") or {}
    mounts = [
        {"Type": one["Type"], "Source": one["Source"], "Target": one["Destination"], "ReadOnly": not one["RW"]}
        for one in found.get("Mounts") or ()
    ]
    return {
        "Id": found["Id"],
        "Image": f"sha256:{found['Image']}",
        "State": {
            "Status": _UNSTARTED.get(state["Status"], state["Status"]),
            "Running": bool(state["Running"]),
            "Pid": state["Pid"],
            # Podman never says it: the group of the container does.
            "OOMKilled": False,
            "ExitCode": state["ExitCode"],
            "StartedAt": _NEVER if _is_lost(state) else _utc(state["StartedAt"]),
            "FinishedAt": _utc(state["FinishedAt"]),
        },
        "Config": {"Labels": labels, "User": ids.outside(config["User"]) or str(config["User"])},
        "HostConfig": {"CgroupParent": _parent(found, labels), "Mounts": mounts},
        "Mounts": found.get("Mounts") or [],
    }


def _is_lost(state: Mapping[str, Any]) -> bool:
    """Whether Podman does not know a container's end. When the host or the account's systemd was killed while the
    container ran, Podman says afterwards that it was created, with exit code 0. Only the time of its start stays."""
    return not state["Running"] and str(state["FinishedAt"]).startswith(_NEVER[:4])


def _parent(found: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The control group around a container. Podman knows its last part; the label has the whole."""
    given, whole = str(found["HostConfig"].get("CgroupParent") or ""), str(labels.get(PARENT_LABEL, ""))
    return whole if given and whole.rpartition("/")[2] == given else ""


def _utc(timestamp: str) -> str:
    """A time as Docker writes it: in UTC, with ``Z``."""
    found = _TIME.fullmatch(timestamp)
    if found is None or timestamp == _NEVER:
        return timestamp
    zone = "+00:00" if found[3] == "Z" else found[3]
    whole = datetime.fromisoformat(f"{found[1]}{zone}").astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{found[2] or 0}Z"
