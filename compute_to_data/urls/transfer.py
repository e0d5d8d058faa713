"""Fetches what a URL names into a file, and puts a file to a URL. The worker's process does this, never a job.

The transfer runs in an event loop of its own, and looks a few times a second whether the task goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from compute_to_data.errors import ConfigurationError
from compute_to_data.urls.access import UrlAccess
from compute_to_data.urls.address import S3, Address
from compute_to_data.urls.sink import Received, Sink
from compute_to_data.urls.source import Source

_LOOK_SECONDS = 0.25
"""How often a transfer looks whether the task goes on."""
_Result = TypeVar("_Result")


def need_libraries(address: Address) -> None:
    """ConfigurationError when the worker's environment lacks what it needs for a URL."""
    try:
        import aiohttp  # noqa: F401

        if address.scheme == S3:
            import botocore  # noqa: F401
    except ImportError as error:
        cause = f"the worker's environment lacks the package {error.name}, which it needs for URLs"
        remedy = "An administrator installs it there: pip install 'compute-to-data[urls]'"
        raise ConfigurationError(address.shown, cause, remedy) from None


def fetch(
    address: Address,
    access: UrlAccess,
    path: str,
    *,
    secret: bytes = b"",
    sha256: str = "",
    need_room: Callable[[int], None] = lambda size: None,
    check: Callable[[], None] = lambda: None,
) -> Received:
    """Fetch what a URL names into the new file ``path``.

    ``secret``: the credentials; see ``https.authorization`` and ``s3.credentials``. ``sha256``: the expected checksum,
    in hexadecimal. ``check`` is called a few times a second: it may raise. Refused, and TaskFailed that names the URL
    without credentials. After an error, the file may be there and incomplete.
    """
    access.permit(address)
    need_libraries(address)
    from compute_to_data.urls import https, s3  # here, since only a worker has what they import

    receive = s3.receive if address.scheme == S3 else https.receive
    with Sink(path, need_room) as sink:
        carry_out(receive(address, access, secret, sha256 != "", sink), check)
        return sink.received(address, sha256)


def put(
    path: str,
    size: int,
    checksum: str,
    address: Address,
    access: UrlAccess,
    *,
    secret: bytes = b"",
    check: Callable[[], None] = lambda: None,
) -> None:
    """Put the file ``path`` to a URL. ``size`` in bytes and ``checksum`` are those in the catalog.

    ``secret`` and ``check`` as for :func:`fetch`. Refused, and TaskFailed that names the URL without credentials.
    EngineError when the file is not what the catalog says.
    """
    access.permit(address)
    need_libraries(address)
    from compute_to_data.urls import https, s3  # here, since only a worker has what they import

    send = s3.send if address.scheme == S3 else https.send
    with Source(path, size, checksum) as source:
        carry_out(send(source, address, access, secret), check)


def carry_out(work: Coroutine[Any, Any, _Result], check: Callable[[], None]) -> _Result:
    """Run a coroutine to its end. ``check`` is called a few times a second; when it raises, the work is cancelled."""

    async def watched() -> _Result:
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
                check()
        except BaseException:
            task.cancel()
            await asyncio.wait({task})
            raise
        return task.result()

    return asyncio.run(watched())
