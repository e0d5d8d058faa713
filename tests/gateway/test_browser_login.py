"""``c2d login`` with an identity provider: the person's browser, a loopback address, and the gateway's own token."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway, gateway_settings, give_passwords, running
from support.identity_providers import Provider, running_providers
from support.site import PATIENCE, TrialSite

from compute_to_data.client.signing_in import browser_login
from compute_to_data.client.signing_in.identity_provider import IdentityProvider
from compute_to_data.client.this_computer import settings
from compute_to_data.client.this_computer.settings import Auth
from compute_to_data.errors import AccessDenied, ConfigurationError, ZoneOutOfReach

CLIENT = "c2d"
BROWSER = """
import sys, httpx
signed_in = httpx.post(sys.argv[1], data={"sub": "alice"}, trust_env=False)
page = httpx.get(signed_in.headers["location"], trust_env=False, timeout=60)
open(sys.argv[2], "w").write(f"{page.status_code} {page.headers.get('location', '')} {page.text}")
"""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_providers(tmp_path_factory.mktemp("provider")) as (found,):
        yield found


@pytest.fixture
def gateway(site: TrialSite, provider: Provider) -> Iterator[RunningGateway]:
    give_passwords(site)
    known = {"issuer": provider.issuer, "client_id": "c2d-gateway", "audience": CLIENT, "pattern": "([a-z]+)@.*"}
    with running(gateway_settings(site, openid=known)) as started:
        yield started


@pytest.fixture
def auth(gateway: RunningGateway, provider: Provider) -> dict[str, str]:
    return {"gateway": gateway.url, "address": provider.issuer, "client_id": CLIENT}


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def laptop(tmp_path: Path) -> Run:
    """Type a command on a computer of its own, whose browser signs alice in."""
    home = tmp_path / "laptop"
    (home / ".config/compute-to-data").mkdir(parents=True)
    browser = tmp_path / "browser.py"
    browser.write_text(BROWSER)

    def run(*words: str, auth: Any = None, typed: str = "") -> subprocess.CompletedProcess[str]:
        if auth is not None:
            (home / ".config/compute-to-data/config.json").write_text(json.dumps({"auth": auth}))
        environment = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "BROWSER": f"{sys.executable} {browser} %s {tmp_path}/page",
        }
        return subprocess.run(
            [sys.executable, "-m", "compute_to_data.cli.main", *words],
            input=typed, text=True, capture_output=True, cwd=home, env=environment, timeout=PATIENCE,
        )  # fmt: skip

    return run


def test_the_browser_signs_in(laptop: Run, auth: dict[str, str], tmp_path: Path) -> None:
    done = laptop("login", auth=auth)
    assert (done.returncode, done.stdout) == (0, "alice#tempZone\n"), done.stderr
    found = json.loads(laptop("whoami", "--output", "json").stdout)
    assert (found["user"], found["gateway"]) == ("alice#tempZone", auth["gateway"])
    assert laptop("list").returncode == 0
    assert laptop("logout").stderr == "signed out\n"
    again = laptop("login")
    assert again.returncode == 0, "the settings keep auth"


def test_only_its_own_gateway_gets_the_providers_token(
    laptop: Run, auth: dict[str, str], gateway: RunningGateway
) -> None:
    """At any other gateway, and with --user, c2d asks for a password."""
    other = gateway.url.replace("127.0.0.1", "localhost")
    done = laptop("login", other, "--user", "bob", auth=auth, typed=f"{PASSWORDS['bob']}\n")
    assert (done.returncode, done.stdout) == (0, "bob#tempZone\n"), done.stderr
    done = laptop("login", other, auth=auth, typed="wrong\n")
    assert done.returncode == 3
    assert "Sign in with your browser" not in done.stderr
    done = laptop("login", "--user", "bob", auth=auth, typed=f"{PASSWORDS['bob']}\n")
    assert done.stdout == "bob#tempZone\n", done.stderr


def test_without_an_address_and_without_auth(laptop: Run) -> None:
    done = laptop("login")
    assert done.returncode == 2
    assert "no address is given" in done.stderr


class Person:
    """Somebody at a browser: ``address`` arrives, they do what ``act`` does, and see ``page``."""

    def __init__(self, act: Callable[[str], httpx.Response]) -> None:
        self._act = act
        self._thread: threading.Thread | None = None
        self.pages: list[httpx.Response] = []
        self.addresses: list[str] = []

    def show(self, address: str) -> None:
        self.addresses.append(address)
        self._thread = threading.Thread(target=lambda: self.pages.append(self._act(address)))
        self._thread.start()

    @property
    def page(self) -> httpx.Response:
        assert self._thread is not None
        self._thread.join(PATIENCE)
        return self.pages[0]

    @property
    def asked(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(urlsplit(self.addresses[0]).query).items()}


def get(address: str, **parameters: str) -> httpx.Response:
    return httpx.get(address, params=parameters or None, trust_env=False, timeout=PATIENCE)


def test_the_code_is_bound_to_this_sign_in(
    provider: Provider, auth: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    original = IdentityProvider.exchanged

    def exchanged(self: IdentityProvider, code: str, verifier: str, redirect_url: str) -> str:
        sent.append(verifier)
        return original(self, code, verifier, redirect_url)

    monkeypatch.setattr(IdentityProvider, "exchanged", exchanged)
    person = Person(lambda address: get(provider.authorized(address, "alice")))
    tokens: list[str] = []
    browser_login.sign_in(Auth(**auth), person.show, tokens.append)
    assert (person.page.status_code, len(tokens)) == (200, 1)
    assert "You are signed in" in person.page.text
    assert person.asked["code_challenge_method"] == "S256"
    challenge = base64.urlsafe_b64encode(hashlib.sha256(sent[0].encode()).digest()).decode().rstrip("=")
    assert person.asked["code_challenge"] == challenge
    assert person.asked["redirect_uri"].startswith("http://127.0.0.1:")


def test_nobody_else_can_end_it(provider: Provider, auth: dict[str, str]) -> None:
    """A page that leads the person's browser to the callback, or another program of this computer, knows no state."""

    def act(address: str) -> httpx.Response:
        back = parse_qs(urlsplit(address).query)["redirect_uri"][0]
        for state in ("", "nonsense", "ü"):
            assert get(back, code="evil", state=state).status_code == 404
        assert get(back.replace("/callback", "/"), error="x").status_code == 404
        return get(provider.authorized(address, "alice"))

    person = Person(act)
    tokens: list[str] = []
    browser_login.sign_in(Auth(**auth), person.show, tokens.append)
    assert (person.page.status_code, len(tokens)) == (200, 1)


