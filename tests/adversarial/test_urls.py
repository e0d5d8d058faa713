"""Attacks through URLs: on services of the site's own network, on the vault, and on other users' credentials.

The servers are real; only the name server's answers are made up.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import url_servers
from support.url_servers import HttpsServer, authority_in, need_s3

from compute_to_data.errors import ComputeToDataError, Refused, TaskFailed
from compute_to_data.urls.access import Bucket, Host, UrlAccess
from compute_to_data.urls.address import parse
from compute_to_data.urls.transfer import fetch

METADATA = "169.254.169.254"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    authority, _ = authority_in(tmp_path)
    with HttpsServer(authority, "localhost", "127.0.0.1", "::1", "inside.example.org", "data.example.org") as server:
        server.pages["/a"] = b"a secret of the site's own network"
        yield server


class Names:
    """Name servers of the test: each name has a list of answers, of which the last one stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *more: Any, **named: Any) -> Any:
        if host not in self.answers:
            return self._real(host, port, *more, **named)
        self.asked.append(host)
        answers = self.answers[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [self._real(one, port, type=socket.SOCK_STREAM)[0] for one in found]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


def refused(url: str, access: UrlAccess, folder: Path, **more: Any) -> str:
    with pytest.raises(ComputeToDataError) as caught:
        fetch(parse(url), access, str(folder / "fetched"), **more)
    assert isinstance(caught.value, (Refused, TaskFailed))
    return str(caught.value)


def ca(folder: Path) -> str:
    return str(folder / "authority.pem")


def test_a_listed_name_that_leads_inside_is_refused(server: HttpsServer, names: Names, tmp_path: Path) -> None:
    access = UrlAccess((Host("data.example.org", server.port),), ca_file=ca(tmp_path))
    for inside in ("127.0.0.1", "::1", "::ffff:127.0.0.1", METADATA, "10.0.0.1"):
        names.answers["data.example.org"] = [[inside]]
        (tmp_path / "fetched").unlink(missing_ok=True)
        assert "has the address" in refused(f"https://data.example.org:{server.port}/a", access, tmp_path)
    names.answers["data.example.org"] = [["93.184.215.14", "127.0.0.1"]]
    (tmp_path / "fetched").unlink()
    assert "has the address" in refused(f"https://data.example.org:{server.port}/a", access, tmp_path)
    assert server.requests.seen == []


def test_the_address_that_was_checked_is_the_one_that_is_used(
    server: HttpsServer, names: Names, tmp_path: Path
) -> None:
    """A name server that gives an allowed address first, and another one at each later look."""
    access = UrlAccess((Host("inside.example.org", server.port, private=True),), ca_file=ca(tmp_path))
    names.answers["inside.example.org"] = [["127.0.0.1"], [METADATA]]
    received = fetch(parse(f"https://inside.example.org:{server.port}/a"), access, str(tmp_path / "first"))
    assert received.size == len(server.pages["/a"])  # type: ignore[arg-type]
    assert names.asked == ["inside.example.org"], "one look for one connection"
    assert f"has the address {METADATA}" in refused(f"https://inside.example.org:{server.port}/a", access, tmp_path)
    assert len(names.asked) == 2, "each connection is checked anew"


def test_each_connection_of_a_redirect_is_checked(server: HttpsServer, names: Names, tmp_path: Path) -> None:
    access = UrlAccess((Host("inside.example.org", server.port, private=True),), ca_file=ca(tmp_path))
    url = f"https://inside.example.org:{server.port}"
    server.pages["/r"] = url_servers.redirect("/a")
    names.answers["inside.example.org"] = [["127.0.0.1"], [METADATA]]
    assert f"has the address {METADATA}" in refused(f"{url}/r", access, tmp_path)
    assert server.requests.paths == ["/r"]


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("https://127.0.0.1:{port}/a", "may not use the host 127.0.0.1"),
        ("https://[::1]:{port}/a", "may not use the host"),
        ("https://[::ffff:127.0.0.1]:{port}/a", "may not use the host"),
        (f"https://{METADATA}/latest/meta-data/", "may not use the host"),
        ("https://2130706433:{port}/a", "does not fetch"),
        ("https://0177.0.0.1:{port}/a", "does not fetch"),
        ("https://0x7f.1:{port}/a", "does not fetch"),
        ("https://localhost.:{port}/a", "does not fetch"),
        ("https://localhost:{port}@127.0.0.1:{port}/a", "does not fetch"),
        ("http://localhost:{port}/a", "does not fetch"),
        ("s3://bucket/a", "does not fetch"),
        ("file:///etc/passwd", "does not fetch"),
        ("//127.0.0.1:{port}/a", "may not use the host"),
        ("https://ⓛocalhost:{port}/a", "does not fetch"),
        ("", "more than 5 times"),
    ],
)
def test_no_redirect_leads_to_what_is_not_listed(server: HttpsServer, tmp_path: Path, to: str, words: str) -> None:
    access = UrlAccess((Host("localhost", server.port, private=True),), (Bucket("bucket"),), ca(tmp_path))
    target = to.format(port=server.port)
    server.pages["/r"] = url_servers.redirect(target.encode().decode("latin-1"))
    assert words in refused(server.url("/r"), access, tmp_path)
    assert set(server.requests.paths) == {"/r"}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_listed_address_is_not_private_by_itself(server: HttpsServer, tmp_path: Path, host: str) -> None:
    """A connection to an address asks no name server, so it is checked apart."""
    shown = f"[{host}]" if ":" in host else host
    url = f"https://{shown}:{server.port}/a"
    access = UrlAccess((Host(host, server.port),), ca_file=ca(tmp_path))
    assert "has the address" in refused(url, access, tmp_path)
    assert server.requests.seen == []


