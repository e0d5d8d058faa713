"""What holds the tasks of a resource up, asked again and again by who waits for tasks."""

from __future__ import annotations

from compute_to_data.client.workbench import Workbench
from compute_to_data.coordination import published_line


class HoldUps:
    """Remembers what the workers of resources published last, so that a person reads it once."""

    def __init__(self, workbench: Workbench) -> None:
        self._workbench = workbench
        self._known: dict[str, str] = {}

    def news(self, resource: str) -> str | None:
        """Why no task begins on a resource, '' when nothing holds them up any more; None when this is no news, and for
        the first question: a worker that has just been called may be about to start."""
        if resource not in self._known:
            self._known[resource] = ""
            return None
        published = published_line.read(self._workbench.catalog, self._workbench.attributes, resource)
        held_up = published.held_up if published is not None else ""
        if held_up == self._known[resource]:
            return None
        self._known[resource] = held_up
        return held_up
