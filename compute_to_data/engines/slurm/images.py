"""The images that nodes have, as a probe on one of them has listed them. All nodes must have the same.

The worker's host needs no container engine: it learns names and contents from the list.
"""

from __future__ import annotations

import re
from typing import Any

from compute_to_data.engines.docker import images as docker_images
from compute_to_data.engines.slurm import notes
from compute_to_data.engines.slurm.notes import IMAGES, Directory
from compute_to_data.errors import EngineError, ImageMissing
from compute_to_data.job import Image
from compute_to_data.ports.engine import Engine

_DOCKER_HUB = re.compile(r"^(?:index\.)?docker\.io/(?:library/)?|^library/")


class ListedImages:
    """A list of a node's images. ``asked``: when the worker asked for it, in Unix seconds; 0 without a list."""

    def __init__(self, directory: Directory) -> None:
        found = notes.read(directory.path / IMAGES) or {"asked": 0.0, "node": "", "images": {}}
        self.asked = float(found["asked"])
        self.node = str(found["node"])
        self._images: dict[str, dict[str, Any]] = found["images"]

    def names(self) -> tuple[str, ...]:
        """All names, with tag or digest."""
        return tuple(sorted(self._images))

    def image(self, name: str) -> Image | None:
        """The image with a name or an id; None when the list has none. ImageMissing for text that is no name."""
        asked = docker_images.reference(name)
        by_id = {one["digest"]: one for one in self._images.values()}
        found = self._images.get(asked) or self._images.get(_DOCKER_HUB.sub("", asked)) or by_id.get(asked)
        if found is None:
            return None
        return Image(name, found["digest"], frozenset(found["aliases"]), found["unused"])

    def has(self, digest: str) -> bool:
        """Whether the list has an image with this content."""
        return any(one["digest"] == digest for one in self._images.values())


def write(directory: Directory, engine: Engine, node: str, asked: float) -> None:
    """Write the list of an engine's images. EngineError when it lists none."""
    found = {}
    for name in engine.images() or ():
        try:
            image = engine.identify(name)
        except EngineError:  # removed meanwhile, or one that the engine refuses
            continue
        found[name] = {"digest": image.digest, "aliases": sorted(image.aliases), "unused": image.unused}
    notes.write(directory.path / IMAGES, {"asked": asked, "node": node, "images": found})


def missing(name: str, node: str) -> ImageMissing:
    """The error for an image that the nodes do not have."""
    remedy = f"Load or build it on all nodes: docker pull {name}"
    return ImageMissing(f"image {name}", f"the nodes of Slurm do not hold it (looked at {node or 'none'})", remedy)
