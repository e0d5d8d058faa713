"""Whether a daemon has ended since a moment.

A connection on which nothing is asked tells it: the kernel closes it with the daemon. A connection that brings a job's
output ends when the job ends, too, and so tells nothing.
"""

from __future__ import annotations

import select
import socket
import weakref


class Presence:
    """One daemon, from now on until it ends, or closes the connection because nothing is asked for long. Threads may
    share it."""

    def __init__(self, connection: socket.socket) -> None:
        """``connection``: to the daemon, on which nothing was asked. It is closed with this object."""
        self._connection = connection
        weakref.finalize(self, connection.close)

    def has_ended(self) -> bool:
        """Whether the daemon may have ended. False when it certainly has not."""
        poll = select.poll()  # anew each time: two threads cannot use one at a time
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(0))
