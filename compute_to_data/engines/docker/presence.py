"""Whether a daemon has ended since a moment.

A connection on which nothing is asked tells it: the kernel closes it with the daemon. A connection that brings a job's
output ends when the job ends, too, and so tells nothing.
"""

from __future__ import annotations

import select
import socket
import weakref


class Presence:
    """One daemon, from now on until it ends, or closes the connection because nothing is asked for long."""

    def __init__(self, connection: socket.socket) -> None:
        """``connection``: to the daemon, on which nothing was asked. It is closed with this object."""
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)
        weakref.finalize(self, connection.close)

    def has_ended(self) -> bool:
        """Whether the daemon may have ended. False when it certainly has not."""
        return bool(self._poll.poll(0))
