"""Signing in and out at the pages, and who is kept out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway, gateway_settings, running, served
from support.page_visitors import PageVisitor, proof
from support.site import ALICE, TrialSite

from compute_to_data.gateway.who import COOKIE

Visit = Callable[[str], PageVisitor]


def test_signing_in_and_out(visit: Visit, gateway: RunningGateway) -> None:
    someone = visit("")
    answer = someone.http.get("/tasks")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/tasks")
    answer = someone.sign_in("alice", next="/datasets")
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith(COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie  # the test speaks plain HTTP
    page = someone.http.get("/tasks")
    assert page.status_code == 200
    assert "You have no tasks yet" in page.text
    token = someone.http.cookies[COOKIE]
    assert someone.send("/tasks", "/sign-out").headers["location"] == "/sign-in"
    assert COOKIE not in someone.http.cookies
    someone.http.cookies.set(COOKIE, token)
    assert someone.http.get("/tasks").headers["location"].startswith("/sign-in")


def test_the_cookies_are_secure_under_tls(gateway: RunningGateway) -> None:
    settings = gateway.gateway.settings
    with running(replace(settings, listen=replace(settings.listen, proxies=("127.0.0.1",)))) as behind_a_proxy:
        headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
        page = httpx.get(f"{behind_a_proxy.url}/sign-in", headers=headers, trust_env=False)
        (first,) = page.headers.get_list("set-cookie")
        form = {"proof": proof(page.text), "name": "alice", "password": PASSWORDS["alice"]}
        headers["Cookie"] = first.partition(";")[0]  # a client on plain HTTP keeps no such cookie
        answer = httpx.post(f"{behind_a_proxy.url}/sign-in", data=form, headers=headers, trust_env=False)
        (given,) = [one for one in answer.headers.get_list("set-cookie") if one.startswith(COOKIE)]
        for cookie in (first, given):
            assert {"HttpOnly", "SameSite=strict", "Secure"} <= set(cookie.split("; "))


def test_wrong_passwords(visit: Visit) -> None:
    someone = visit("")
    page = someone.http.get("/sign-in")
    form = {"proof": proof(page.text), "name": '"><script>alert(1)</script>', "password": "wrong"}
    statuses = []
    while 429 not in statuses:  # each check of a password takes a while, and the time to wait doubles
        answer = someone.http.post("/sign-in", data={**form, "password": "not her secret"})
        statuses.append(answer.status_code)
        assert "<script>alert" not in answer.text
        assert "not her secret" not in answer.text
        assert COOKIE not in someone.http.cookies
        assert len(statuses) < 20
    assert statuses[:4] == [401] * 4
    assert set(statuses) == {401, 429}
    assert int(answer.headers["retry-after"]) > 0
    assert "www-authenticate" not in answer.headers
    assert someone.http.post("/sign-in", data={"proof": form["proof"], "name": "alice"}).status_code == 400


def test_next_leads_to_no_other_site(visit: Visit) -> None:
    for next in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "evil",
        "javascript:0",
    ):
        assert visit("").sign_in("alice", next=next).headers["location"] == "/tasks", next


def test_a_token_from_before_signing_in_is_worth_nothing(visit: Visit, gateway: RunningGateway) -> None:
    """Session fixation: somebody plants their own token in the browser of a person who then signs in."""
    planted = visit("bob").http.cookies[COOKIE]
    person = visit("")
    person.http.cookies.set(COOKIE, planted)
    assert person.sign_in("alice").status_code == 303
    given = [one.value for one in person.http.cookies.jar if one.name == COOKIE]
    assert planted not in given[-1:]
    with gateway.client() as client:
        answer = client.get("/api/v1/me", headers={"Cookie": f"{COOKIE}={planted}"})
        assert answer.status_code == 401
        answer = client.get("/api/v1/me", headers={"Cookie": f"{COOKIE}={given[-1]}"})
        assert answer.json()["user"] == str(ALICE)


def test_forms_of_other_sites_change_nothing(visit: Visit, gateway: RunningGateway) -> None:
    alice, bob = visit("alice"), visit("bob")
    right = proof(alice.http.get("/tasks").text)
    for given in ("", "x", proof(bob.http.get("/tasks").text), proof(visit("").http.get("/sign-in").text)):
        answer = alice.http.post("/sign-out", data={"proof": given})
        assert answer.status_code == 403, answer.text
        assert "Open the page again" in answer.text
    for name, value in (("Origin", "https://evil.example"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")):
        answer = alice.http.post("/sign-out", data={"proof": right}, headers={name: value})
        assert answer.status_code == 403, (name, value)
    answer = alice.http.post("/sign-out", json={"proof": right})
    assert answer.status_code == 415
    assert alice.http.get("/tasks").status_code == 200
    # Signing in as somebody else, too: without the cookie of the form, its proof is worth nothing.
    form = {"proof": proof(visit("").http.get("/sign-in").text), "name": "bob", "password": PASSWORDS["bob"]}
    assert httpx.post(f"{gateway.url}/sign-in", data=form, trust_env=False).status_code == 403


def test_pages_load_nothing_of_others_and_run_no_script_of_their_own_text(visit: Visit) -> None:
    alice = visit("alice")
    for path in ("/sign-in", "/tasks", "/tasks/nonsense"):
        answer = alice.http.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert "//" not in answer.text.replace("http://127.0.0.1", ""), path
    assert answer.status_code == 404
    assert "List your tasks" in answer.text or "does not exist" in answer.text


def test_what_pages_load_is_kept_by_browsers(visit: Visit) -> None:
    someone = visit("")
    page = someone.http.get("/sign-in").text
    for name, kind in (("style.css", "text/css"), ("live.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        address = page[page.index("/static/") : page.index("/", page.index("/static/") + 8)] + f"/{name}"
        answer = someone.http.get(address)
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert len(answer.content) > 300
    assert someone.http.get("/static/x/../../settings.py").status_code == 404
    assert someone.http.get("/static/x/..%2f__init__.py").status_code == 404


def test_the_address_that_serve_prints_signs_in_once(site: TrialSite) -> None:
    with served(site, "--port", "0") as (address, _):
        with httpx.Client(trust_env=False) as browser:
            answer = browser.get(address)
            assert answer.status_code == 200
            assert 'http-equiv="refresh"' in answer.text
            base = address.partition("/?")[0]
            assert browser.get(f"{base}/tasks").status_code == 200
            assert browser.get(address).headers["location"] == "/tasks"  # a reload
        answer = httpx.get(address, trust_env=False)
        assert answer.status_code == 401
        assert "works once" in answer.text


def test_a_restart_ends_all(site: TrialSite, visit: Visit) -> None:
    token = visit("alice").http.cookies[COOKIE]
    with running(gateway_settings(site)) as again:
        answer = httpx.get(f"{again.url}/tasks", cookies={COOKIE: token}, trust_env=False)
        assert answer.headers["location"] == "/sign-in?next=/tasks"


@pytest.mark.parametrize("content", [b"proof=%ff%fe", b"a=1&" * 2000, b"x" * 2_000_000, b"\xff"])
def test_forms_that_are_none(visit: Visit, content: bytes) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = visit("").http.post("/sign-in", content=content, headers=kind)
    assert answer.status_code in (400, 413), answer.text
    assert "Traceback" not in answer.text
