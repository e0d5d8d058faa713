"""What somebody filled in is not lost when their session ends meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from types import SimpleNamespace

import pytest
from support.gateways import PASSWORDS, RunningGateway
from support.page_visitors import PageVisitor, proof

from compute_to_data.gateway.who import COOKIE

Visit = Callable[[str], PageVisitor]
FILLED = {"command": "sh -c 'echo \"ü\" <b>'", "image": "tools", "name": "typed by hand", "more_inputs": "a\nb\n"}


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's main part."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', page.partition("<main")[2])
    return {unescape(name): unescape(value) for name, value in found}


def ended(person: PageVisitor) -> None:
    """The person's session ends, as an expired one."""
    headers = {"Authorization": f"Bearer {person.http.cookies[COOKIE]}"}
    assert person.http.delete("/authenticate", headers=headers).status_code == 204


@pytest.fixture
def alice(visit: Visit, no_worker: None) -> PageVisitor:
    return visit("alice")


def filled_in(person: PageVisitor, **more: str) -> dict[str, str]:
    return {"proof": proof(person.http.get("/new/command").text), **FILLED, **more}


def test_a_form_that_was_filled_in_is_there_again_after_signing_in(alice: PageVisitor) -> None:
    form = filled_in(alice, more_inputs="")
    ended(alice)
    answer = alice.http.post("/new/command", data=form)
    assert answer.status_code == 401
    assert "will be there again" in answer.text
    fields = {**hidden(answer.text), "name": "alice"}
    answer = alice.http.post("/sign-in", data={**fields, "password": "wrong"})
    assert answer.status_code == 401
    fields = {**hidden(answer.text), "name": "alice", "password": PASSWORDS["alice"]}
    answer = alice.http.post("/sign-in", data=fields)
    assert answer.status_code == 200, answer.text
    assert "typed by hand" in answer.text
    assert "<b>" not in answer.text
    assert "You have no tasks yet" in alice.http.get("/tasks").text  # nothing was submitted by itself
    again = hidden(answer.text)
    assert {name: again.get(name, "") for name in form if name != "proof"} == {**FILLED, "more_inputs": ""}
    changed = alice.http.post("/new/command", data={**again, "change": "true"})
    assert (changed.status_code, "typed by hand" in changed.text, "not submitted" in changed.text) == (200, True, False)
    assert "You have no tasks yet" in alice.http.get("/tasks").text
    assert alice.http.post("/new/command", data=again).headers["location"].startswith("/tasks/")


def test_a_form_from_before_signing_in_once_more_is_shown_again(alice: PageVisitor) -> None:
    """As after signing in again in another tab of the browser."""
    form = filled_in(alice)
    assert alice.sign_in("alice").status_code == 303
    answer = alice.http.post("/new/command", data=form)
    assert answer.status_code == 403
    again = hidden(answer.text)
    assert {name: again[name] for name in FILLED} == FILLED  # line ends, too
    assert "You have no tasks yet" in alice.http.get("/tasks").text
    assert alice.http.post("/new/command", data={**again, "more_inputs": ""}).status_code == 303


def test_what_another_site_sends_is_not_kept(alice: PageVisitor) -> None:
    """It could put words into the form of somebody who is about to sign in."""
    form = filled_in(alice)
    ended(alice)
    for cookies in (True, False):
        if not cookies:
            alice.http.cookies.clear()
        for origin in ("", "https://evil.example"):
            answer = alice.http.post("/new/command", data=form, headers={"Origin": origin})
            assert answer.status_code in (303, 403), (cookies, origin)
            assert "typed by hand" not in answer.text


def test_a_form_without_anything_typed_leads_back_to_its_page(alice: PageVisitor) -> None:
    form = {"proof": proof(alice.http.get("/tasks").text)}
    ended(alice)
    for action, page in (
        ("/tasks/x/cancel", "/tasks/x"), ("/datasets/d-1/remove", "/datasets/d-1"), ("/sign-out", ""),
    ):  # fmt: skip
        answer = alice.http.post(action, data=form)
        assert answer.headers["location"] == (f"/sign-in?next={page}" if page else "/sign-in"), action
    answer = alice.http.post("/datasets", files={"files": ("a", b"x")})
    assert answer.headers["location"] == "/sign-in?next=/datasets"


def test_signing_in_leads_back_to_the_whole_address(visit: Visit) -> None:
    someone = visit("")
    address = "/tasks?state=FAILED&name=a%26b%C3%BC"
    page = someone.http.get(address, follow_redirects=True)
    assert hidden(page.text)["next"] == address
    fields = {**hidden(page.text), "name": "alice", "password": PASSWORDS["alice"]}
    assert someone.http.post("/sign-in", data=fields).headers["location"] == address
    long = visit("").http.get("/tasks", params={"name": "x" * 3000})
    assert long.headers["location"] == "/sign-in?next=/tasks"


def test_two_tabs_sign_in(visit: Visit) -> None:
    someone = visit("")
    first, second = (hidden(someone.http.get("/sign-in", params={"next": "/new"}).text) for _ in range(2))
    password = {"name": "alice", "password": PASSWORDS["alice"]}
    assert someone.http.post("/sign-in", data={**first, **password}).status_code == 303
    answer = someone.http.post("/sign-in", data={**second, **password})
    assert answer.status_code == 303
    answer = someone.http.post("/sign-in", data={**second, **password, "proof": "of another gateway"})
    assert (answer.status_code, "out of date" in answer.text) == (403, True)
    fields = {**hidden(answer.text), **password}
    assert someone.http.post("/sign-in", data=fields).headers["location"] == "/new"


def test_at_a_site_with_an_identity_provider(
    alice: PageVisitor, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pages know nothing of the form. So the person signs in in another tab, and then goes on in this one."""
    form = filled_in(alice, more_inputs="")
    ended(alice)
    provider = SimpleNamespace(settings=SimpleNamespace(url="https://c2d.example.org"))
    monkeypatch.setattr(gateway.gateway.people, "openid", provider)
    page = alice.http.post("/new/command", data=form).text
    assert 'href="/oidc/login" target="_blank"' in page
    to, sent = re.findall(r'<form method="post" action="([^"]+)">(.*?)</form>', page)[-1]
    assert "I have signed in there: go on" in sent
    alice.sign_in("alice")
    answer = alice.http.post(unescape(to), data=hidden(f"<main{sent}"))
    assert (answer.status_code, "typed by hand" in answer.text) == (403, True)
    assert alice.http.post("/new/command", data=hidden(answer.text)).status_code == 303
