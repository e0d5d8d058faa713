"""The gateway behind a real nginx, whose configuration is the one on the documents' page."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support import nginx
from support.gateways import PASSWORDS, RunningGateway, gateway_settings, give_passwords, let_go, running
from support.nginx import Proxy
from support.site import HOME, PATIENCE, WAITS, TrialSite

TASKS = "/api/v1/tasks"


@pytest.fixture
def gateway(site: TrialSite) -> Iterator[RunningGateway]:
    give_passwords(site)
    with running(gateway_settings(site, listen={"proxies": ["127.0.0.1"]})) as started:
        yield started


@pytest.fixture
def proxy(gateway: RunningGateway, tmp_path: Path) -> Iterator[Proxy]:
    with nginx.in_front_of(gateway.url, tmp_path / "nginx") as started:
        yield started


def test_tls_and_the_way_to_it(proxy: Proxy) -> None:
    with proxy.client("alice") as client:
        answer = client.get("/api/v1/me")
        assert answer.json()["user"] == "alice#tempZone"
        assert "max-age" in answer.headers["strict-transport-security"], "the gateway knows that its client has TLS"
    plain = httpx.get(f"{proxy.plain}/api/v1/me?x=1", trust_env=False)
    assert (plain.status_code, plain.headers["location"]) == (301, f"{proxy.url}/api/v1/me?x=1")


def test_events_of_a_log_come_at_once(proxy: Proxy, site: TrialSite) -> None:
    """The program ends only when its first line has come through nginx."""
    with site.working(), proxy.client("alice") as client:
        request = site.request("/bin/sh", "-c", f"echo first; {WAITS}; echo last")
        task = client.post(TASKS, json=request).json()["task_id"]
        seen = ""
        with client.stream("GET", f"{TASKS}/{task}/logs/events") as answer:
            for line in answer.iter_lines():
                seen += f"{line}\n"
                if "first" in line:
                    let_go(site, task)
        assert "last" in seen
        assert "COMPLETED" in seen


def test_large_content_passes_and_large_documents_do_not(proxy: Proxy, tmp_path: Path) -> None:
    home = tmp_path / "laptop"
    (home / "data").mkdir(parents=True)
    content = os.urandom(8 << 20)
    (home / "data/large").write_bytes(content)
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "SSL_CERT_FILE": str(proxy.authority)}

    def c2d(*words: str, typed: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "compute_to_data.cli.main", *words],
            input=typed, text=True, capture_output=True, cwd=home, env=environment, timeout=3 * PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    c2d("login", proxy.url, "--user", "alice", typed=f"{PASSWORDS['alice']}\n")
    dataset = c2d("dataset", "upload", "data", "--output", "raw").split()[0]
    with proxy.client("alice") as client:
        digest = hashlib.sha256()
        with client.stream("GET", f"/api/v1/datasets/{dataset}/files/large") as answer:
            for piece in answer.iter_bytes():
                digest.update(piece)
        assert digest.digest() == hashlib.sha256(content).digest()
        refused = client.post(TASKS, content=b'{"a": "' + b"x" * (2 << 20) + b'"}')
        assert refused.status_code == 413
        assert refused.headers["content-type"] == "application/problem+json", "the gateway says it, not nginx"


def test_each_client_has_its_own_address(proxy: Proxy, gateway: RunningGateway) -> None:
    with proxy.client(headers={"X-Forwarded-For": "198.51.100.9"}) as client:
        for _ in range(3):
            assert client.post("/authenticate", auth=("alice", "wrong")).status_code == 401
    known = gateway.gateway.people._throttle._wrong
    assert "address 198.51.100.9" not in known, "a client must not choose its own address"
    assert "address 127.0.0.1" in known


def test_figures_are_not_for_clients(proxy: Proxy) -> None:
    with proxy.client("alice") as client:
        for path in ("/metrics", "//metrics", "/%6detrics", "/./metrics", "/x/../metrics"):
            assert client.get(f"{proxy.url}{path}").status_code == 404, path


def test_a_change_that_a_page_asks_for(proxy: Proxy) -> None:
    with proxy.client("alice") as client:
        secret = {"content": b"value"}
        assert client.put("/api/v1/secrets/A", **secret, headers={"Origin": proxy.url}).status_code == 201
        other = re.sub(r":\d+$", ":1", proxy.url)
        assert client.put("/api/v1/secrets/A", **secret, headers={"Origin": other}).status_code == 403
        assert client.get(f"/api/v1/tasks?project={HOME}").status_code == 200
