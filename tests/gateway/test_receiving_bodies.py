"""Large bodies go past h11, and yet begin and end where their lengths say."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import socket
from typing import Any

import h11
import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway
from support.site import HOME, PATIENCE, TrialSite, wait_until

_SIGNED = base64.b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()
AUTHORIZATION = f"Authorization: Basic {_SIGNED}\r\n"
CONTENT = os.urandom(3 << 20)
BODY = CONTENT + hashlib.sha256(CONTENT).digest()
NEXT = f"GET /api/v1/me HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Connection: close\r\n\r\n".encode()


def head(name: str, more: str = "", length: int = len(BODY)) -> bytes:
    at = f"/api/v1/catalog/content?path={HOME}/{name}"
    return f"PUT {at} HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}Content-Length: {length}\r\n{more}\r\n".encode()


def statuses(answers: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d+) ", answers)


@pytest.mark.parametrize("piece", [20_000, 1 << 18, 1 << 30])
def test_a_large_body_and_the_next_request(gateway: RunningGateway, site: TrialSite, piece: int) -> None:
    """Whatever the pieces are in which they arrive."""
    sent = head("large") + BODY + NEXT
    found = b""
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        for start in range(0, len(sent), piece):
            connection.sendall(sent[start : start + piece])
        while block := connection.recv(65536):
            found += block
    assert statuses(found) == [b"200", b"200"]
    assert b'"user":"alice#tempZone"' in found
    assert site.alice.read(f"{HOME}/large", len(CONTENT)) == CONTENT


def test_h11_sees_little_of_it(gateway: RunningGateway, alice: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0
    receive = h11.Connection.receive_data

    def counted(self: h11.Connection, data: bytes) -> None:
        nonlocal seen
        seen += len(data)
        receive(self, data)

    monkeypatch.setattr(h11.Connection, "receive_data", counted)
    # Only what arrives in large pieces goes past it, and how large they are is up to the kernel.
    large = os.urandom(32 << 20)
    body = large + hashlib.sha256(large).digest()
    answer = alice.put("/api/v1/catalog/content", params={"path": f"{HOME}/large"}, content=body)
    assert answer.status_code == 200
    assert seen < len(large) / 2


def test_a_client_that_waits_until_it_may_send(gateway: RunningGateway, site: TrialSite) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        connection.sendall(head("waited", "Expect: 100-continue\r\nConnection: close\r\n"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        found = b""
        while block := connection.recv(65536):
            found += block
    assert statuses(found) == [b"200"]
    assert site.alice.read(f"{HOME}/waited", len(CONTENT)) == CONTENT


def test_a_large_body_that_nobody_wants(gateway: RunningGateway) -> None:
    """The answer comes before the body has ended; what follows is not taken for a request."""
    sent = head("x").replace(b"Basic", b"Nothing") + BODY[:-1] + b"\n" + NEXT
    assert statuses(gateway.raw(sent))[:1] == [b"401"]


def test_a_large_body_that_is_cut_off(gateway: RunningGateway, site: TrialSite, alice: httpx.Client) -> None:
    before: Any = site.snapshot()
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        connection.sendall(head("cut", length=len(BODY) + 1) + BODY)
    wait_until(lambda: not gateway.gateway.shares._under_way, "the request to end")
    assert site.snapshot() == before
    assert alice.get("/api/v1/me").status_code == 200
