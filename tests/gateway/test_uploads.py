"""Datasets that a form brings: whole, or not at all."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway
from support.page_visitors import PageVisitor, proof
from support.site import HOME, TrialSite, wait_until

from compute_to_data.errors import Code, zone_error
from compute_to_data.gateway import request_bounds, room, uploads
from compute_to_data.zones.embedded.session import EmbeddedSession

DATASETS = "/api/v1/datasets"
Visit = Callable[[str], PageVisitor]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where uploads are while they arrive. Nothing is left there."""
    place = tmp_path / "arriving"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    yield place
    wait_until(lambda: not list(place.glob("c2d-upload-*")), "the upload to be forgotten")


def files(*named: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, content)) for name, content in named]


def nothing_is_there(site: TrialSite, client: httpx.Client) -> bool:
    there = site.contents(f"{HOME}/datasets") if client.get(DATASETS).json() else {}
    return not there and client.get(DATASETS).json() == []


def test_a_folder_becomes_a_dataset(alice: httpx.Client, site: TrialSite) -> None:
    sent = files(("m/a.txt", b"a"), ('m/d/ü "b".txt', b"bb"), ("m/empty", b""))
    answer = alice.post(DATASETS, files=sent)
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == f"{DATASETS}/{made['dataset']}"
    assert (made["name"], made["files"], made["size"]) == ("m", 3, 3)
    assert alice.get(DATASETS).json()[0]["is_complete"]
    found = site.contents(f"{made['collection']}/files")
    assert found == {"a.txt": b"a", 'd/ü "b".txt': b"bb", "empty": b""}
    assert alice.get(f'{answer.headers["location"]}/files/d/ü "b".txt').content == b"bb"


def test_single_files_and_a_name(alice: httpx.Client, site: TrialSite) -> None:
    content = os.urandom(3_000_000)
    answer = alice.post(DATASETS, files=files(("a.bin", content), ("d/b", b"b")), params={"name": "two"})
    made = answer.json()
    assert (answer.status_code, made["name"]) == (201, "two")
    assert site.contents(f"{made['collection']}/files") == {"a.bin": content, "d/b": b"b"}
    assert alice.get(f"{DATASETS}/{made['dataset']}/files/a.bin").content == content


BAD_NAMES = ("../x", "a/../../x", "/etc/passwd", "a//b", "a/./b", "..", ".", "a/", "x" * 300, "a/" * 70 + "x")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_elsewhere(alice: httpx.Client, site: TrialSite, name: str, tmp_path: Path) -> None:
    before = {one.name for one in tmp_path.iterdir()}
    answer = alice.post(DATASETS, files=files(("good", b"1"), (name, b"2")))
    assert answer.status_code == 400, answer.text
    assert nothing_is_there(site, alice)
    assert {one.name for one in tmp_path.iterdir()} == before


