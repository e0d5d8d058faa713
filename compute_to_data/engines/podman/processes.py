"""Waits for the ends of processes that are not our children, without polling.

The kernel makes a descriptor of a process readable when the process has ended. See pidfd_open(2).
"""

from __future__ import annotations

import os
import select


def opened(process: int) -> int:
    """A descriptor of a process. ProcessLookupError when it has ended."""
    return os.pidfd_open(process)


def wait_for_end(process: int, timeout: float | None) -> bool:
    """Wait, at most ``timeout`` seconds (None: for ever), for a process to end. Returns whether it has."""
    try:
        descriptor = opened(process)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))
    finally:
        os.close(descriptor)
