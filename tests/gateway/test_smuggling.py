"""Bytes that two programs could read differently: the gateway takes no second request out of a first one."""

from __future__ import annotations

import base64
import re

import pytest
from support.gateways import PASSWORDS, RunningGateway

BASIC = b"Authorization: Basic " + base64.b64encode(f"alice:{PASSWORDS['alice']}".encode())
HIDDEN = b"GET /healthz?hidden HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /api/v1/catalog/resources HTTP/1.1\r\nHost: x\r\n" + BASIC + b"\r\n"
CHUNKS = b"\r\n2\r\n{}\r\n0\r\n\r\n"
CLOSE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def statuses(answer: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


REFUSED = {
    "both lengths": POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n" + CHUNKS,
    "both lengths, the other way round": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n" + CHUNKS,
    "both lengths of a GET": b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n"
    + CHUNKS,
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length below zero": POST + b"Content-Length: -2\r\n\r\n{}",
    "a length with an underscore": POST + b"Content-Length: 0_2\r\n\r\n{}",
    "a length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a list of lengths": POST + b"Content-Length: 2, 3\r\n\r\n{}",
    "another coding": POST + b"Transfer-Encoding: xchunked\r\n" + CHUNKS,
    "no coding": POST + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "a coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n" + CHUNKS,
    "two codings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" + CHUNKS,
    "a space after the name": POST + b"Transfer-Encoding : chunked\r\n" + CHUNKS,
    "a control character before the value": POST + b"Transfer-Encoding:\x0bchunked\r\n" + CHUNKS,
    "a carriage return in a value": POST + b"X: a\rContent-Length: 2\r\n\r\n{}",
    "a null in a value": POST + b"X: a\0Content-Length: 2\r\n\r\n{}",
    "a chunk in hexadecimal twice": POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "a chunk with an underscore": POST + b"Transfer-Encoding: chunked\r\n\r\n0_2\r\n{}\r\n0\r\n\r\n",
    "a chunk below zero": POST + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "chunks that end otherwise": POST + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "a chunk that is longer": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    "a line end in a chunk's extension": POST + b'Transfer-Encoding: chunked\r\n\r\n2;a="\n"\r\n{}\r\n0\r\n\r\n',
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two who sign in": b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\n" + BASIC + b"\r\nAuthorization: Bearer x\r\n\r\n",
    "two origins": POST + b"Origin: http://x\r\nOrigin: http://evil.example\r\nContent-Length: 2\r\n\r\n{}",
    "two contexts": POST + b"Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 2\r\n\r\n{}",
    "another protocol": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_ends_the_connection(gateway: RunningGateway, name: str) -> None:
    """Nothing that comes after it is answered, not even another request of the same client's."""
    found = statuses(gateway.raw(REFUSED[name] + HIDDEN))
    assert found in ([404, 400],) if name == "another protocol" else found in ([400], [501]), found


READ_ONCE = {
    "a length, and the next request": (POST + b"Content-Length: 2\r\n\r\n{}", 200),
    "chunks, and the next request": (POST + b"Transfer-Encoding: chunked\r\n" + CHUNKS, 200),
    "a request in the body of a GET": (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
        200,
    ),
    "a request in the body of a refused one": (
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
        401,
    ),
    "headers after the last chunk": (
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: x\r\nContent-Length: 5\r\n\r\n",
        200,
    ),
    "an upgrade": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200),
    "another server's address": (b"GET http://evil.example/api/v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n", 401),
    "another protocol's address": (b"GET ftp://evil.example/tasks HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a path that could be a host": (b"GET //evil.example/tasks/ HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a tunnel": (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "an echo": (b"TRACE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 405),
}


@pytest.mark.parametrize("name", READ_ONCE)
def test_each_request_is_answered_once(gateway: RunningGateway, name: str) -> None:
    """A body is never taken for a request."""
    sent, status = READ_ONCE[name]
    answer = gateway.raw(sent + CLOSE)
    assert statuses(answer) in ([status, 200], [status]), answer
    assert not re.search(rb"(?i)\r\n(location|set-cookie):", answer)


@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1:1", b'"><script>', b"x" * 2000, b"evil.example/path"])
def test_the_header_host_is_in_no_answer(gateway: RunningGateway, host: bytes) -> None:
    """It is the client's choice: no address in an answer, and so none in a cache, may come from it."""
    for path in (b"/", b"/sign-in", b"/tasks", b"/api/v1/docs", b"/nowhere", b"/oidc/login"):
        request = b"GET " + path + b" HTTP/1.1\r\nHost: " + host + b"\r\nAccept: text/html\r\nConnection: close\r\n\r\n"
        answer = gateway.raw(request)
        assert b" 500 " not in answer.partition(b"\r\n")[0]
        assert host not in answer, (path, answer)
    body = b'{"definition": {"exec": "true", "args": []}}'
    made = gateway.raw(
        b"POST /api/process_definition/ HTTP/1.1\r\nConnection: close\r\nHost: "
        + host
        + b"\r\n"
        + BASIC
        + b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    assert b" 201 " in made
    assert host not in made