def test_forms_that_make_no_dataset(alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    for content, headers, status in (
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"", {"Content-Type": "multipart/form-data"}, 415),
        (b"", kind, 400),
        (b"nonsense", kind, 400),
        (b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\n", kind, 400),  # no file
        (b'--b\r\nContent-Disposition: form-data; name=f; filename=""\r\n\r\n\r\n--b--\r\n', kind, 400),
        (b"--b\r\n" + b"X: " + b"y" * 40_000 + b"\r\n\r\n1\r\n--b--\r\n", kind, 400),
        (b"--b\r\nContent-Disposition: form-data; name=name\r\n\r\n" + b"y" * 99_000 + b"\r\n--b--\r\n", kind, 413),
        (b'--b\r\nContent-Disposition: form-data; name=f; filename="\xff"\r\n\r\n1\r\n--b--\r\n', kind, 400),
    ):
        answer = alice.post(DATASETS, content=content, headers=headers)
        assert answer.status_code == status, (content[:80], answer.text)
    assert alice.post(DATASETS, files=files(("a", b""), ("a", b""))).status_code == 400
    assert alice.post(DATASETS, files=files(("a", b""), ("a/b", b""))).status_code == 400
    monkeypatch.setattr(uploads, "MOST_FILES", 2)
    assert alice.post(DATASETS, files=files(("a", b""), ("b", b""), ("c", b""))).status_code == 413
    monkeypatch.setattr(room, "_RESERVE_BYTES", 1 << 62)
    monkeypatch.setattr(os, "fstatvfs", lambda descriptor: os.statvfs_result((1, 1, 10, 0, 0, 0, 0, 0, 0, 255)))
    assert alice.post(DATASETS, files=files(("a", b"1"))).status_code == 507
    assert nothing_is_there(site, alice)


def raw(gateway: RunningGateway, body: bytes, length: int) -> bytes:
    """What the gateway says to an upload that ends before its length."""
    name = base64.b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()
    head = f"POST {DATASETS} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {name}\r\nContent-Length: {length}\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(head.encode() + body)
        if len(body) < length:
            connection.shutdown(socket.SHUT_WR)
        found = b""
        with contextlib.suppress(ConnectionResetError):  # so it ends when the gateway has not read all that was sent
            while piece := connection.recv(65536):
                found += piece
    return found


def test_an_upload_that_is_cut_off_leaves_nothing(
    alice: httpx.Client, gateway: RunningGateway, site: TrialSite
) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name=f; filename="%s"\r\n\r\n%s\r\n'
    whole = part % (b"a", b"x" * 2_000_000) + part % (b"d/b", b"y" * 10)
    raw(gateway, whole, 9_000_000)
    assert nothing_is_there(site, alice)
    answer = raw(gateway, whole, len(whole))  # all bytes are there, but not the form's end
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"ended before it was complete" in answer
    assert nothing_is_there(site, alice)


def test_a_slow_upload_is_given_up(
    alice: httpx.Client, gateway: RunningGateway, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bounds, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(request_bounds, "_DRAINED_SECONDS", 0.2)
    name = base64.b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()
    head = f"POST {DATASETS} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {name}\r\nContent-Length: 99999\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), 60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")
    assert nothing_is_there(site, alice)


def test_a_zone_that_fails_in_the_middle_keeps_nothing(
    alice: httpx.Client, site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_all(self: Any, files: Any, **more: Any) -> Any:
        self.write(files[0][1], b"half")
        raise zone_error(Code.SYS_RESC_QUOTA_EXCEEDED, "the quota", "is exceeded")

    monkeypatch.setattr(EmbeddedSession, "put_all", put_all)
    answer = alice.post(DATASETS, files=files(("a", b"1"), ("b", b"2")))
    assert answer.status_code == 507, answer.text
    assert nothing_is_there(site, alice)


def test_the_form_without_javascript(visit: Visit, site: TrialSite) -> None:
    alice = visit("alice")
    page = alice.http.get("/datasets").text
    assert "You have no datasets yet" in page
    form = {"proof": proof(page), "name": ""}
    # A browser sends a file without a name for each place where nothing was chosen.
    sent = [*files(("m/a.csv", b"x,y\n1,2\n"), ("m/d/b", b"b")), ("files", ("", b""))]
    answer = alice.http.post("/datasets", data=form, files=sent)
    assert answer.status_code == 303, answer.text
    at = answer.headers["location"]
    assert "a.csv" in alice.http.get(at).text
    assert "1 file" in alice.http.get(at).text
    assert "/files/d/b" in alice.http.get(at, params={"path": "d"}).text
    assert "<td>1</td>" in alice.http.get(f"{at}/files/a.csv").text
    assert "m</strong>" in alice.http.get("/datasets").text
    assert alice.http.get(f"{at}/zip").content.startswith(b"PK")
    bob = visit("bob")
    for path in ("", "/zip", "/files/a.csv", "/show/a.csv"):
        assert bob.http.get(at + path).status_code == 404, path
    assert bob.send("/datasets", f"{at}/remove").status_code == 404
    assert alice.send(at, f"{at}/remove").headers["location"] == "/datasets"
    assert nothing_is_there(site, alice.http)


def test_an_upload_without_the_proof_is_not_even_kept(visit: Visit, site: TrialSite) -> None:
    alice = visit("alice")
    for form in ({}, {"proof": "x"}, {"proof": proof(visit("bob").http.get("/tasks").text)}):
        answer = alice.http.post("/datasets", data=form, files=files(("a", b"1" * 100)))
        assert answer.status_code == 403, answer.text
        answer = alice.http.post("/new/upload", data=form, files=files(("a.ipynb", b"{}")))
        assert answer.status_code == 403
    assert nothing_is_there(site, alice.http)
    answer = visit("").http.post("/datasets", files=files(("a", b"1")))
    assert answer.headers["location"] == "/sign-in?next=/datasets"
