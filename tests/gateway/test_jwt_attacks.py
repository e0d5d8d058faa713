"""Tokens in the form of a provider's (JWT) that are not what the provider vouches for: all are refused, none fails."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from joserfc.jwk import ECKey, RSAKey

from compute_to_data.errors import AccessDenied
from compute_to_data.gateway.settings import OpenIdSettings
from compute_to_data.gateway.signing_in.openid import OpenId

PRIVATE = rsa.generate_private_key(65537, 2048)
PEM = PRIVATE.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = PRIVATE.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
JWK = {**RSAKey.import_key(PEM).as_dict(private=False), "kid": "first", "use": "sig"}
OTHER = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "second", "use": "sig"}
SHARED = {
    "kty": "oct",
    "k": base64.urlsafe_b64encode(b"a shared secret of the provider.").decode().rstrip("="),
    "kid": "third",
}
AUDIENCE = "the-gateway"


def part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def signed(header: Any, payload: bytes, key: rsa.RSAPrivateKey = PRIVATE) -> str:
    """With the provider's key, whatever the header says."""
    head = part(header if isinstance(header, bytes) else json.dumps(header).encode())
    content = f"{head}.{part(payload)}"
    return f"{content}.{part(key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def shared(header: dict[str, Any], payload: bytes, secret: bytes) -> str:
    content = f"{part(json.dumps(header).encode())}.{part(payload)}"
    return f"{content}.{part(hmac.digest(secret, content.encode(), hashlib.sha256))}"


@pytest.fixture(scope="module")
def openid() -> Iterator[OpenId]:
    """A provider that publishes three keys, one of which everybody may know who shares it."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            documents = {
                "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/jwks"},
                "/jwks": {"keys": [JWK, OTHER, SHARED]},
            }
            content = json.dumps(documents.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        issuer = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield OpenId(
            OpenIdSettings(issuer=issuer, client_id="page", audience=AUDIENCE, pattern="([a-z]+)@example\\.org")
        )
        server.shutdown()
        thread.join()


HEADER = {"alg": "RS256", "typ": "JWT", "kid": "first"}


def good(openid: OpenId, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "iss": openid.settings.issuer,
        "aud": AUDIENCE,
        "exp": now + 600,
        "iat": now,
        "sub": "1",
        "preferred_username": "alice@example.org",
    }
    return {name: value for name, value in {**claims, **changes}.items() if value is not ...}


def token(openid: OpenId, header: Any = HEADER, **changes: Any) -> str:
    return signed(header, json.dumps(good(openid, **changes)).encode())


def test_what_is_right_is_accepted(openid: OpenId) -> None:
    """Otherwise the other tests would mean nothing."""
    for one in (
        token(openid),
        token(openid, aud=["another", AUDIENCE]),
        token(openid, exp=time.time() + 9.5),
    ):
        assert openid.name_of(openid.claims(one)) == ("alice", False)


CLAIMS: list[dict[str, Any]] = [
    *({"exp": value} for value in (..., None, "", "9999999999", True, [], {}, -1, 0, math.nan, -math.inf, 1.5)),
    *(
        {"aud": value}
        for value in (..., None, "", "page", "the-gateway ", "THE-GATEWAY", [], ["page"], {}, {AUDIENCE: 1})
    ),
    *({"aud": value} for value in ([[AUDIENCE]], 1, True, f"{AUDIENCE} page", f"{AUDIENCE}\0")),
    *({"iss": value} for value in (..., None, "", [], {}, 1, "https://evil.example")),
    *({"nbf": value} for value in (9999999999, "tomorrow", [])),
]


@pytest.mark.parametrize("changes", CLAIMS, ids=repr)
def test_claims_that_are_not_right(openid: OpenId, changes: dict[str, Any]) -> None:
    with pytest.raises(AccessDenied):
        openid.claims(token(openid, **changes))


def test_the_issuer_is_compared_as_it_is(openid: OpenId) -> None:
    issuer = openid.settings.issuer
    for other in (
        f"{issuer}/",
        issuer.upper(),
        [issuer],
        f"{issuer}\0",
        f" {issuer}",
        issuer.replace("127.0.0.1", "localhost"),
    ):
        with pytest.raises(AccessDenied):
            openid.claims(token(openid, iss=other))


KIDS: list[Any] = [
    "second",
    "third",
    "",
    "../../../../dev/null",
    "first' OR '1'='1",
    "first\0",
    "a" * 9000,
    1,
    None,
    True,
    [],
    {},
]
HEADERS: list[dict[str, Any]] = [
    *({**HEADER, "kid": kid} for kid in KIDS),
    *(
        {**HEADER, "alg": alg}
        for alg in ("none", "None", "nOnE", "", "rs256", "RS256 ", "HS256", "ES256", "RS1", None, 1, ["RS256"])
    ),
    {"typ": "JWT", "kid": "first"},
    {**HEADER, "crit": ["unknown"], "unknown": 1},
    {**HEADER, "crit": ["b64"], "b64": False},
    {**HEADER, "crit": "alg"},
]


@pytest.mark.parametrize("header", HEADERS, ids=lambda one: repr(one)[:60])
def test_headers_that_are_not_right(openid: OpenId, header: dict[str, Any]) -> None:
    """With the signature that the provider's key makes for it."""
    with pytest.raises(AccessDenied):
        openid.claims(token(openid, header))


