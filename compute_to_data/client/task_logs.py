"""The value that holds what a task's program wrote."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskLogs:
    """The last bytes of each stream: ``limits.log_bytes`` of the site, fewer while the task runs."""

    stdout: bytes
    stderr: bytes
