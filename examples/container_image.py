"""Build the image of a container folder with the local Docker engine, and show progress."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from compute_to_data.errors import EngineError

LOCAL_BASE_IMAGE = "compute-to-data/base:bookworm"
"""If Docker holds a base image with this name, it replaces the Dockerfile's own. This is for sites
without access to a registry."""
_SOURCE = "compute_to_data.source"


def build(folder: Path, tag: str, tell: Callable[[str], object], *, context: Path | None = None) -> str:
    """The id of the image ``tag``. It is built from ``folder``, unless Docker holds one from the same files.

    ``context``: a folder above, if the image also takes the package from there. The variable ``BASE_IMAGE`` names
    another base image. EngineError when the build fails.
    """
    import docker

    client = docker.from_env(timeout=600)
    source = _fingerprint(*([folder] if context is None else [folder, context / "compute_to_data"]))
    place = context or folder
    try:
        present = client.images.get(tag)
        if present.labels.get(_SOURCE) == source:
            return str(present.id)
    except docker.errors.ImageNotFound:
        pass
    base = os.environ.get("BASE_IMAGE", "") or _local_base(client)
    tell(f"building {tag} from {folder.name}/Dockerfile" + (f" on {base}" if base else ""))
    arguments = {"BASE_IMAGE": base} if base else {}
    stream = client.api.build(
        path=str(place),
        dockerfile=str((folder / "Dockerfile").relative_to(place)),
        tag=tag,
        buildargs=arguments,
        labels={_SOURCE: source},
        rm=True,
        forcerm=True,
        decode=True,
    )
    for event in stream:
        _show(event, tag, tell)
    return str(client.images.get(tag).id)


def _local_base(client: Any) -> str:
    import docker

    try:
        client.images.get(LOCAL_BASE_IMAGE)
    except docker.errors.ImageNotFound:
        return ""
    return LOCAL_BASE_IMAGE


def _show(event: dict[str, Any], tag: str, tell: Callable[[str], object]) -> None:
    if "error" in event:
        raise EngineError(
            f"image {tag}",
            f"could not be built ({str(event['error']).strip()[-300:]})",
            "Set BASE_IMAGE to a Debian image with python3 that this host has or can reach",
        )
    line = str(event.get("stream", "")).strip()
    if line.startswith("Step "):
        tell(f"  {line[:100]}")


def _fingerprint(*folders: Path) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(folder)}\0{path.stat().st_mode & 0o111}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
