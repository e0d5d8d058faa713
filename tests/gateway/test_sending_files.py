"""Content that the kernel sends from a file of this host: the same bytes and the same behaviour as when it is read."""

from __future__ import annotations

import os
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from support.gateways import PASSWORDS, RunningGateway, gateway_settings, give_passwords, running
from support.site import HOME, PATIENCE, TrialSite, wait_until

from compute_to_data.gateway import sending_files
from compute_to_data.zones.gateway.session import GatewaySession

LARGE = 24_000_001


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the kernel was asked to send, each time."""
    found: list[int] = []
    original = os.sendfile

    def sendfile(target: int, source: int, offset: int, count: int) -> int:
        now = original(target, source, offset, count)
        found.append(now)
        return now

    monkeypatch.setattr(os, "sendfile", sendfile)
    return found


@pytest.fixture
def large(site: TrialSite) -> bytes:
    content = random.Random(1).randbytes(LARGE)
    site.alice.write(f"{HOME}/large", content)
    return content


def address(name: str = "large") -> str:
    return f"/api/v1/catalog/content?path={HOME}/{name}"


@pytest.mark.parametrize("size", [0, 1, 65_536, LARGE])
def test_every_length(alice: httpx.Client, site: TrialSite, sent: list[int], size: int) -> None:
    content = random.Random(size).randbytes(size)
    site.alice.write(f"{HOME}/x", content)
    for _ in range(3):  # also one after the other on a connection
        answer = alice.get(address("x"))
        assert answer.status_code == 200
        assert answer.content == content
        assert answer.headers["content-length"] == str(size)
        assert alice.get("/api/v1/me").status_code == 200
    assert sum(sent) == 3 * size


def test_parts_of_a_result(alice: httpx.Client, site: TrialSite, sent: list[int]) -> None:
    with site.working():
        task = alice.post("/api/v1/tasks", json=site.request("/bin/sh", "-c", "seq 1000000 > /outputs/x")).json()
        at = f"/api/v1/tasks/{task['task_id']}"
        wait_until(lambda: alice.get(at).json()["state"] == "COMPLETED", "its end")
    whole = alice.get(f"{at}/results/x").content
    assert whole == site.alice.read(f"{task['collection']}/x", 1 << 30)
    for first, last in ((0, 0), (1, 5_000_000), (3_000_000, 3_000_009), (len(whole) - 1, len(whole) + 5)):
        answer = alice.get(f"{at}/results/x", headers={"Range": f"bytes={first}-{last}"})
        assert (answer.status_code, answer.content) == (206, whole[first : last + 1])
    alice.get("/api/v1/me")  # the gateway answers when it has counted what it sent before
    assert sum(sent) > len(whole)
    before = len(sent)
    assert alice.head(f"{at}/results/x").headers["content-length"] == str(len(whole))
    alice.get("/api/v1/me")
    assert len(sent) == before, "HEAD sends nothing"


def asking(gateway: RunningGateway, client: httpx.Client) -> socket.socket:
    """A client that has asked for the large one, and reads nothing."""
    token = client.post("/authenticate").text
    connection = socket.socket()
    connection.settimeout(PATIENCE)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # else a host could hold all of it for us
    connection.connect(("127.0.0.1", gateway.port))
    connection.sendall(f"GET {address()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    return connection


def files_open(name: str) -> int:
    """How many descriptors of this process lead to a file with such a name."""
    found = 0
    for one in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{one}").endswith(name)
        except FileNotFoundError:
            continue
    return found


def test_slow_clients_hold_no_thread_and_get_all_of_it(
    gateway: RunningGateway, alice: httpx.Client, large: bytes
) -> None:
    alice.get("/api/v1/me")
    slow = [asking(gateway, alice) for _ in range(30)]
    wait_until(lambda: files_open("/large") >= 30, "all downloads to have begun")
    assert alice.get("/readyz").status_code == 200
    assert threading.active_count() < 60
    received = b""
    while len(received) < LARGE:
        received += slow[0].recv(1 << 20)
    assert received.endswith(large)
    for one in slow:
        one.close()
    wait_until(lambda: files_open("/large") == 0, "the files to be closed")


def test_a_client_that_goes_away_frees_what_it_held(
    gateway: RunningGateway, alice: httpx.Client, large: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for read in (0, 100, 3_000_000):
        connection = asking(gateway, alice)
        received = 0
        while received < read:
            received += len(connection.recv(1 << 16))
        wait_until(lambda: files_open("/large") == 1, "the download to begin")
        connection.close()
        wait_until(lambda: files_open("/large") == 0, "the file to be closed")
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 4, "the descriptors to be closed")
    assert alice.get(address()).content == large
    assert "Exception" not in caplog.text


def test_a_file_that_ends_too_soon_breaks_the_answer_off(
    alice: httpx.Client, site: TrialSite, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(site.alice.stat(f"{HOME}/large").replicas[0].physical_path)  # type: ignore[union-attr]
    original, asked = os.sendfile, []

    def sendfile(target: int, source: int, offset: int, count: int) -> int:
        if not asked:
            os.truncate(file, 100_000)
        asked.append(offset)
        return original(target, source, offset, count)

    monkeypatch.setattr(os, "sendfile", sendfile)
    with pytest.raises(httpx.RemoteProtocolError):
        alice.get(address())
    assert asked
    assert alice.get("/api/v1/me").status_code == 200


def test_under_tls_it_is_read(site: TrialSite, tmp_path: Path, sent: list[int], large: bytes) -> None:
    """The kernel would send it in plain."""
    give_passwords(site)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    listen = {"certificate": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    with running(gateway_settings(site, listen=listen)) as gateway:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        answer = httpx.get(
            gateway.url + address(),
            auth=("alice", PASSWORDS["alice"]),
            verify=trusted,
            timeout=PATIENCE,
            trust_env=False,
        )
        assert answer.content == large
    assert sent == []


@pytest.fixture
def through(gateway: RunningGateway, alice: httpx.Client) -> Iterator[GatewaySession]:
    session = GatewaySession(gateway.url, f"Bearer {alice.post('/authenticate').text}")
    yield session
    session.close()


@pytest.mark.parametrize("way", ["sent", "read"])
def test_c2d_notices_damage_either_way(
    through: GatewaySession,
    site: TrialSite,
    large: bytes,
    tmp_path: Path,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if way == "read":
        monkeypatch.setattr(sending_files, "sender", lambda scope: None)
    through.get(f"{HOME}/large", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == large
    file = Path(site.alice.stat(f"{HOME}/large").replicas[0].physical_path)  # type: ignore[union-attr]
    damages: list[tuple[Callable[[], Any], str]] = [
        (lambda: file.write_bytes(b"X" + large[1:]), "checksum"),
        (lambda: file.write_bytes(large[:-1]), f"{LARGE - 1} arrived"),
        (lambda: file.write_bytes(large + b"X"), f"{LARGE + 1} arrived"),
    ]
    for damage, said in damages:
        damage()
        with pytest.raises(Exception, match=said):
            through.get(f"{HOME}/large", str(tmp_path / "damaged"))
        assert not (tmp_path / "damaged").exists()
