"""OpenID Connect providers, each a process of its own, and what people do there in their browsers."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

from support.site import wait_until

PEOPLE = {
    "alice": "alice@example.org",
    "robert": "robert@elsewhere.example",
    "stranger": "mallory@other.example",
    "nobody": "nobody@example.org",
    "rods": "rods@example.org",
}
CLIENT = "c2d-gateway"
PROGRAM = """
from oidc_provider_mock import __main__, _app
_app.AuthorizationCodeGrant.TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic", "none"]
__main__.run()
"""
"""The provider, which as it comes takes no public client."""


class Provider:
    """A running provider, and what its people do in their browsers."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    def authorized(self, address: str, subject: str) -> str:
        """Where the provider leads a browser back to, once the person has signed in there."""
        answer = httpx.post(address, data={"sub": subject}, trust_env=False)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def token(self, subject: str, client: str = CLIENT) -> str:
        """A token that a program of this person has got."""
        asked = {"response_type": "code", "client_id": client, "scope": "openid profile", "state": "s"}
        address = (
            f"{self.issuer}/oauth2/authorize?{httpx.QueryParams({**asked, 'redirect_uri': 'http://127.0.0.1:1/cb'})}"
        )
        code = parse_qs(urlsplit(self.authorized(address, subject)).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://127.0.0.1:1/cb"}
        answer = httpx.post(f"{self.issuer}/oauth2/token", data=form, auth=(client, "secret"), trust_env=False)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id_token"])


@contextlib.contextmanager
def running_providers(folder: Path, count: int = 1) -> Iterator[list[Provider]]:
    """Providers with the same people, while inside."""
    people = [
        word
        for subject, name in PEOPLE.items()
        for word in ("--user-claims", json.dumps({"sub": subject, "preferred_username": name}))
    ]
    processes, found = [], []
    for number in range(count):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        log = (folder / f"provider-{number}.log").open("w")
        command = [sys.executable, "-c", PROGRAM, "-p", str(port), *people]
        processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        log.close()
        found.append(Provider(f"http://127.0.0.1:{port}"))

    def is_up(provider: Provider) -> bool:
        try:
            return httpx.get(f"{provider.issuer}/jwks", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    try:
        for one in found:
            wait_until(lambda one=one: is_up(one), "the provider to answer")
        yield found
    finally:
        for process in processes:
            process.kill()
            process.wait()
