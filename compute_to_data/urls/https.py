"""Fetches and puts ``https`` URLs, with aiohttp. It follows no redirect to a host that the site does not list."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from compute_to_data.errors import Refused
from compute_to_data.urls.access import UrlAccess
from compute_to_data.urls.address import Address, parse, without_credentials
from compute_to_data.urls.connections import explained, session
from compute_to_data.urls.resolver import GuardedResolver
from compute_to_data.urls.sink import Sink, failed
from compute_to_data.urls.source import Source

BLOCK = 1 << 18
_MOST_REDIRECTS = 5
_PUT = frozenset({200, 201, 202, 204})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


def authorization(secret: bytes) -> dict[str, str]:
    """The header of a request with credentials. The secret is the value of ``Authorization``, such as ``Bearer abc``.

    Refused for one that is no header's value, without any part of it.
    """
    try:
        value = secret.decode("ascii").strip()
    except UnicodeDecodeError:
        value = ""
    if secret and (not value or not value.isprintable()):
        remedy = "Make it again: printf 'Bearer my-token' | c2d secret create NAME"
        raise Refused("the secret of a URL", "is not one line of ASCII characters", remedy)
    return {"Authorization": value} if value else {}


async def receive(address: Address, access: UrlAccess, secret: bytes, has_checksum: bool, sink: Sink) -> None:
    """Fetch a URL. ``has_checksum``: whether the end of the file can be known without its length.

    Refused, and TaskFailed.
    """
    headers, first = authorization(secret), address
    resolver = GuardedResolver(access.hosts)
    with explained(address, resolver, lambda: sink.progress):
        async with session(access, resolver) as opened:
            for _ in range(_MOST_REDIRECTS + 1):
                resolver.need_literal(address.host, address.port)
                url = URL(address.text, encoded=True)
                async with opened.get(url, headers=headers, allow_redirects=False) as answer:
                    if answer.status == 200:
                        await save(answer, address, has_checksum, sink)
                        return
                    if answer.status not in _REDIRECTS:
                        raise failed(address, f"the server answered {answered(answer)}", hint(answer.status))
                    there = _redirected(address, answer.headers.get("Location", ""))
                access.permit(there)
                if there.authority != address.authority:
                    headers = {}
                address = there
    raise failed(first, f"the server redirected more than {_MOST_REDIRECTS} times", "Name the URL of the file itself")


async def send(source: Source, address: Address, access: UrlAccess, secret: bytes) -> None:
    """Put a file. It follows no redirect. Refused, and TaskFailed."""
    headers = {**authorization(secret), "Repr-Digest": f"sha-256=:{source.sha256}:"}  # RFC 9530
    resolver = GuardedResolver(access.hosts)
    with explained(address, resolver, lambda: source.progress):
        resolver.need_literal(address.host, address.port)
        async with (
            session(access, resolver) as opened,
            upload(opened, URL(address.text, encoded=True), source, headers) as answer,
        ):
            if answer.status not in _PUT:
                raise failed(address, f"the server answered {answered(answer)}", hint(answer.status))


@asynccontextmanager
async def upload(
    opened: aiohttp.ClientSession, url: URL, source: Source, headers: Mapping[str, str]
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer to a PUT of a file."""
    described = {"Content-Length": str(source.size), "Content-Type": "application/octet-stream", **headers}
    content = source.blocks() if source.size else b""
    try:
        async with opened.put(url, data=content, headers=described, allow_redirects=False) as answer:
            yield answer
    except (aiohttp.ClientError, OSError):
        if source.problem is not None:
            raise source.problem from None
        raise


def _redirected(address: Address, location: str) -> Address:
    there = urljoin(address.text, location)
    try:
        found = parse(there)
    except ValueError:
        found = None
    if found is None or found.scheme != address.scheme:
        cause = f"the server redirects to {without_credentials(there)[:200]!r}, which the worker does not fetch"
        raise failed(address, cause, "Name the URL of the file itself")
    return found


async def save(answer: aiohttp.ClientResponse, address: Address, has_checksum: bool, sink: Sink) -> None:
    """Save the body of an answer. TaskFailed when its end could not be known."""
    is_chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
    length = None if is_chunked else answer.content_length
    if length is None and not is_chunked and not has_checksum:
        cause = "the server does not say how long it is, so the worker could not notice that it was cut off"
        raise failed(address, cause, 'Give its checksum in the request ("sha256")')
    sink.announce(length)
    async for block in answer.content.iter_chunked(BLOCK):
        sink.write(block)


def answered(answer: aiohttp.ClientResponse) -> str:
    """The status of an answer, for a message."""
    return f"{answer.status} {(answer.reason or '')[:80]}"


def hint(status: int) -> str:
    """What to do about the status of an answer."""
    if status in (401, 403):
        return 'Name a secret with the credentials in the request ("secret"), or correct it'
    if status in (404, 410):
        return "Correct the URL"
    return "Submit the task again later"
