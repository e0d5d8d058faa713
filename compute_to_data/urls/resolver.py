"""Looks up hosts for the worker's own connections, and refuses addresses to which it may not connect.

A connection goes to the addresses that :meth:`GuardedResolver.resolve` returns, so the address that was checked is the
one that is used, whatever the name server answers next.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from compute_to_data.errors import Refused
from compute_to_data.urls.access import Host
from compute_to_data.urls.reachable import may_connect


class GuardedResolver(AbstractResolver):
    """A resolver for some hosts. ``refused``: why it returned no address, when that was its own decision."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self.refused: Refused | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host, if the worker may connect to each of them. OSError when it has none."""
        listed = self._listed(host, port)
        found = await _look_up(host, port, family)
        for address in found:
            self._need(listed, address["host"])
        return found

    def need_literal(self, host: str, port: int) -> None:
        """Refused when a host is an address to which the worker may not connect: no resolver is asked about those."""
        listed = self._listed(host, port)
        if ":" in host or host.rpartition(".")[2].isdecimal():
            self._need(listed, host)

    def _listed(self, host: str, port: int) -> Host:
        listed = next((one for one in self._hosts if (one.name, one.port) == (host.lower(), port)), None)
        if listed is None:
            raise self._refusal(host, "the worker may not connect to it")
        return listed

    def _need(self, listed: Host, address: str) -> None:
        if not may_connect(listed, address):
            raise self._refusal(
                listed.text, f"it has the address {address}, to which the worker does not connect for it"
            )

    def _refusal(self, host: str, cause: str) -> Refused:
        remedy = 'If the host belongs to the site itself, the administrator can list it with "private": true'
        self.refused = Refused(f"host {host}", cause, remedy)
        return self.refused

    async def close(self) -> None:
        """Nothing to close."""


async def _look_up(host: str, port: int, family: int) -> list[ResolveResult]:
    """``getaddrinfo`` in a thread that nobody waits for: it may take minutes, and a cancelled task must not."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()

    def ask() -> None:
        try:
            found: Any = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        except OSError as error:
            found = error
        try:
            loop.call_soon_threadsafe(settle, found)
        except RuntimeError:  # the loop has ended: nobody wants to know any more
            return

    def settle(found: Any) -> None:
        if answer.done():
            return
        if isinstance(found, OSError):
            answer.set_exception(found)
        else:
            answer.set_result(found)

    threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
    return [_result(host, port, *one) for one in await answer]


def _result(host: str, port: int, family: int, _: int, protocol: int, __: str, address: Any) -> ResolveResult:
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return {"hostname": host, "host": address[0], "port": port, "family": family, "proto": protocol, "flags": flags}