def test_a_token_of_another_sign_in_is_refused(provider: Provider, auth: dict[str, str]) -> None:
    def act(address: str) -> httpx.Response:
        return get(provider.authorized(str(httpx.URL(address).copy_set_param("nonce", "another")), "alice"))

    person = Person(act)
    tokens: list[str] = []
    with pytest.raises(AccessDenied, match="not made for this sign-in"):
        browser_login.sign_in(Auth(**auth), person.show, tokens.append)
    assert (person.page.status_code, tokens) == (403, [])


def test_the_provider_refuses(auth: dict[str, str]) -> None:
    def act(address: str) -> httpx.Response:
        asked = parse_qs(urlsplit(address).query)
        return get(asked["redirect_uri"][0], state=asked["state"][0], error="<b>denied</b>")

    person = Person(act)
    with pytest.raises(AccessDenied, match="the provider says"):
        browser_login.sign_in(Auth(**auth), person.show, print)
    assert person.page.status_code == 403
    assert "<b>" not in person.page.text, "what the provider says is text, not HTML"


def test_a_page_of_the_site_after_success(provider: Provider, auth: dict[str, str]) -> None:
    person = Person(lambda address: get(provider.authorized(address, "alice")))
    known = Auth(**auth, after_success="https://c2d.example.org/welcome")
    browser_login.sign_in(known, person.show, lambda token: None)
    assert person.page.headers["location"] == "https://c2d.example.org/welcome"


def test_nobody_comes_back(auth: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_login, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(AccessDenied, match="nobody signed in within"):
        browser_login.sign_in(Auth(**auth), lambda address: None, print)


def test_a_port_that_is_taken(auth: dict[str, str], gateway: RunningGateway) -> None:
    known = Auth(**auth, callback=f"http://127.0.0.1:{gateway.port}/callback")
    with pytest.raises(ConfigurationError, match="Name another port"):
        browser_login.sign_in(known, lambda address: None, print)


def test_a_provider_that_does_not_answer(auth: dict[str, str], unused_port: int) -> None:
    with pytest.raises(ZoneOutOfReach, match="cannot be used now"):
        browser_login.sign_in(Auth(**{**auth, "address": f"http://127.0.0.1:{unused_port}"}), print, print)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"callback": "http://192.0.2.1:8428/callback"}, "#/auth/callback"),
        ({"callback": "https://127.0.0.1:8428/callback"}, "#/auth/callback"),
        ({"callback": "http://127.0.0.1:8428@evil.example/"}, "#/auth/callback"),
        ({"after_success": "javascript:alert(1)"}, "#/auth/after_success"),
        ({"after_success": "https://x.example/\r\nSet-Cookie: a=b"}, "#/auth/after_success"),
        ({"client_secret": "x"}, "client_secret"),
    ],
)
def test_wrong_settings(tmp_path: Path, change: dict[str, str], said: str) -> None:
    path = tmp_path / "config.json"
    known = {"gateway": "https://c2d.example.org", "address": "https://idp.example.org", "client_id": "c2d", **change}
    path.write_text(json.dumps({"auth": known}))
    with pytest.raises(ConfigurationError, match=said):
        settings.load(str(path))
