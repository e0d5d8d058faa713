"""IMAGE_PROCESSING: make thumbnails of one image, and store its metadata as AVUs."""

from __future__ import annotations

from collections.abc import Mapping

from compute_to_data.errors import ConfigurationError, InvalidRequest
from compute_to_data.pipeline.hooks import Program
from compute_to_data.roles.container import Container
from compute_to_data.task import OUTPUTS, Task


class ImageProcessing(Container):
    """Runs ``make-thumbnails``. A task with a process runs its process instead.

    Settings: ``image``, and ``gps``: whether the place where the picture was taken also becomes an
    AVU (default false).
    """

    def program(self, task: Task, inputs: tuple[str, ...], supplied: Mapping[str, str]) -> Program:
        """The image's thumbnail program, with its input and outputs."""
        if task.process is not None:
            return super().program(task, inputs, supplied)
        if not self.settings.get("image"):
            raise ConfigurationError(f"role {self.name}", "has no `image`", "Set it for the role in the configuration")
        if len(inputs) != 1:
            raise InvalidRequest("/inputs", f"found {len(inputs)} data objects, expected exactly 1 image")
        metadata = f"{OUTPUTS}/{self.metadata_output(task, inputs)}"
        options = ("--metadata", metadata, *(("--gps",) if self.settings.get("gps") else ()))
        folder = metadata.rpartition("/")[0]
        return Program.of(str(self.settings["image"]), (("make-thumbnails", *options, inputs[0], folder),))

    def metadata_output(self, task: Task, inputs: tuple[str, ...]) -> str:
        """``<stem>_thumbnails/<stem>_metadata.json``."""
        name = inputs[0].rpartition("/")[2] if task.process is None else ""
        stem = name.rpartition(".")[0] or name
        return f"{stem}_thumbnails/{stem}_metadata.json" if stem else ""
