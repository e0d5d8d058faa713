"""Names of images: how users may write them, and how to ask Docker for them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from compute_to_data.engines.docker.sandbox import OUTPUTS
from compute_to_data.errors import EngineError, ImageMissing
from compute_to_data.job import Image

_MOST_SETTINGS = 64 * 1024
_ID = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*"
_NAME = re.compile(
    rf"(?P<name>(?:{_HOST}(?::[0-9]+)?/)?{_PART}(?:/{_PART})*)"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?"
)


def reference(image: str) -> str:
    """What to ask Docker for: a name with tag or digest, or a full image id.

    Docker also accepts the first digits of an id, so ``cafe`` could mean any image; with a tag it
    means only a name. ImageMissing for text that is not a name of an image.
    """
    match = _NAME.fullmatch(image)
    if _ID.fullmatch(image):
        return image
    if not match or match["name"] == "sha256":
        raise ImageMissing(f"image {image!r}", "that is not the name of an image", "write it as 'name:tag'")
    return image if match["tag"] or match["digest"] else f"{image}:latest"


def names(listed: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names in Docker's list of images, sorted. TypeError when it is no list."""
    if not isinstance(listed, list):
        raise TypeError(f"expected a list of images, not {type(listed).__name__}")
    known = {name for one in listed for kind in ("RepoTags", "RepoDigests") for name in one.get(kind) or ()}
    return tuple(sorted(name for name in known if "<none>" not in name))


def need_small(name: str, found: Mapping[str, Any]) -> None:
    """EngineError for an image with huge settings: each container would have them, and each list of containers."""
    size = len(json.dumps(found.get("Config") or {}))
    if size > _MOST_SETTINGS:
        cause = (
            f"its labels, environment and other settings take {size} bytes, and at most {_MOST_SETTINGS} are allowed"
        )
        raise EngineError(f"image {name}", cause, "Build it with fewer or shorter ones")


def image(name: str, found: Mapping[str, Any]) -> Image:
    """The image ``name``. ``found``: Docker's inspection of it."""
    digests = (digest.rpartition("@")[2] for digest in found.get("RepoDigests") or ())
    return Image(name, found["Id"], frozenset(digests), _unused(found))


def _unused(found: Mapping[str, Any]) -> str:
    """The image's entrypoint and working directory. Its CMD is left out: as with ``docker run``, the command that
    is given replaces that."""
    config = found.get("Config") or {}
    entrypoint, directory = config.get("Entrypoint") or [], config.get("WorkingDir") or "/"
    said = [f"ENTRYPOINT {shlex.join(entrypoint)}"] if entrypoint else []
    # Without a WORKDIR it is "/". A job starts in OUTPUTS anyway, unless the request names another directory.
    said += [f"WORKDIR {directory}"] if directory not in ("/", OUTPUTS) else []
    return " and ".join(said)


def volumes(found: Mapping[str, Any]) -> tuple[str, ...]:
    """Paths at which the image declares volumes."""
    return tuple((found.get("Config") or {}).get("Volumes") or ())


def environment(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The image's environment, each variable as ``NAME=VALUE``."""
    return tuple((found.get("Config") or {}).get("Env") or ())
