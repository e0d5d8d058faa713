"""Fetches and puts objects of S3 buckets: botocore signs the requests, and the connections are those of ``https``.

It uses the credentials of the request's secret, or none. Those of the worker's own account, of its environment and of
the host (``169.254.169.254``) are never used. botocore itself connects to nothing.
"""

from __future__ import annotations

import configparser
import os
import re
from typing import Any

import aiohttp
import botocore
from botocore.config import Config
from botocore.session import Session
from yarl import URL

from compute_to_data.errors import Refused, TaskFailed
from compute_to_data.urls.access import Bucket, UrlAccess
from compute_to_data.urls.address import Address
from compute_to_data.urls.connections import explained, session
from compute_to_data.urls.https import hint, save, upload
from compute_to_data.urls.resolver import GuardedResolver
from compute_to_data.urls.sink import Sink, failed
from compute_to_data.urls.source import Source

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_VALID_SECONDS = 3600
"""How long a signed request may be used: not how long it may take."""
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,80})</Code>")
_MOST_OF_AN_ERROR = 64 << 10
_LARGEST = 5 << 30


class _NoCredentials:
    """In the place of botocore's chain of providers, which also asks the environment, files and the host."""

    def load_credentials(self) -> None:
        """None: requests are signed with what the secret holds, or not at all."""


def credentials(secret: bytes) -> dict[str, str]:
    """The keys in a secret that has the form of a file ``~/.aws/credentials`` with one section; none for ``b""``.

    Refused for anything else, without any part of it.
    """
    if not secret:
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(secret.decode("utf-8"))
        (section,) = parser.sections()
        found = {name: parser.get(section, name) for name in _KEYS if parser.has_option(section, name)}
    except (UnicodeDecodeError, configparser.Error, ValueError):
        found = {}
    if not all(found.get(name) for name in _KEYS[:2]):
        cause = f"does not have the form of a file ~/.aws/credentials with one section, {_KEYS[0]} and {_KEYS[1]}"
        raise Refused("the secret of an S3 URL", cause, "Make it again: c2d secret create NAME < FILE")
    return found


class Signer:
    """Makes the URLs of requests to a bucket's service. It takes a second to make."""

    def __init__(self, bucket: Bucket, secret: bytes) -> None:
        keys = credentials(secret)
        made = Session()
        made.set_config_variable("profile", None)
        made.set_config_variable("config_file", os.devnull)
        made.set_config_variable("credentials_file", os.devnull)
        made.register_component("credential_provider", _NoCredentials())
        config = Config(
            signature_version="s3v4" if keys else botocore.UNSIGNED,
            s3={"addressing_style": "path" if bucket.endpoint else "auto", "us_east_1_regional_endpoint": "regional"},
            ignore_configured_endpoint_urls=True,
            request_checksum_calculation="when_required",
        )
        endpoint = {"endpoint_url": bucket.endpoint} if bucket.endpoint else {}
        self._client = made.create_client("s3", region_name=bucket.region, config=config, **endpoint, **keys)

    def url(self, operation: str, address: Address, **parameters: Any) -> URL:
        """The URL of a request about an object: ``url("get_object", address)``."""
        named = {"Bucket": address.host, "Key": address.path, **parameters}
        signed = self._client.generate_presigned_url(operation, Params=named, ExpiresIn=_VALID_SECONDS)
        return URL(signed, encoded=True)


async def receive(address: Address, access: UrlAccess, secret: bytes, has_checksum: bool, sink: Sink) -> None:
    """Fetch an object. ``has_checksum`` as for ``https``. Refused, and TaskFailed."""
    bucket = access.need_bucket(address)
    signer, resolver = Signer(bucket, secret), GuardedResolver(bucket.hosts)
    with explained(address, resolver, lambda: sink.progress):
        async with session(access, resolver) as opened:
            url = signer.url("get_object", address)
            resolver.need_literal(url.host or "", url.port or 0)
            async with opened.get(url, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise await refusal(answer, address)
                await save(answer, address, has_checksum, sink)


async def send(source: Source, address: Address, access: UrlAccess, secret: bytes) -> None:
    """Put an object. The service compares the checksum. Refused, and TaskFailed."""
    if source.size > _LARGEST:
        cause = f"has {source.size} bytes, and an S3 service takes at most {_LARGEST} in one request"
        raise failed(address, cause, "Write smaller files, or fetch the result with c2d fetch")
    bucket = access.need_bucket(address)
    signer, resolver = Signer(bucket, secret), GuardedResolver(bucket.hosts)
    with explained(address, resolver, lambda: source.progress):
        url = signer.url("put_object", address, ChecksumSHA256=source.sha256, ContentLength=source.size)
        resolver.need_literal(url.host or "", url.port or 0)
        headers = {"x-amz-checksum-sha256": source.sha256}
        async with session(access, resolver) as opened, upload(opened, url, source, headers) as answer:
            if answer.status != 200:
                raise await refusal(answer, address)


async def refusal(answer: aiohttp.ClientResponse, address: Address) -> TaskFailed:
    """The failure of a request that the service did not carry out."""
    found = _CODE.search(await answer.content.read(_MOST_OF_AN_ERROR))
    code = found[1].decode() if found else (answer.reason or "")[:80]
    return failed(address, f"the S3 service answered {answer.status} {code}", hint(answer.status))
