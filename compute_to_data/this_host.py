"""The names of this host, as the iRODS server on it knows them.

A resource's host need not be what ``hostname`` prints. A server counts as its own: ``localhost``, the ``host`` of its
``server_config.json``, and the addresses of the ``local`` entries in ``host_resolution`` there.
"""

from __future__ import annotations

import functools
import json
import os
from typing import Any

SERVER_CONFIG = "/etc/irods/server_config.json"
"""Only the service account and root may read it. Only they run programs to which it matters what is on this host."""


def names() -> frozenset[str]:
    """The names that a resource's host may have when it is this host. Where no iRODS server is, or its settings cannot
    be read, those that the operating system knows."""
    import socket  # here, since most programs that import this module never need it

    return _names_of_system(socket.gethostname()) | _names_of_server(SERVER_CONFIG)


@functools.lru_cache(maxsize=1)
def _names_of_system(host: str) -> frozenset[str]:
    """The names of a system with this host name. The full one may be a question to a name server: an agent, which asks
    with each file of an upload, has it answered once."""
    import socket

    return frozenset({"localhost", host, socket.getfqdn()})


def _names_of_server(path: str) -> frozenset[str]:
    try:
        found = os.stat(path)
        return _read(path, found.st_mtime_ns, found.st_ino, found.st_size)
    except (OSError, ValueError):  # ValueError: not JSON, or not UTF-8
        return frozenset()


@functools.lru_cache(maxsize=1)
def _read(path: str, *version: int) -> frozenset[str]:
    """The names in a server's settings. An agent asks again and again, so each version of the file is read once."""
    with open(path, encoding="utf-8") as file:
        document = json.load(file)
    entries = _member(_member(document, "host_resolution", {}), "host_entries", [])
    local = [entry for entry in entries if _member(entry, "address_type", "") == "local"]
    addresses = [address for entry in local for address in _member(entry, "addresses", [])]
    found = (_address(one) for one in (_member(document, "host", ""), *addresses))
    return frozenset(one for one in found if one)


def _member(document: Any, name: str, otherwise: Any) -> Any:
    """A member of a JSON object; ``otherwise`` where it is missing or has another type."""
    value = document.get(name) if isinstance(document, dict) else None
    return value if isinstance(value, type(otherwise)) else otherwise


def _address(value: Any) -> str:
    """A name or an address: text or, in settings from iRODS 4.2, an object that holds it."""
    return value if isinstance(value, str) else str(_member(value, "address", ""))
