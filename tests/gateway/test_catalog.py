"""The catalog over HTTP: what the contract of every zone (``contract/test_gateway.py``) does not ask."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateways import RunningGateway, with_digest
from support.site import ALICE, HOME, TrialSite, wait_until

from compute_to_data.errors import AccessDenied, Code, NotFound, ZoneError, ZoneOutOfReach
from compute_to_data.gateway import open_objects, room, sending_files
from compute_to_data.model import Registration
from compute_to_data.zones.gateway import GatewaySession

CATALOG = "/api/v1/catalog"


@pytest.fixture
def session(gateway: RunningGateway) -> Iterator[GatewaySession]:
    people = gateway.gateway.people
    opened = GatewaySession(gateway.url, f"Bearer {people.tokens.give(people.on_behalf_of(ALICE))}")
    yield opened
    opened.close()


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1 << 20, (1 << 20) + 1, (1 << 22) - 32, (1 << 22) + 5, 9_000_000])
def test_uploads_of_every_length(alice: httpx.Client, site: TrialSite, size: int) -> None:
    content = os.urandom(size)
    answer = alice.put(f"{CATALOG}/content", params={"path": f"{HOME}/x"}, content=with_digest(content))
    assert answer.status_code == 200, answer.text
    assert site.alice.read(f"{HOME}/x", size) == content
    assert alice.get(f"{CATALOG}/content", params={"path": f"{HOME}/x"}).content == content


def vault(site: TrialSite) -> list[str]:
    """The files of the zone's vaults."""
    return sorted(str(one) for one in Path(site.zone.directory, "vaults").rglob("*") if one.is_file())


@pytest.fixture
def spool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the gateway has its temporary files."""
    folder = tmp_path / "spool"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def cut_off(gateway: RunningGateway, half_is_there: Callable[[], bool], **more: Any) -> None:
    """Send the first 5 MB of 6."""
    content = os.urandom(5_000_000)

    def half() -> Iterator[bytes]:
        yield content
        wait_until(half_is_there, "the gateway to take the first half")
        raise ConnectionAbortedError

    headers = {"Content-Length": str(6_000_032)}
    with gateway.client("alice") as client, pytest.raises(ConnectionAbortedError):
        client.put(f"{CATALOG}/content", params={"path": f"{HOME}/x", **more}, content=half(), headers=headers)


def test_an_upload_that_is_cut_off_leaves_nothing(
    gateway: RunningGateway, alice: httpx.Client, site: TrialSite, spool: Path
) -> None:
    """It goes into the zone as it comes, and not to the gateway's disk."""
    before = vault(site)

    def half_is_there() -> bool:
        assert not os.listdir(spool)
        with pytest.raises(NotFound):
            site.alice.stat(f"{HOME}/x")
        return len(vault(site)) > len(before)

    cut_off(gateway, half_is_there)
    wait_until(lambda: vault(site) == before, "the zone to forget what came")
    content = os.urandom(6_000_000)
    for wrong in (content, content[:-1] + with_digest(content)[-32:], b"", b"short", with_digest(content)[:-1]):
        answer = alice.put(f"{CATALOG}/content", params={"path": f"{HOME}/x"}, content=wrong)
        assert answer.status_code in (400, 409), answer.text
    assert vault(site) == before
    with pytest.raises(NotFound):
        site.alice.stat(f"{HOME}/x")


def test_an_overwrite_that_is_cut_off_changes_nothing(
    gateway: RunningGateway, alice: httpx.Client, site: TrialSite, spool: Path
) -> None:
    site.alice.write(f"{HOME}/x", b"as it was")
    before = vault(site)
    cut_off(gateway, lambda: bool(os.listdir(spool)), force=True)
    wait_until(lambda: not os.listdir(spool), "the gateway to forget what came")
    assert (site.alice.read(f"{HOME}/x", 100), vault(site)) == (b"as it was", before)
    content = os.urandom(6_000_000)
    at = {"path": f"{HOME}/x", "force": "true"}
    assert alice.put(f"{CATALOG}/content", params=at, content=content + bytes(32)).status_code == 409
    assert alice.put(f"{CATALOG}/content", params=at, content=with_digest(content)).status_code == 200
    assert site.alice.read(f"{HOME}/x", len(content)) == content


