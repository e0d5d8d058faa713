"""A real nginx in front of a gateway, with the configuration that the documents show."""

from __future__ import annotations

import contextlib
import random
import re
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme

from support.debian_packages import need_packages
from support.gateways import PASSWORDS
from support.site import PATIENCE, wait_until

PAGE = Path(__file__).resolve().parents[2] / "docs/gateway-behind-nginx.md"
_PORTS = range(20_000, 30_000)
"""Below those that the system chooses for others."""
_REST = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Proxy:
    """A running nginx. ``url``: with TLS; ``plain``: without. ``authority``: the file with its authority."""

    url: str
    plain: str
    authority: Path
    folder: Path

    def client(self, user: str = "", **options: Any) -> httpx.Client:
        auth = (user, PASSWORDS[user]) if user else None
        verify = ssl.create_default_context(cafile=str(self.authority))
        return httpx.Client(base_url=self.url, auth=auth, verify=verify, timeout=PATIENCE, trust_env=False, **options)


def documented() -> str:
    """nginx's configuration on the page."""
    (text,) = re.findall(r"^```nginx\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(text)


@contextlib.contextmanager
def in_front_of(gateway: str, folder: Path, configuration: str = "") -> Iterator[Proxy]:
    """nginx in front of a gateway's address, while inside."""
    need_packages("nginx-light")
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = authority.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(str(folder / "cert.pem"))
    while True:  # another program may have the port
        secure, plain = random.sample(_PORTS, 2)
        (folder / "site.conf").write_text(_ours(configuration or documented(), folder, gateway, secure, plain))
        (folder / "nginx.conf").write_text(_REST.format(folder=folder))
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        started = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if started.returncode == 0:
            break
        assert "Address already in use" in started.stderr, started.stderr
    pid = folder / "nginx.pid"
    wait_until(lambda: pid.exists() and bool(pid.read_text().strip()), "nginx to say its process")
    try:
        yield Proxy(f"https://localhost:{secure}", f"http://localhost:{plain}", folder / "ca.pem", folder)
    finally:
        subprocess.run([*command, "-s", "stop"], check=True, capture_output=True, timeout=PATIENCE)


def _ours(text: str, folder: Path, gateway: str, secure: int, plain: int) -> str:
    """The page's configuration with a test's ports, names and certificate."""
    for theirs, ours in {
        "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "return 301 https://c2d.example.org$request_uri;": f"return 301 https://localhost:{secure}$request_uri;",
        "/etc/ssl/c2d.pem": str(folder / "cert.pem"),
        "/etc/ssl/private/c2d.key": str(folder / "cert.pem"),
        "http://127.0.0.1:8427": gateway,
    }.items():
        assert theirs in text, f"{PAGE} has no {theirs}"
        text = text.replace(theirs, ours)
    return text.replace("c2d.example.org", "localhost")
