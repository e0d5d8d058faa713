"""Calls of one account on an iRODS server, each on a connection of its own. Errors name what a call was about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from compute_to_data.pools import pool
from compute_to_data.zones.irods.connections import CALL_SECONDS, Connections
from compute_to_data.zones.irods.failures import translated
from compute_to_data.zones.irods.wire import ServerError

PARALLEL = 4
"""How many connections a call on many items uses."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Calls:
    """The calls of one account. Threads may share it.

    ``use`` is a function of a connection and of the ``rest``. ``subject``: what it is about, as errors name it.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    def ask(self, subject: str, use: Callable[..., Result], *rest: Any, seconds: float = CALL_SECONDS) -> Result:
        """A call that may be repeated on another connection if the first one breaks."""
        return self.make(subject, use, *rest, again=True, seconds=seconds)

    def make(
        self, subject: str, use: Callable[..., Result], *rest: Any, again: bool = False, seconds: float = CALL_SECONDS
    ) -> Result:
        """A call. ``again``: whether it may be repeated. ZoneError, or a kind of it, for what the server refuses;
        ZoneOutOfReach when it gives no answer in ``seconds``."""
        try:
            return self.connections.call(lambda connection: use(connection, *rest), again=again, seconds=seconds)
        except ServerError as error:
            raise translated(error, subject) from error


def each(do: Callable[[Item], None], items: Sequence[Item]) -> None:
    """Call ``do`` for each item, several at once. Tries all of them, then raises the first error."""
    if len(items) <= 1:
        for item in items:
            do(item)
        return
    with pool(min(PARALLEL, len(items)), "irods") as threads:
        started = [threads.submit(do, item) for item in items]
    for future in started:
        future.result()