SECRETS = {
    "PEM": PEM,
    "PEM without a line end": PEM.strip(),
    "DER": DER,
    "JWK": json.dumps(JWK).encode(),
    "modulus": JWK["n"].encode(),
    "empty": b"",
    "shared": b"a shared secret of the provider.",
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)  # the keys differ in each process that runs tests
@pytest.mark.parametrize("kid", ["first", "third", None])
def test_no_shared_secret_signs(openid: OpenId, secret: bytes, kid: str | None) -> None:
    """Neither the public key in any form, nor a secret that the provider publishes by mistake."""
    for alg in ("HS256", "RS256"):
        header = {"alg": alg, "typ": "JWT", **({"kid": kid} if kid else {})}
        with pytest.raises(AccessDenied):
            openid.claims(shared(header, json.dumps(good(openid)).encode(), secret))


def test_a_key_that_the_token_brings_along_is_not_used(openid: OpenId) -> None:
    own = rsa.generate_private_key(65537, 2048)
    public = own.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    jwk = RSAKey.import_key(public).as_dict(private=False)
    body = json.dumps(good(openid)).encode()
    for more in (
        {},
        {"jwk": jwk},
        {"jwk": {**jwk, "kid": "first"}},
        {"x5c": [base64.b64encode(public).decode()]},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/c"},
        {"kid": jwk.get("kid", "x")},
    ):
        with pytest.raises(AccessDenied):
            openid.claims(signed({**HEADER, **more}, body, own))


def test_texts_that_are_no_tokens(openid: OpenId) -> None:
    right = token(openid)
    head, body, signature = right.split(".")
    changed = part(json.dumps(good(openid, preferred_username="bob@example.org")).encode())
    wrong = [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        f"{head}.{body}.",
        f"{head}..{signature}",
        f".{body}.{signature}",
        f"{head}.{body}",
        f"{right}.x",
        f"{right}.x.y",
        f"{head}.{changed}.{signature}",
        f"{right}A",
        f"{right[:-4]}AAAA",
        f"{head}.{body}.{signature}\0",
        f"{head}\0.{body}.{signature}",
        "\ud800.\ud800.\ud800",
        "é.é.é",
        f"{'a' * 17000}.b.c",
        *(signed(HEADER, payload) for payload in (b"[]", b"1", b'"x"', b"null", b"", b"{", b"\xff", b"[" * 2000)),
        *(
            signed(text, json.dumps(good(openid)).encode())
            for text in (b"[]", b"null", b'"RS256"', b"{", b"\xff", b"[" * 2000)
        ),
    ]
    for one in wrong:
        with pytest.raises(AccessDenied):
            openid.claims(one)
    openid.claims(right)


NAMES: list[Any] = [
    ...,
    None,
    "",
    [],
    ["alice@example.org"],
    {"alice@example.org": 1},
    1,
    True,
    "alice@example.org\n",
    "\nalice@example.org",
    "alice@example.org.evil.example",
    "evil@evil.example alice@example.org",
    "ALICE@example.org",
    "alice@EXAMPLE.org",
    "alice@example.org\0",
    "@example.org",
    "alice@@example.org",
    "a" * 300 + "@example.org",
    "alice@example.org ",
    "\u0430lice@example.org",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda one: ascii(one)[:40])
def test_accounts_that_are_nobodys(openid: OpenId, name: Any) -> None:
    """The claim is right, and the site's mapping has nobody for it."""
    with pytest.raises(AccessDenied):
        openid.name_of(openid.claims(token(openid, preferred_username=name)))