def test_a_service_of_s3_inside_is_refused(server: HttpsServer, names: Names, tmp_path: Path) -> None:
    need_s3()
    for endpoint in (server.url(""), f"https://127.0.0.1:{server.port}"):
        access = UrlAccess(buckets=(Bucket("bucket", endpoint),), ca_file=ca(tmp_path))
        (tmp_path / "fetched").unlink(missing_ok=True)
        assert "has the address" in refused("s3://bucket/a", access, tmp_path)
    names.answers["bucket.s3.us-east-1.amazonaws.com"] = [[METADATA]]
    (tmp_path / "fetched").unlink()
    assert "has the address" in refused("s3://bucket/a", UrlAccess(buckets=(Bucket("bucket"),)), tmp_path)
    assert server.requests.seen == []


def test_an_s3_service_that_redirects_is_not_followed(server: HttpsServer, tmp_path: Path) -> None:
    need_s3()
    access = UrlAccess(buckets=(Bucket("bucket", server.url(""), private=True),), ca_file=ca(tmp_path))
    for status in (301, 302, 307):
        server.pages["/bucket/a"] = url_servers.redirect(f"https://127.0.0.1:{server.port}/a", status)
        (tmp_path / "fetched").unlink(missing_ok=True)
        assert f"the S3 service answered {status}" in refused("s3://bucket/a", access, tmp_path)
    assert "/a" not in server.requests.paths


def test_a_certificate_must_be_valid_for_the_name(tmp_path: Path) -> None:
    need_s3()
    authority, file = authority_in(tmp_path)
    with HttpsServer(authority, "another.example.org") as server:
        server.pages["/a"] = b"a"
        access = UrlAccess((Host("localhost", server.port, private=True),), ca_file=file)
        assert "certificate is not valid" in refused(server.url("/a"), access, tmp_path)
        (tmp_path / "fetched").unlink()
        bucket = Bucket("bucket", server.url(""), private=True)
        assert "certificate is not valid" in refused(
            "s3://bucket/a", UrlAccess(buckets=(bucket,), ca_file=file), tmp_path
        )
        (tmp_path / "fetched").unlink()
        assert "certificate is not valid" in refused(server.url("/a"), UrlAccess(access.hosts), tmp_path), (
            "our own authority"
        )
    assert server.requests.seen == []


def test_a_file_that_grows_without_end_is_stopped(server: HttpsServer, tmp_path: Path) -> None:
    server.pages["/endless"] = url_servers.endless
    access = UrlAccess((Host("localhost", server.port, private=True),), ca_file=ca(tmp_path))

    def need_room(size: int) -> None:
        if size > 1 << 20:
            raise Refused("input", "is too large")

    assert "too large" in refused(server.url("/endless"), access, tmp_path, need_room=need_room)
    assert (tmp_path / "fetched").stat().st_size <= 2 << 20


def test_a_name_server_that_does_not_answer_delays_nothing(
    server: HttpsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, over = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        asked.set()
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)

    def check() -> None:
        if asked.is_set():
            raise Refused("task", "was cancelled")

    access = UrlAccess((Host("localhost", server.port, private=True),), ca_file=ca(tmp_path))
    assert "was cancelled" in refused(server.url("/a"), access, tmp_path, check=check)
    over.set()


def test_no_link_is_followed_in_the_vault(server: HttpsServer, tmp_path: Path) -> None:
    access = UrlAccess((Host("localhost", server.port, private=True),), ca_file=ca(tmp_path))
    (tmp_path / "target").write_bytes(b"kept")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(ComputeToDataError, match="File exists"):
        fetch(parse(server.url("/a")), access, str(tmp_path / "link"))
    assert (tmp_path / "target").read_bytes() == b"kept"
