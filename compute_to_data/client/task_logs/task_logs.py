"""The value that holds what a task's program wrote."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskLogs:
    """What is kept of each stream (``limits.log_bytes``); of a running task, what it has written so far."""

    stdout: bytes
    stderr: bytes
