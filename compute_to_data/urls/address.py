"""The URLs that a task may name, and how they are shown.

The form is narrow on purpose: each reader of a URL must see the same host in it. So there is no user name, no ``\\``,
no letter beyond ASCII, and no way to write an address but the usual one (RFC 3986, section 7.4, has the others).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 4096
"""The most characters of a URL."""
HTTPS, S3 = "https", "s3"
_ANY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HTTPS = re.compile(r"https://([^/?#]*)((?:/[^?#]*)?)((?:\?[^#]*)?)((?:#.*)?)", re.IGNORECASE | re.DOTALL)
_S3 = re.compile(r"s3://([^/]*)/?(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?")
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9._~:/?#@!$&'()*+,;=\[\]-]|%[0-9A-Fa-f]{2})*")
"""Those of RFC 3986."""
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""A name whose last part begins with a letter: no decimal, octal or hexadecimal form of an address is one."""
_LONGEST_HOST = 253
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LONGEST_KEY = 1024
_CREDENTIALS = re.compile(r"(://)[^/?#]*@")


@dataclass(frozen=True)
class Address:
    """A URL. ``scheme``: ``https`` or ``s3``. ``host``: the name or the IP address, in lower case and without brackets;
    of ``s3`` the bucket. ``port``: 0 for ``s3``. ``path``: of ``https`` as it is written, of ``s3`` the key, in which
    no character means anything else. ``query``: with its ``?``; it may hold a key."""

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""

    @property
    def authority(self) -> str:
        """Host and port, as a URL has them; the bucket."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.scheme == S3 or self.port == 443 else f"{host}:{self.port}"

    @property
    def text(self) -> str:
        """The whole URL."""
        return f"{self.scheme}://{self.authority}{self.path if self.scheme != S3 else '/' + self.path}{self.query}"

    @property
    def shown(self) -> str:
        """The URL for messages, logs and provenance: without its query, since that may hold a key."""
        whole = self.text
        return f"{whole[: len(whole) - len(self.query)]}?..." if self.query else whole

    @property
    def name(self) -> str:
        """The last part of its path, which names a file; '' when it has none."""
        last = self.path.rpartition("/")[2]
        if self.scheme == S3:
            return last
        from urllib.parse import unquote_to_bytes  # here: slow to import, and rarely needed

        return unquote_to_bytes(last).decode("utf-8", "replace")


def is_url(text: str) -> bool:
    """Whether a text has the form of a URL of any scheme."""
    return _ANY.match(text) is not None


def without_credentials(text: str) -> str:
    """Any text that should be a URL, for a message: without what stands before the host, and without its query."""
    return _CREDENTIALS.sub(r"\1", text.partition("?")[0])


def parse(text: str) -> Address:
    """The URL. ValueError with what was expected, without any part of the text."""
    if len(text) > LONGEST:
        raise ValueError(f"a URL of at most {LONGEST} characters")
    found = _S3.fullmatch(text)
    if found:
        return _s3(*found.groups())
    found = _HTTPS.fullmatch(text)
    if not found:
        raise ValueError("https://... or s3://...: no other URLs are fetched or written")
    authority, path, query, fragment = found.groups()
    if "@" in authority:
        raise ValueError('no user name or password in the URL: name a secret instead ("secret")')
    if fragment:
        raise ValueError("no # in the URL: a server never gets what follows it")
    if not _CHARACTERS.fullmatch(f"{path}{query}"):
        raise ValueError("only the characters that a URL may have; write others as % and two hexadecimal digits")
    parts = _AUTHORITY.fullmatch(authority.lower())
    port = int(parts[2] or 443) if parts else 0
    host = checked_host(parts[1]) if parts else ""
    if not host or not 0 < port < 65536:
        raise ValueError(
            "the name of a host such as data.example.org, in ASCII (xn--...) and without a dot at its end, or an IP "
            "address in its usual form, and perhaps a port"
        )
    return Address(HTTPS, host, port, path or "/", query)


def _s3(bucket: str, key: str) -> Address:
    if not BUCKET.fullmatch(bucket):
        raise ValueError("s3://BUCKET/KEY with the name of a bucket: 3 to 63 of a-z 0-9 . -")
    if not key or len(key.encode("utf-8", "replace")) > _LONGEST_KEY or not key.isprintable():
        raise ValueError(f"s3://BUCKET/KEY with a key of 1 to {_LONGEST_KEY} bytes without control characters")
    if any(part in (".", "..") for part in key.split("/")):
        raise ValueError("a key without the parts . and ..")
    return Address(S3, bucket, 0, key)


def checked_host(text: str) -> str:
    """A host's name, or an address in its usual form, without brackets; '' for anything else."""
    if len(text) <= _LONGEST_HOST and _HOST.fullmatch(text):
        return text
    import ipaddress  # here, since few URLs have an address

    literal = text[1:-1] if text.startswith("[") and text.endswith("]") else ""
    try:
        if literal:
            address = ipaddress.IPv6Address(literal)
            return str(address) if "%" not in literal else ""
        return text if str(ipaddress.IPv4Address(text)) == text else ""
    except ValueError:
        return ""
