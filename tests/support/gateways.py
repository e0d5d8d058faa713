"""Gateways for tests, on real sockets: in a thread of the test, or as a process of their own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from compute_to_data.gateway import serving
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.settings import GatewaySettings, load
from compute_to_data.submission.submit import Submitted
from support.people import settings_of
from support.site import ALICE, BOB, COMPUTE, HOME, PATIENCE, TrialSite, wait_until

PASSWORDS = {"alice": "correct horse", "bob": "battery staple"}


class RunningGateway:
    """A gateway of a site, with clients for its users."""

    def __init__(self, url: str, gateway: Gateway) -> None:
        self.url = url
        self.gateway = gateway

    def client(self, user: str = "", **options: Any) -> httpx.Client:
        """A client that signs each request with HTTP Basic; without a user it does not."""
        auth = (user, PASSWORDS[user]) if user else None
        return httpx.Client(base_url=self.url, auth=auth, timeout=PATIENCE, trust_env=False, **options)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def raw(self, sent: bytes) -> bytes:
        """The answer to bytes that no HTTP library would send, until the gateway hangs up."""
        found = b""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(sent)
            with contextlib.suppress(ConnectionError):
                while piece := connection.recv(65536):
                    found += piece
        return found


_hashes: list[bytes] = []
"""The file of passwords, which takes a second to make."""


def let_go(site: TrialSite, task_id: str, results: str = f"{HOME}/out") -> None:
    """A task of alice's that WAITS, and that was submitted through the gateway, goes on."""
    site.let_go(Submitted(task_id, f"{results}/{task_id}", COMPUTE, ""))


def give_passwords(site: TrialSite) -> None:
    """alice and bob can sign in."""
    file = Path(site.zone.directory, "passwords.json")
    if not _hashes:
        for user in (ALICE, BOB):
            site.zone.set_password(user, PASSWORDS[user.name])
        _hashes.append(file.read_bytes())
    file.write_bytes(_hashes[0])


def gateway_settings(site: TrialSite, **sections: Any) -> GatewaySettings:
    """The settings for a site's zone, with ``sections`` of the file added."""
    path = site.folder / "gateway.json"
    zone = {"kind": "embedded", "directory": site.zone.directory}
    listen = {"port": 0, **sections.pop("listen", {})}
    whole = {"zone": zone, "site": str(site.configuration_file), "listen": listen, **sections}
    path.write_text(json.dumps(whole), encoding="utf-8")
    return load(str(path))


@contextlib.contextmanager
def running(settings: GatewaySettings) -> Iterator[RunningGateway]:
    """A gateway in a thread."""
    gateway = Gateway(settings)
    listening = serving._socket(settings.listen)
    server = uvicorn.Server(serving._config(settings, gateway))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="gateway")
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the gateway to listen")
        yield RunningGateway(serving._address(settings.listen, listening), gateway)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the gateway did not stop"


@contextlib.contextmanager
def served(
    site: TrialSite,
    *words: str,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``c2d serve`` as alice types it, with more in her ``settings``: the address that it prints, and the process."""
    config = site.folder / "serve.json"
    config.write_text(json.dumps({**settings_of(site, "alice"), **(settings or {})}), encoding="utf-8")
    command = [sys.executable, "-m", "compute_to_data.cli.main", "serve", "--config-file", str(config), *words]
    log = Path(site.folder, "serve.log")
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert re.match("https?://", line), f"{line}\n{log.read_text()}"
        yield line, process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        assert process.stdout is not None
        process.stdout.close()


def with_digest(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()
