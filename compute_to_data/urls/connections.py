"""What all connections of the worker to hosts of URLs share: whom they trust, how long they wait, what went wrong."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp

from compute_to_data import __version__
from compute_to_data.errors import ComputeToDataError, ConfigurationError
from compute_to_data.urls.access import UrlAccess
from compute_to_data.urls.address import Address
from compute_to_data.urls.resolver import GuardedResolver
from compute_to_data.urls.sink import failed

CONNECT_SECONDS, SILENT_SECONDS = 30, 60
"""How long a connection may take, and how long a server may send nothing."""
_LATER = "Submit the task again; if that does not help, ask the server's administrator"


def authorities(access: UrlAccess) -> str | None:
    """The file with the certificates of the authorities to trust: the site's, else the host's, if that has one.

    ConfigurationError when the site's file cannot be read.
    """
    if not access.ca_file:
        usual = ssl.get_default_verify_paths().cafile
        return usual if usual and os.path.isfile(usual) else None
    try:
        ssl.create_default_context(cafile=access.ca_file)
    except OSError as error:  # ssl.SSLError is one
        cause = f"holds no certificates that can be read ({error.strerror or error})"
        raise ConfigurationError(access.ca_file, cause, "Correct urls.ca_file in the configuration") from None
    return access.ca_file


def tls(access: UrlAccess) -> ssl.SSLContext:
    """A context that needs a valid certificate for the host's name. ConfigurationError."""
    return ssl.create_default_context(cafile=authorities(access))


@contextmanager
def explained(address: Address, resolver: GuardedResolver, progress: Callable[[], str]) -> Iterator[None]:
    """Turn the errors of a connection into TaskFailed, which names the URL and the cause. ``progress``: how much was
    transferred before that."""
    try:
        yield
    except ComputeToDataError:
        raise
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        if resolver.refused is not None:
            raise resolver.refused from None
        raise failed(address, cause_of(error, progress()), _LATER) from error


class _Connector(aiohttp.TCPConnector):
    """Remembers its connections, to drop them without waiting for the server: closing TLS needs its answer."""

    def __init__(self, access: UrlAccess, resolver: GuardedResolver) -> None:
        super().__init__(resolver=resolver, use_dns_cache=False, ssl=tls(access), force_close=True)
        self._transports: list[asyncio.Transport] = []

    async def connect(self, *args: Any, **more: Any) -> aiohttp.connector.Connection:
        """As aiohttp's own."""
        connection = await super().connect(*args, **more)
        if connection.transport is not None:
            self._transports.append(connection.transport)
        return connection

    async def drop(self) -> None:
        """End all connections at once."""
        for transport in self._transports:
            transport.abort()
        await asyncio.sleep(0)  # they end in the loop's next round


@asynccontextmanager
async def session(access: UrlAccess, resolver: GuardedResolver) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that connects where the resolver says, and only with a valid certificate. It asks no proxy, keeps no
    cookies, and decompresses nothing."""
    connector = _Connector(access, resolver)
    try:
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": f"compute-to-data/{__version__}", "Accept-Encoding": "identity"},
        ) as opened:
            yield opened
    finally:
        await connector.drop()


def cause_of(error: BaseException, progress: str) -> str:
    """What a connection's error means."""
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        inner = getattr(error, "certificate_error", error)
        return f"the server's certificate is not valid: {getattr(inner, 'verify_message', '') or inner}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"its host has no address ({error.os_error.strerror or error.os_error})"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"the worker cannot connect to its host ({error.os_error.strerror or error.os_error})"
    if isinstance(error, asyncio.TimeoutError):
        return f"the server was silent for {SILENT_SECONDS} seconds, or for {CONNECT_SECONDS} while connecting"
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError)):
        return f"the connection was cut off after {progress}"
    return f"the server's answer makes no sense ({type(error).__name__})"
