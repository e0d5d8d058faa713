"""Signing in with an identity provider, which is a process of its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from support.gateways import RunningGateway, gateway_settings, running
from support.identity_providers import CLIENT, Provider, running_providers
from support.site import TrialSite

from compute_to_data.client.signing_in.identity_provider import IdentityProvider
from compute_to_data.errors import ConfigurationError
from compute_to_data.gateway.settings import load
from compute_to_data.gateway.signing_in import openid
from compute_to_data.gateway.who import COOKIE


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Provider]]:
    """Two providers with the same people."""
    with running_providers(tmp_path_factory.mktemp("providers"), 2) as found:
        yield found


@pytest.fixture
def provider(providers: list[Provider]) -> Provider:
    return providers[0]


@pytest.fixture
def gateway(site: TrialSite, provider: Provider) -> Iterator[RunningGateway]:
    (site.folder / "secret").write_text("secret\n")
    known = {
        "issuer": provider.issuer,
        "client_id": CLIENT,
        "client_secret_file": str(site.folder / "secret"),
        "users": {"robert@elsewhere.example": "bob"},
        "pattern": "([a-z]+)@example\\.org",
        "url": "http://127.0.0.1:1",
    }
    with running(gateway_settings(site, openid=known)) as started:
        # The port is known only now.
        settings = started.gateway.people.openid
        assert settings is not None
        object.__setattr__(settings.settings, "url", started.url)
        yield started


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_programs_token_names_a_user(gateway: RunningGateway, provider: Provider) -> None:
    with gateway.client() as client:
        for subject, user in (("alice", "alice#tempZone"), ("robert", "bob#tempZone")):
            token = provider.token(subject)
            assert client.get("/api/v1/me", headers=bearer(token)).json()["user"] == user
            given = client.post("/authenticate", headers={**bearer(token), "Accept": "application/json"}).json()
            assert given["user"] == user
            assert client.get("/api/v1/me", headers=bearer(given["token"])).json()["user"] == user


def test_people_without_a_user_are_refused(gateway: RunningGateway, provider: Provider) -> None:
    """Nobody for the claim, no such user in the zone, and an administrator whom only a pattern names."""
    with gateway.client() as client:
        for subject, said in (
            ("stranger", "nobody in the zone"),
            ("nobody", "no user nobody"),
            ("rods", "administrator"),
        ):
            answer = client.get("/api/v1/me", headers=bearer(provider.token(subject)))
            assert answer.status_code == 401
            assert said in answer.json()["cause"]
            assert client.post("/authenticate", headers=bearer(provider.token(subject))).status_code == 401


def parts(token: str) -> list[dict[str, Any]]:
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]


def encoded(document: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def test_tokens_that_are_not_right(gateway: RunningGateway, providers: list[Provider]) -> None:
    provider, another = providers
    token = provider.token("alice")
    header, claims = parts(token)
    head, body, signature = token.split(".")
    public = httpx.get(f"{provider.issuer}/jwks", trust_env=False).json()["keys"][0]
    shared = OctKey.import_key(base64.urlsafe_b64decode(public["n"] + "=="))
    own = RSAKey.generate_key(2048)
    foreign = jwt.encode({"alg": "RS256", "kid": header.get("kid", "")}, claims, own)
    wrong = {
        "another audience": provider.token("alice", client="another"),
        "another issuer": another.token("alice"),
        "unsigned": f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "unsigned with a signature": f"{encoded({'alg': 'none'})}.{body}.{signature}",
        "the public key as a shared secret": jwt.encode({"alg": "HS256"}, claims, shared, algorithms=["HS256"]),
        "another user put in": f"{head}.{encoded({**claims, 'preferred_username': 'bob@example.org'})}.{signature}",
        "a key of one's own": foreign,
        "a key of one's own inside": jwt.encode({"alg": "RS256", "jwk": own.as_dict(private=False)}, claims, own),
        "a key from elsewhere": jwt.encode({"alg": "RS256", "jku": f"{another.issuer}/jwks"}, claims, own),
        "no signature": f"{head}.{body}.",
        "nonsense": "a.b.c",
        "too long": f"{'a' * 17000}.b.c",
    }
    with gateway.client() as client:
        assert client.get("/api/v1/me", headers=bearer(token)).status_code == 200
        for name, one in wrong.items():
            answer = client.get("/api/v1/me", headers=bearer(one))
            assert answer.status_code == 401, name
            assert client.post("/authenticate", headers=bearer(one)).status_code == 401, name


def test_a_token_that_has_expired(gateway: RunningGateway, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    token = provider.token("alice")  # good for an hour
    monkeypatch.setattr(openid, "_LEEWAY_SECONDS", -3700)
    with gateway.client() as client:
        answer = client.get("/api/v1/me", headers=bearer(token))
        assert answer.status_code == 401
        assert "expired" in answer.json()["cause"]


def test_the_code_flow_in_a_browser(
    gateway: RunningGateway, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    original = IdentityProvider.exchanged

    def exchanged(self: IdentityProvider, code: str, verifier: str, redirect_url: str) -> str:
        sent.append(verifier)
        return original(self, code, verifier, redirect_url)

    monkeypatch.setattr(IdentityProvider, "exchanged", exchanged)
    with gateway.client() as browser:
        begun = browser.get("/oidc/login")
        assert begun.status_code == 302
        cookie = begun.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        asked = {name: value[0] for name, value in parse_qs(urlsplit(begun.headers["location"]).query).items()}
        assert asked["code_challenge_method"] == "S256"
        back = provider.authorized(begun.headers["location"], "alice")
        assert back.startswith(f"{gateway.url}/oidc/callback?")

        with gateway.client() as another:  # somebody else's browser cannot finish it, and then it is finished
            assert another.get(back).status_code == 400
        begun = browser.get("/oidc/login")
        asked = {name: value[0] for name, value in parse_qs(urlsplit(begun.headers["location"]).query).items()}
        back = provider.authorized(begun.headers["location"], "alice")
        done = browser.get(back)
        assert done.status_code == 200, done.text
        challenge = base64.urlsafe_b64encode(hashlib.sha256(sent[-1].encode()).digest()).decode().rstrip("=")
        assert asked["code_challenge"] == challenge
        cookies = [one.lower() for one in done.headers.get_list("set-cookie") if one.startswith(COOKIE)]
        assert len(cookies) == 1
        assert "httponly" in cookies[0]
        assert "samesite=strict" in cookies[0]
        assert browser.get("/api/v1/me").json()["user"] == "alice#tempZone"
        assert browser.get(back).status_code == 400, "a second time"

        secret = {"content": b"value"}
        assert browser.put("/api/v1/secrets/A", **secret).status_code == 403, "nothing says that our page asks"
        assert browser.put("/api/v1/secrets/A", **secret, headers={"Origin": "https://evil.example"}).status_code == 403
        assert browser.put("/api/v1/secrets/A", **secret, headers={"Origin": gateway.url}).status_code == 201


def test_what_a_browser_brings_back_is_checked(gateway: RunningGateway, provider: Provider) -> None:
    with gateway.client() as browser:
        for state in ("", "nonsense", "x" * 300):
            assert browser.get("/oidc/callback", params={"code": "c", "state": state}).status_code == 400
        for more, status in (({"error": "access_denied"}, 401), ({"code": "wrong"}, 401), ({}, 401)):
            address = browser.get("/oidc/login").headers["location"]
            state = parse_qs(urlsplit(address).query)["state"][0]
            answer = browser.get("/oidc/callback", params={"state": state, **more})
            assert answer.status_code == status, more
            assert COOKIE not in browser.cookies
        address = browser.get("/oidc/login").headers["location"]
        replayed = str(httpx.URL(address).copy_set_param("nonce", "another"))
        answer = browser.get(provider.authorized(replayed, "alice"))
        assert answer.status_code == 401
        assert "nonce" in answer.json()["cause"]


def test_a_session_is_a_new_one(gateway: RunningGateway, provider: Provider) -> None:
    """A cookie that somebody else put into the browser is good for nothing afterwards."""
    with gateway.client() as browser:
        browser.cookies.set(COOKIE, "chosen-by-somebody-else", domain="127.0.0.1")
        assert browser.get("/api/v1/me").status_code == 401
        back = provider.authorized(browser.get("/oidc/login").headers["location"], "alice")
        done = browser.get(back)
        assert done.status_code == 200
        given = next(one for one in done.headers.get_list("set-cookie") if one.startswith(COOKIE))
        assert "chosen-by-somebody-else" not in given
        with gateway.client() as another:
            assert another.get("/api/v1/me", headers=bearer("chosen-by-somebody-else")).status_code == 401


def test_a_provider_that_does_not_answer(site: TrialSite, unused_port: int) -> None:
    known = {"issuer": f"http://127.0.0.1:{unused_port}", "client_id": CLIENT, "pattern": "(.*)"}
    with running(gateway_settings(site, openid=known)) as gateway, gateway.client() as client:
        answer = client.get("/api/v1/me", headers=bearer("a.b.c"))
        assert answer.status_code == 503
        assert "Sign in with a password" in answer.json()["remedy"]


def test_without_a_provider(site: TrialSite) -> None:
    with running(gateway_settings(site)) as gateway, gateway.client() as client:
        for path in ("/oidc/login", "/oidc/callback"):
            assert client.get(path).status_code == 404
        assert client.get("/api/v1/me", headers=bearer("a.b.c")).status_code == 401


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"issuer": "http://idp.example.org"}, "not encrypted"),
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": ".*"}, "no group"),
        ({"client_secret_file": "/nowhere"}, "cannot be read"),
        ({"scopes": "x"}, "scopes"),
    ],
)
def test_wrong_settings(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = tmp_path / "gateway.json"
    known = {"issuer": "https://idp.example.org", "client_id": "c", **change}
    path.write_text(json.dumps({"zone": {"kind": "embedded", "directory": "/zone"}, "openid": known}))
    with pytest.raises(ConfigurationError, match=said):
        load(str(path))
