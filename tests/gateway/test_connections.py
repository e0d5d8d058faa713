"""What a connection does: requests one after the other, bounds of what comes ahead, and large bodies that a thread
receives straight from the socket."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import os
import re
import socket
import struct
import termios
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway
from support.site import HOME, PATIENCE, TrialSite, wait_until

from compute_to_data.errors import NotFound
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.catalog import uploading
from compute_to_data.gateway.connections import reader, straight
from compute_to_data.gateway.connections.exchange import Exchange
from compute_to_data.gateway.problems import HttpError
from compute_to_data.zones.embedded.arriving import Arriving
from compute_to_data.zones.embedded.audit import audit

BASIC = b"Authorization: Basic " + base64.b64encode(f"alice:{PASSWORDS['alice']}".encode()) + b"\r\n"
HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
CLOSE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LARGE = 6_000_000
"""More than is kept in memory, and than the kernel holds for a client that does not wait."""


def statuses(answer: bytes) -> list[int]:
    return [int(one) for one in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def uploading_head(size: int, name: str = "x", more: str = "") -> bytes:
    line = f"PUT /api/v1/catalog/content?path={HOME}/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{more}"
    return line.encode() + BASIC + b"\r\n"


def checked(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def test_requests_that_come_together_are_answered_in_turn(gateway: RunningGateway) -> None:
    asked = [f"GET /nowhere{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for number in range(20)]
    answer = gateway.raw(b"".join(asked) + CLOSE)
    assert statuses(answer) == [404] * 20 + [200]
    assert re.findall(rb'"subject": "/nowhere(\d+)"', answer) == [str(number).encode() for number in range(20)]


def test_what_cannot_be_read_does_not_disturb_the_answers_before_it(gateway: RunningGateway) -> None:
    answer = gateway.raw(HEALTHZ * 2 + b"nonsense\r\n\r\n" + HEALTHZ)
    assert statuses(answer) == [200, 200]
    assert b"Invalid" not in answer


def test_few_requests_wait_for_the_answer_of_another(gateway: RunningGateway) -> None:
    """A client that sends many more than it reads would fill the gateway's memory."""
    assert len(statuses(gateway.raw(HEALTHZ * 1000))) < 40
    with gateway.client() as client:
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "endless",
    [
        b"POST /authenticate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: ",
        b"POST /authenticate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
        b"POST /authenticate HTTP/1.1\r\nHost: x\r\nX: ",
        b"POST /",
        b"POST /authenticate HTTP/1.1\r\nX",
    ],
    ids=["a trailer", "an extension of a chunk", "a header", "a target", "a name"],
)
def test_nothing_without_an_end_is_kept(gateway: RunningGateway, endless: bytes) -> None:
    sent = 0
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        try:
            connection.sendall(endless)
            while sent < 1 << 26:
                connection.sendall(b"a" * 4096)
                sent += 4096
        except OSError:
            pass
    assert sent < 1 << 26, "the gateway took 64 MiB of it"


def test_a_body_after_the_answer_is_taken_up_to_a_bound(gateway: RunningGateway) -> None:
    """So that a client which is still sending sees why it is refused, and one that sends forever ends."""
    sent = 0
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n")
        answer = connection.recv(65536)
        try:
            while sent < 1 << 28:
                connection.sendall(bytes(1 << 16))
                sent += 1 << 16
        except OSError:
            pass
    assert statuses(answer) == [404]
    assert 8 << 20 <= sent < 1 << 28


class Lines:
    """The connection of an exchange by itself."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, content: bytes) -> None:
        self.written += content

    async def can_take(self) -> None:
        """At once."""

    def read_on(self, wanted: bool) -> None:
        """Nothing comes."""

    def answered(self, exchange: Exchange) -> None:
        self.is_closed = not exchange.keeps_alive

    def break_off(self) -> None:
        self.is_closed = True


def answer_of(method: str, version: str, headers: list[tuple[bytes, bytes]], *parts: bytes) -> Lines:
    """What an exchange writes for an application that sends these parts."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> Lines:
        line = Lines()
        scope = {"type": "http", "method": method, "http_version": version}
        await Exchange(line, scope, version == "1.1", [], False).run(app)
        return line

    return asyncio.run(run())