def test_no_user_takes_all_of_the_gateways_disk(
    gateway: RunningGateway, alice: httpx.Client, bob: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overwrites wait there, and files that a form brings."""
    small = os.statvfs_result((1, 1, 40_000_000, 40_000_000, 40_000_000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: small)
    site.alice.write(f"{HOME}/x", b"as it was")
    at = {"path": f"{HOME}/x", "force": "true"}
    for size, status in (
        (8_000_000, 200),
        (16_000_000, 507),
    ):  # a quarter of 36 MB and of what they take; a tenth is kept free
        answer = alice.put(f"{CATALOG}/content", params=at, content=with_digest(os.urandom(size)))
        assert answer.status_code == status, answer.text
        answer = bob.post("/api/v1/datasets", files=[("files", ("a", os.urandom(size)))])
        assert answer.status_code == {200: 201}.get(status, status), answer.text
    assert not gateway.gateway.room._taken


def test_a_name_that_somebody_else_takes_meanwhile(
    gateway: RunningGateway, alice: httpx.Client, site: TrialSite
) -> None:
    content, before = os.urandom(6_000_000), vault(site)

    def pieces() -> Iterator[bytes]:
        yield content
        wait_until(lambda: len(vault(site)) > len(before), "the gateway to take the first part")
        site.alice.write(f"{HOME}/x", b"first")
        yield hashlib.sha256(content).digest()

    answer = alice.put(f"{CATALOG}/content", params={"path": f"{HOME}/x"}, content=pieces())
    assert answer.status_code == 409, answer.text
    assert site.alice.read(f"{HOME}/x", 100) == b"first"
    assert len(vault(site)) == len(before) + 1


def test_a_file_that_becomes_shorter_is_not_stored(session: GatewaySession, site: TrialSite, tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(os.urandom(12_000_000))
    with pytest.raises(ZoneError) as caught:
        session.put(str(file), f"{HOME}/x", moved=lambda count: os.truncate(file, 1))
    assert caught.value.code is Code.USER_CHKSUM_MISMATCH
    with pytest.raises(NotFound):
        site.alice.stat(f"{HOME}/x")
    session.put(str(file), f"{HOME}/x")


def test_a_host_without_room(alice: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_RESERVE_BYTES", 1 << 62)
    full = os.statvfs("/")
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: os.statvfs_result([*full[:4], 0, *full[5:]]))
    assert alice.put(f"{CATALOG}/content", params={"path": f"{HOME}/x"}, content=with_digest(b"abc")).status_code == 200
    again = {"path": f"{HOME}/x", "force": "true"}
    assert alice.put(f"{CATALOG}/content", params=again, content=with_digest(bytes(2_000_000))).status_code == 507


def test_open_objects_belong_to_one_user(
    alice: httpx.Client, bob: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.alice.write(f"{HOME}/x", b"content")
    name = alice.post(f"{CATALOG}/open", params={"path": f"{HOME}/x"}).json()["result"]
    at, part = f"{CATALOG}/open/{name}", {"offset": 3, "size": 2}
    assert alice.get(at, params=part).content == b"te"
    assert bob.get(at, params=part).status_code == 404
    assert bob.delete(at).status_code == 404
    assert bob.post(f"{CATALOG}/open", params={"path": f"{HOME}/x"}).status_code == 404
    for wrong in ({"offset": -1, "size": 2}, {"offset": 1 << 63, "size": 2}, {"offset": 0, "size": -1}, {"size": 1}):
        assert alice.get(at, params=wrong).status_code == 400
    monkeypatch.setattr(open_objects, "MOST_OF_A_USER", 1)
    assert alice.post(f"{CATALOG}/open", params={"path": f"{HOME}/x"}).status_code == 503
    assert alice.delete(at).status_code == 204
    assert alice.get(at, params=part).status_code == 404


def test_open_objects_end(gateway: RunningGateway, session: GatewaySession, monkeypatch: pytest.MonkeyPatch) -> None:
    session.write(f"{HOME}/x", b"content")
    with session.open_to_read(f"{HOME}/x") as opened:
        assert opened.read(0, 3) == b"con"
        gateway.gateway.tend()
        assert opened.read(3, 3) == b"ten"
        monkeypatch.setattr(open_objects, "IDLE_SECONDS", -1.0)
        gateway.gateway.tend()
        with pytest.raises(NotFound, match="Open it again"):
            opened.read(0, 1)


BAD = (
    ("stat", b"{}"), ("stat", b'{"logical_path": 5}'), ("stat", b"["), ("stat", b"[]"), ("stat", b"[" * 100_000),
    ("trim", b'{"data_object": "/x", "number": "one"}'), ("find", b'{"query": {"kind": "planet"}}'),
    ("find", b'{"query": 5}'), ("annotate", b'{"entity": {"kind": "collection", "name": "/"}, "add": [1]}'),
    ("set_access", b'{"logical_path": "/x", "user": "a#b", "access": 3, "recursive": false}'),
    ("stat", b'{"logical_path": "relative"}'), ("stat", b'{"logical_path": "/\xff"}'),
)  # fmt: skip


def test_bad_calls(alice: httpx.Client) -> None:
    for method, body in BAD:
        answer = alice.post(f"{CATALOG}/{method}", content=body)
        assert answer.status_code in (400, 404), (method, body[:60], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    for method in ("close", "__class__", "put", "nonsense"):
        assert alice.post(f"{CATALOG}/{method}", content=b"{}").status_code == 404
    assert alice.post(f"{CATALOG}/stat", content=b"x" * (2 << 20)).status_code == 413


@pytest.mark.parametrize("method", ["a_later_one", "content"])
def test_a_gateway_that_is_older_than_its_client(gateway: RunningGateway, session: GatewaySession, method: str) -> None:
    """It knows fewer methods. It may have other things at their addresses."""
    with pytest.raises(ZoneError) as caught:
        session.wire.call(method, {})
    assert str(caught.value).startswith(f"{gateway.url}: the gateway is older than this client, and does not know its ")
    assert f"method {method}. Ask for an update of the gateway" in str(caught.value)
    assert caught.value.code is Code.SYS_NOT_SUPPORTED
    assert not isinstance(caught.value, NotFound)
    with pytest.raises(NotFound, match="no such data object"):
        session.stat(f"{HOME}/nothing")


def test_nobody_registers_files(gateway: RunningGateway, site: TrialSite) -> None:
    """Not even an administrator, and so nobody reads a file of the gateway's host."""
    people = gateway.gateway.people
    for user in (ALICE, site.zone.admin):
        session = GatewaySession(gateway.url, f"Bearer {people.tokens.give(people.on_behalf_of(user))}")
        with pytest.raises(AccessDenied) as caught:
            session.register("dsp_resc", [Registration(f"{session.home}/passwd", "/etc/passwd", 1, "")])
        assert caught.value.code is Code.PATH_REG_NOT_ALLOWED
        session.close()


def test_a_gateway_that_goes_away_in_the_middle_of_a_download(
    session: GatewaySession, tmp_path: Path, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.write(f"{HOME}/x", bytes(20_000_000), force=True)

    def read(found: object, offset: int, size: int) -> bytes:
        if offset > 8_000_000:
            raise ZoneOutOfReach("the zone", "has gone away")
        return bytes(size)

    from compute_to_data.zones.embedded import transfer

    monkeypatch.setattr(sending_files, "sender", lambda scope: None)  # as for a zone whose files are elsewhere
    monkeypatch.setattr(transfer.OpenFile, "read", read)
    with pytest.raises(ZoneOutOfReach):
        session.get(f"{HOME}/x", str(tmp_path / "x"))
    assert os.listdir(tmp_path / "") == [] or not (tmp_path / "x").exists()
    with pytest.raises(ZoneOutOfReach):
        session.read(f"{HOME}/x", 30_000_000)


def test_a_restarted_gateway_knows_no_token(gateway: RunningGateway, session: GatewaySession) -> None:
    gateway.gateway.people.tokens.tend(everything=True)
    with pytest.raises(AccessDenied, match="c2d login http"):
        session.stat(HOME)
