"""``c2d serve``: how it starts, what it prints, where it listens, and what it costs others."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from support.gateways import RunningGateway, gateway_settings, give_passwords, running, served
from support.site import PATIENCE, TrialSite, wait_until

import compute_to_data
from compute_to_data.errors import ConfigurationError
from compute_to_data.gateway import serving
from compute_to_data.gateway.settings import Listen, load

SERVE = (sys.executable, "-m", "compute_to_data.cli.main", "serve")
CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
)
PACKAGE = Path(compute_to_data.__file__).parent
LIBRARIES = {
    "fastapi",
    "starlette",
    "uvicorn",
    "jinja2",
    "joserfc",
    "prometheus_client",
    "anyio",
    "pydantic",
}


def test_it_prints_an_address_whose_token_signs_in_once(site: TrialSite) -> None:
    begun = time.monotonic()
    with served(site, "--port", "0") as (address, process):
        url, _, token = address.partition("/?token=")
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        print(f"first answer after {time.monotonic() - begun:.2f} s")
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        given = httpx.post(f"{url}/authenticate", headers=headers)
        assert given.status_code == 200, given.text
        assert given.json()["user"] == "alice#tempZone"
        again = httpx.post(f"{url}/authenticate", headers=headers)
        assert again.status_code == 401
        assert "used already" in again.json()["cause"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)
    assert token not in (site.folder / "serve.log").read_text()


def test_the_one_time_token_is_no_token_for_anything_else(site: TrialSite) -> None:
    with served(site, "--port", "0") as (address, _):
        url, _, token = address.partition("/?token=")
        answer = httpx.delete(f"{url}/authenticate", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401


def test_without_tls_it_listens_on_the_loopback_only(site: TrialSite) -> None:
    refused = subprocess.run(
        [*SERVE, "--configuration", gateway_settings(site).source, "--address", "0.0.0.0"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert refused.returncode == 2
    assert "0.0.0.0 is not a loopback address" in refused.stderr
    assert "without_tls" in refused.stderr
    for address in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(ConfigurationError, match="not a loopback"):
            serving.need_protection(Listen(address))
        serving.need_protection(Listen(address, without_tls=True))
        serving.need_protection(Listen(address, certificate="/c", key="/k"))
    for address in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        serving.need_protection(Listen(address))


def test_it_speaks_tls(site: TrialSite, tmp_path: Path) -> None:
    certificate, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        [*CERTIFICATE.split(), "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )
    listen = {"certificate": certificate, "key": key}
    with running(gateway_settings(site, listen=listen)) as gateway:
        assert gateway.url.startswith("https://")
        answer = httpx.get(f"{gateway.url}/healthz", verify=ssl.create_default_context(cafile=certificate))
        assert answer.json() == {"status": "ok"}
        assert "max-age" in answer.headers["strict-transport-security"]
    with pytest.raises(ConfigurationError, match="there is no /nowhere"):
        serving._config(gateway_settings(site, listen={**listen, "key": "/nowhere"}), None)  # type: ignore[arg-type]


def test_a_port_that_is_taken(site: TrialSite, gateway: RunningGateway) -> None:
    listen = replace(gateway_settings(site).listen, port=gateway.port)
    with pytest.raises(ConfigurationError, match=r"cannot listen there: .*Choose another port"):
        serving._socket(listen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"listen": {"certificate": "/c"}}, "a certificate needs its key"),
        ({"listen": {"proxies": ["nonsense"]}}, "nonsense"),
        ({"metrics_from": ["10.0.0.1/8"]}, "host bits set"),
        ({"listen": {"port": 70000}}, "#/listen/port"),
        ({"sign_in": {"idle": 1}}, "#/sign_in/idle"),
        ({"zone": {"kind": "irods"}}, "#/zone"),
    ],
)
def test_a_wrong_configuration(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps({"zone": {"kind": "embedded", "directory": "/zone"}, **change}))
    with pytest.raises(ConfigurationError, match=said):
        load(str(path))


def test_health_and_figures(gateway: RunningGateway, anybody: httpx.Client) -> None:
    assert anybody.get("/readyz").json() == {"status": "ok", "zone": "tempZone"}
    anybody.get("/no/such/path/of-alice")
    text = anybody.get("/metrics").text
    assert 'c2d_gateway_requests_total{method="GET",route="health.readyz",status="200"} 1.0' in text
    assert "of-alice" not in text
    assert anybody.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 404


def test_figures_are_for_the_addresses_that_the_settings_name(site: TrialSite) -> None:
    with running(gateway_settings(site, metrics_from=["192.0.2.0/24"])) as gateway, gateway.client() as client:
        assert client.get("/metrics").status_code == 404


def test_it_is_not_ready_without_its_zone(site: TrialSite, gateway: RunningGateway, anybody: httpx.Client) -> None:
    os.rename(site.folder / "zone" / "zone.db", site.folder / "zone" / "elsewhere.db")
    for name in ("zone.db-wal", "zone.db-shm"):
        (site.folder / "zone" / name).unlink(missing_ok=True)
    gateway.gateway.entrance.close()  # so that it opens the file again
    answer = anybody.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["code_name"] == "CATALOG_NOT_CONNECTED"
    assert anybody.get("/healthz").status_code == 200


def _modules() -> list[str]:
    """Every module of the package that does not lie in the gateway."""
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")]
    ours = (name for name in names if not name.startswith("compute_to_data.gateway"))
    return sorted(name[: -len(".__init__")] if name.endswith(".__init__") else name for name in ours)


def _loaded(names: list[str]) -> set[str]:
    """The packages that a fresh interpreter has after importing these modules."""
    program = f"import importlib, sys\nfor name in {names!r}:\n    importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_nothing_else_loads_the_libraries_of_the_gateway() -> None:
    names = [name for name in _modules() if not name.endswith("__main__")]
    assert not _loaded(names) & LIBRARIES
    # urllib3 is also what the Docker client and a zone behind a gateway need.
    others = [
        name for name in names if not name.startswith(("compute_to_data.engines", "compute_to_data.zones.gateway"))
    ]
    assert "urllib3" not in _loaded([name for name in others if not name.startswith("compute_to_data.urls")])


def test_proxies_are_believed_only_by_name(site: TrialSite) -> None:
    give_passwords(site)
    for proxies, address in (([], "127.0.0.1"), (["192.0.2.7"], "127.0.0.1"), (["127.0.0.1"], "198.51.100.9")):
        with running(gateway_settings(site, listen={"proxies": proxies})) as gateway, gateway.client() as client:
            headers = {"X-Forwarded-For": "198.51.100.9"}

            def is_slowed_down(client: httpx.Client = client, headers: dict[str, str] = headers) -> bool:
                answer = client.post("/authenticate", auth=("alice", "wrong"), headers=headers)
                return answer.status_code == 429

            wait_until(is_slowed_down, "the refusal of a further password")
            known = gateway.gateway.people._throttle._wrong
            assert f"address {ipaddress.ip_address(address)}" in known


def test_the_page_of_the_api_names_each_operation(anybody: httpx.Client) -> None:
    """It needs nothing from elsewhere, and runs no script."""
    answer = anybody.get("/api/v1/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "http" not in answer.text.replace("HTTP", "")
    document = anybody.get("/api/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"<code>{method.upper()} {path}</code>" in answer.text


def test_the_second_part_of_an_answer_does_not_wait_for_the_client(site: TrialSite) -> None:
    """Head and body are sent one after the other; a client acknowledges the first one only after some 40 ms."""
    listening = serving._socket(gateway_settings(site).listen)
    with listening, socket.create_connection(listening.getsockname(), PATIENCE):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