def test_how_the_end_of_an_answer_is_told() -> None:
    streamed = answer_of("GET", "1.1", [], b"abc", b"", b"de")
    assert streamed.written == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert not streamed.is_closed
    old = answer_of("GET", "1.0", [], b"abc", b"de")
    assert (old.written, old.is_closed) == (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcde", True)
    known = answer_of("GET", "1.1", [(b"Content-Length", b"3")], b"abc")
    assert (known.written, known.is_closed) == (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", False)
    head = answer_of("HEAD", "1.1", [(b"Content-Length", b"3")], b"abc")
    assert (head.written, head.is_closed) == (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", False)


@pytest.mark.parametrize("parts", [(b"ab",), (b"abcd",)], ids=["too short", "too long"])
def test_an_answer_that_does_not_have_its_length_ends_the_connection(parts: tuple[bytes, ...]) -> None:
    line = answer_of("GET", "1.1", [(b"content-length", b"3")], *parts)
    assert line.is_closed
    assert b"abcd" not in line.written


@pytest.mark.parametrize("header", [(b"x", b"a\r\nb: c"), (b"x\r\n", b"a"), (b"x", b"\0"), (b"", b"a")])
def test_no_header_of_an_answer_holds_two_lines(header: tuple[bytes, bytes]) -> None:
    line = answer_of("GET", "1.1", [header])
    assert line.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"b: c" not in line.written
    assert line.is_closed


def test_the_parser_is_strict() -> None:
    """uvicorn's own protocol makes it lenient about data after the last request of a connection."""

    class Found:
        def on_head(self, head: reader.Head) -> None: ...

        def on_content(self, content: bytes) -> None: ...

        def on_end(self) -> None: ...

    found = reader.Reader(Found())
    found.feed(CLOSE)
    with pytest.raises(reader.Unreadable):
        found.feed(HEALTHZ)


# Bodies straight from the socket


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How much of each body came straight from the socket."""
    found: list[int] = []
    original = straight._Giver.give

    async def give(self: straight._Giver, *words: Any) -> int:
        try:
            return await original(self, *words)
        finally:
            found.append(self._received)

    monkeypatch.setattr(straight._Giver, "give", give)
    return found


MOST = uploading._IN_MEMORY


@pytest.mark.parametrize("size", [MOST, MOST + 1, MOST + 2, (1 << 22) - 31, LARGE])
def test_each_length_and_the_requests_after_it(
    gateway: RunningGateway, site: TrialSite, given: list[int], size: int
) -> None:
    """All in one go: what comes after the body is a request, no byte earlier or later."""
    content = os.urandom(size)
    for number in range(2):
        sent = uploading_head(size + 32, f"x{number}") + checked(content) + HEALTHZ + CLOSE
        assert statuses(gateway.raw(sent)) == [200, 200, 200]
        assert site.alice.read(f"{HOME}/x{number}", size) == content
    assert len(given) == (2 if size > MOST else 0)


def test_pieces_of_every_kind(gateway: RunningGateway, site: TrialSite, given: list[int]) -> None:
    """The head in two pieces, the body in many, the SHA-256 in two."""
    content = os.urandom(LARGE)
    body, head = checked(content), uploading_head(LARGE + 32)
    pieces = [head[:50], head[50:], body[:1], body[1:100_000], body[100_000:-33], body[-33:-20], body[-20:], CLOSE]
    answer = b""
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        for piece in pieces:
            connection.sendall(piece)
            wait_until(lambda: not _unread(connection), "the gateway to read it")
        while found := connection.recv(65536):
            answer += found
    assert statuses(answer) == [200, 200]
    assert site.alice.read(f"{HOME}/x", LARGE) == content
    assert given and given[0] > LARGE // 2


def _unread(connection: socket.socket) -> int:
    """Bytes that the other end has not acknowledged."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0])


def test_a_client_that_waits_until_it_may_send(gateway: RunningGateway, site: TrialSite, given: list[int]) -> None:
    content = os.urandom(LARGE)
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        connection.sendall(uploading_head(LARGE + 32, more="Expect: 100-continue\r\n"))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(checked(content))
        assert statuses(connection.recv(65536)) == [200]
    assert given == [LARGE]


def test_a_pause_ends_it_and_leaves_nothing(
    gateway: RunningGateway, site: TrialSite, given: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bounds, "PAUSE_SECONDS", 0.5)
    answer = gateway.raw(uploading_head(LARGE + 32) + bytes(2_000_000))
    assert statuses(answer) == [408]
    assert b"paused" in answer and b"connection: close" in answer.lower()
    assert given
    assert audit(site.zone.directory) == []


def test_a_client_that_goes_away_leaves_nothing(gateway: RunningGateway, site: TrialSite, given: list[int]) -> None:
    for sent in (0, 100, 2_000_000, LARGE, LARGE + 31):
        before = len(given)
        with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
            connection.sendall(uploading_head(LARGE + 32) + bytes(sent))
        wait_until(lambda before=before: len(given) > before, "the gateway to notice")
    wait_until(lambda: not gateway.gateway.shares._under_way, "the last upload to end")
    assert audit(site.zone.directory) == []
    with pytest.raises(NotFound):
        site.alice.stat(f"{HOME}/x")


def test_an_error_in_the_middle_is_answered_and_the_connection_goes_on(
    gateway: RunningGateway, site: TrialSite, given: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the body is not taken for a request."""
    original, calls = Arriving.write, []

    def write(self: Arriving, pieces: Any) -> None:
        calls.append(pieces)
        if len(calls) == 2:
            raise HttpError(507, "the content", "no room")
        original(self, pieces)

    monkeypatch.setattr(Arriving, "write", write)
    answer = gateway.raw(
        uploading_head(LARGE + 32) + (CLOSE * (LARGE // len(CLOSE) + 2))[: LARGE + 32] + HEALTHZ + CLOSE
    )
    assert statuses(answer) == [507, 200, 200]
    assert 0 < given[0] < LARGE


def test_wrong_content_is_refused_and_the_connection_goes_on(gateway: RunningGateway, given: list[int]) -> None:
    answer = gateway.raw(uploading_head(LARGE + 32) + bytes(LARGE) + bytes(32) + HEALTHZ + CLOSE)
    assert statuses(answer) == [409, 200, 200]
    assert given


def test_slow_clients_hold_no_thread(gateway: RunningGateway, alice: httpx.Client, given: list[int]) -> None:
    """More of them than the gateway has threads."""
    alice.get("/api/v1/me")  # so that the password is known, whose check takes long
    slow = [socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) for _ in range(60)]
    try:
        for number, one in enumerate(slow):
            one.sendall(uploading_head(LARGE + 32, f"slow{number}") + bytes(300_000))
        wait_until(lambda: sum(gateway.gateway.shares._under_way.values()) >= 60, "all uploads to have begun")
        assert gateway.gateway.settings.threads < 60
        assert alice.get("/readyz").status_code == 200
        assert alice.get("/api/v1/tasks").status_code == 200
    finally:
        for one in slow:
            one.close()
    wait_until(lambda: len(given) == 60, "the gateway to notice")


def test_chunks_come_through_the_parser(alice: httpx.Client, site: TrialSite, given: list[int]) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (checked(bytes(LARGE))[start : start + 65536] for start in range(0, LARGE + 32, 65536))

    assert alice.put(f"/api/v1/catalog/content?path={HOME}/x", content=pieces()).status_code == 200
    assert given == []
    assert straight.giver({"type": "http"}) is None
