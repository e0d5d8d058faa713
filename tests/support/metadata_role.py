"""A role whose program describes its results."""

from __future__ import annotations

from compute_to_data.roles.container import Container
from compute_to_data.task import Task


class Describing(Container):
    """The program leaves AVUs in ``about/it.json``."""

    def metadata_output(self, task: Task, inputs: tuple[str, ...]) -> str:
        return "about/it.json"
