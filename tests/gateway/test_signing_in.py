"""Passwords, tokens, and what becomes of those who try."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import math
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from support.gateways import PASSWORDS, RunningGateway, gateway_settings, give_passwords, running
from support.site import ALICE, BOB, PATIENCE, TrialSite, wait_until

from compute_to_data.errors import AccessDenied, ZoneError
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.problems import HttpError
from compute_to_data.gateway.signing_in import turns as turns_module
from compute_to_data.gateway.signing_in.person import Person
from compute_to_data.gateway.signing_in.throttle import FREE_FOR_ADDRESS, FREE_FOR_USER, Throttle
from compute_to_data.gateway.signing_in.tokens import MOST_FOR_A_USER, Tokens
from compute_to_data.gateway.signing_in.turns import Turns
from compute_to_data.model import User
from compute_to_data.zones.embedded.entrance import EmbeddedEntrance


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_password_gives_a_token_that_ends(alice: httpx.Client, anybody: httpx.Client) -> None:
    token = alice.post("/authenticate").text
    assert len(base64.urlsafe_b64decode(token + "=")) == 32
    other = alice.post("/authenticate", headers={"Accept": "application/json"}).json()
    assert set(other) == {"token", "user", "expires"}
    assert other["user"] == "alice#tempZone"
    assert other["token"] != token
    assert anybody.delete("/authenticate", headers=bearer(token)).status_code == 204
    assert anybody.delete("/authenticate", headers=bearer(token)).status_code == 401
    assert anybody.delete("/authenticate", headers=bearer(other["token"])).status_code == 204


def test_names_may_have_a_zone(anybody: httpx.Client) -> None:
    for name in ("alice", "alice#tempZone"):
        assert anybody.post("/authenticate", auth=(name, PASSWORDS["alice"])).status_code == 200


WRONG = (
    ("alice", "wrong"),
    ("alice", ""),
    ("alice", PASSWORDS["bob"]),
    ("nobody", PASSWORDS["alice"]),
    ("rods", ""),
    ("alice#otherZone", PASSWORDS["alice"]),
    ("alice#tempZone#tempZone", PASSWORDS["alice"]),
    ("public", "public"),
)


def test_wrong_names_and_passwords_are_not_told_apart(anybody: httpx.Client) -> None:
    for name, password in WRONG:
        answer = anybody.post("/authenticate", auth=(name, password))
        assert answer.status_code == 401, name
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["cause"] == "no such user, or the password is wrong"
        assert problem["code"] == -826000


def encoded(text: bytes) -> str:
    return f"Basic {base64.b64encode(text).decode()}"


def test_headers_that_are_no_sign_in(anybody: httpx.Client) -> None:
    headers = ["Basic", "Basic !!!", "Digest x", "Bearer x", "Bearer", "", "Basic " + "A" * 9000]
    headers += [encoded(text) for text in (b"alice", b":x", b"\xff\xfe:x", b"alice\0:x")]
    for header in headers:
        answer = anybody.post("/authenticate", headers={"Authorization": header} if header else {})
        assert answer.status_code == 401, header
        assert answer.json()["error"] == "HttpError"


def test_a_browser_is_not_asked_for_a_password_of_its_own(anybody: httpx.Client) -> None:
    assert anybody.post("/authenticate").headers["www-authenticate"].startswith("Basic ")
    for headers in ({"Accept": "text/html"}, {"Sec-Fetch-Mode": "navigate"}):
        assert "Basic" not in anybody.post("/authenticate", headers=headers).headers["www-authenticate"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({}, 200),
    ],
)
def test_a_page_of_another_site_changes_nothing(alice: httpx.Client, headers: dict[str, str], status: int) -> None:
    """The browser would send alice's name and password along."""
    assert alice.post("/authenticate", headers=headers).status_code == status


def test_the_gateways_own_origin_may(gateway: RunningGateway, alice: httpx.Client) -> None:
    assert alice.post("/authenticate", headers={"Origin": gateway.url}).status_code == 200


def test_a_thousand_wrong_passwords(gateway: RunningGateway) -> None:
    """Few are looked at, however many come at the same time; and alice, who has a token, notices nothing."""
    with gateway.client("alice") as alice:
        token = alice.post("/authenticate").text

    def attempt(number: int) -> int:
        return client.post("/authenticate", auth=("bob", f"guess{number}")).status_code

    begun = time.monotonic()
    with gateway.client() as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(attempt, range(1000)))
        assert set(answers) == {401, 429}
        took = time.monotonic() - begun
        assert answers.count(401) <= FREE_FOR_USER + 1 + math.log2(took + 1)  # each wait is twice as long
        while attempt(1000) != 429:
            pass
        slowed = client.post("/authenticate", auth=("bob", PASSWORDS["bob"]))
        assert slowed.status_code == 429
        assert int(slowed.headers["retry-after"]) >= 1
        assert "is looked at in" in slowed.json()["cause"]
        assert client.delete("/authenticate", headers=bearer(token)).status_code == 204


def test_waiting_doubles_and_is_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(FREE_FOR_USER):
        throttle.begin("bob", "192.0.2.1")
    waits = []
    for _ in range(8):
        with pytest.raises(HttpError) as caught:
            throttle.begin("bob", "192.0.2.9")
        waits.append(int(caught.value.headers["Retry-After"]))
        clock.now += waits[-1]
        throttle.begin("bob", "192.0.2.9")
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    throttle.begin("alice", "192.0.2.1")
    clock.now += 901
    for _ in range(FREE_FOR_USER):
        throttle.begin("bob", "192.0.2.1")


def test_an_address_that_tries_many_users_waits() -> None:
    throttle = Throttle(Clock())
    for number in range(FREE_FOR_ADDRESS):
        throttle.begin(f"user{number}", f"2001:db8::{number}")
    with pytest.raises(HttpError):
        throttle.begin("another", "2001:db8::ffff")
    throttle.begin("another", "2001:db8:1::1")


def test_right_passwords_do_not_count() -> None:
    throttle = Throttle(Clock())
    for _ in range(FREE_FOR_ADDRESS * 3):
        throttle.begin("bob", "192.0.2.1").right()


def test_a_user_does_not_wait_where_they_signed_in_before() -> None:
    """Otherwise anybody could lock them out."""
    throttle = Throttle(Clock())
    throttle.begin("bob", "192.0.2.1").right()
    for _ in range(FREE_FOR_USER):
        throttle.begin("bob", "203.0.113.5")
    with pytest.raises(HttpError):
        throttle.begin("bob", "203.0.113.6")
    for _ in range(FREE_FOR_USER):
        throttle.begin("bob", "192.0.2.1")
    with pytest.raises(HttpError):
        throttle.begin("bob", "192.0.2.1")


def test_tokens_end_when_idle_and_at_last(site: TrialSite) -> None:
    ended: list[User] = []
    clock = Clock()
    tokens = Tokens(60.0, 300.0, lambda person: ended.append(person.user), clock)
    person = Person(site.zone.session(ALICE), None)  # type: ignore[arg-type]
    idle, used = tokens.give(person), tokens.give(person)
    for _ in range(5):
        clock.now += 50
        assert tokens.person(used) is person
    assert tokens.person(idle) is None
    clock.now += 51
    assert tokens.person(used) is None
    assert ended == []
    tokens.tend()
    assert (ended, len(tokens)) == ([ALICE, ALICE], 0)
    assert tokens.person("no such token") is None


def test_a_user_has_a_bounded_number_of_tokens(site: TrialSite) -> None:
    clock = Clock()
    tokens = Tokens(60.0, 300.0, lambda person: None, clock)
    alice, bob = (Person(site.zone.session(user), None) for user in (ALICE, BOB))  # type: ignore[arg-type]
    first, bobs = tokens.give(alice), tokens.give(bob)
    for _ in range(MOST_FOR_A_USER):
        clock.now += 0.01
        tokens.give(alice)
    assert tokens.person(first) is None
    assert tokens.person(bobs) is bob
    assert len(tokens) == MOST_FOR_A_USER + 1


def test_a_password_that_was_changed_or_taken_away(site: TrialSite) -> None:
    give_passwords(site)
    entrance = EmbeddedEntrance(site.zone.directory)
    assert entrance.signed_in(ALICE, PASSWORDS["alice"]).user == ALICE
    assert site.zone.set_password(ALICE, "another one")
    assert "another one" not in Path(site.zone.directory, "passwords.json").read_text()
    with pytest.raises(AccessDenied):
        entrance.signed_in(ALICE, PASSWORDS["alice"])
    entrance.signed_in(ALICE, "another one")
    assert site.zone.set_password(ALICE, None)
    assert not site.zone.set_password(ALICE, None)
    with pytest.raises(AccessDenied):
        entrance.signed_in(ALICE, "another one")
    for password in ("short", "x" * 1025):
        with pytest.raises(ZoneError, match="8 to 1024 characters"):
            site.zone.set_password(ALICE, password)
    file = os.path.join(site.zone.directory, "passwords.json")
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    entrance.close()


def test_two_who_set_passwords_at_the_same_time(site: TrialSite) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda user: site.zone.set_password(user, f"password of {user}"), (ALICE, BOB)))
    with open(os.path.join(site.zone.directory, "passwords.json")) as file:
        assert set(json.load(file)["users"]) == {str(ALICE), str(BOB)}


def test_nothing_secret_or_unescaped_reaches_the_log(
    gateway: RunningGateway, anybody: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    anybody.post("/authenticate", auth=("alice", PASSWORDS["alice"]))
    anybody.get("/a%0d%0aFORGED%1b[2J", params={"token": "SECRETTOKEN"})
    anybody.post("/authenticate", auth=("a\x1b[2Jb", "SECRETWORD"))
    ours = "\n".join(one.getMessage() for one in caplog.records if one.name.startswith("compute_to_data"))
    assert "POST /authenticate 200" in ours
    assert "FORGED" in ours
    assert not set(ours) & {"\r", "\x1b"}
    for secret in (PASSWORDS["alice"], "SECRETTOKEN", "SECRETWORD"):
        assert secret not in ours


def test_lines_ends_in_headers(gateway: RunningGateway) -> None:
    for line in (b"X: a\rb: c", b"X: a\x00b", b"X : a", b"\x80: a"):
        answer = gateway.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_headers_are_bounded(gateway: RunningGateway) -> None:
    for size, begin in ((40_000, b"HTTP/1.1 431 "), (4_000_000, b"")):  # the gateway hangs up on the second
        answer = gateway.raw(
            b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"a" * size + b"\r\n\r\n"
        )
        assert answer.startswith(begin)
        assert b" 200 " not in answer


def seconds_until_closed(gateway: RunningGateway, send: Callable[[socket.socket], None]) -> float:
    """How long a connection stays open, once ``send`` has said what it says."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) as connection:
        send(connection)
        with contextlib.suppress(ConnectionResetError):  # so it ends when the gateway has not read all that was sent
            while connection.recv(65536):
                pass
    return time.monotonic() - begun


def test_a_client_that_sends_its_header_slowly_is_cut_off(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch, anybody: httpx.Client
) -> None:
    monkeypatch.setattr(request_bounds, "HEADER_SECONDS", 0.4)

    def trickle(connection: socket.socket, first: bytes) -> None:
        connection.sendall(first)
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                try:
                    connection.sendall(b"a")
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()

    whole = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    for first in (b"", b"GET / HTTP/1.1\r\nX: ", whole + b"GET / HTTP/1.1\r\nX: "):
        took = seconds_until_closed(gateway, lambda connection, first=first: trickle(connection, first))
        assert 0.3 < took < PATIENCE / 2
    assert seconds_until_closed(gateway, lambda connection: None) < PATIENCE / 2
    assert anybody.get("/healthz").status_code == 200


def test_a_hundred_slow_clients_cost_no_thread(gateway: RunningGateway, alice: httpx.Client) -> None:
    before = threading.active_count()
    slow = []
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE)
        connection.sendall(b"POST /authenticate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        slow.append(connection)
    assert alice.post("/authenticate").status_code == 200
    assert threading.active_count() <= before + 2
    for connection in slow:
        connection.close()


def test_basic_is_remembered_for_a_minute_only(
    site: TrialSite, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = gateway.gateway.people
    person = people.with_basic("alice", PASSWORDS["alice"], "192.0.2.1")
    site.zone.set_password(ALICE, "another one")
    assert people.with_basic("alice", PASSWORDS["alice"], "192.0.2.1") is person
    with pytest.raises(AccessDenied):
        people.with_basic("alice", PASSWORDS["alice"] + " ", "192.0.2.1")
    kept = list(people._remembered)
    assert not any(PASSWORDS["alice"].encode() in key or b"alice" in key for key in kept)
    monkeypatch.setattr(people, "_clock", lambda: time.monotonic() + 61)
    with pytest.raises(AccessDenied):
        people.with_basic("alice", PASSWORDS["alice"], "192.0.2.1")


def test_connections_are_bounded(site: TrialSite) -> None:
    with running(gateway_settings(site, listen={"connections": 3})) as gateway:
        idle = [socket.create_connection(("127.0.0.1", gateway.port), PATIENCE) for _ in range(4)]

        def is_refused() -> bool:
            return httpx.get(f"{gateway.url}/healthz").status_code == 503

        wait_until(is_refused, "the refusal of a further connection")
        for connection in idle:
            connection.close()
        wait_until(lambda: not is_refused(), "an answer again")


def basic_requests(gateway: RunningGateway, people: list[tuple[str, str]], path: str = "/api/v1/me") -> list[int]:
    """The status for each of these, all at the same time."""
    begin = threading.Barrier(len(people))

    def ask(person: tuple[str, str]) -> int:
        begin.wait(PATIENCE)
        with httpx.Client(base_url=gateway.url, timeout=2 * PATIENCE, trust_env=False, auth=person) as client:
            return client.get(path).status_code

    with ThreadPoolExecutor(len(people)) as pool:
        return list(pool.map(ask, people))


def test_sixty_first_sign_ins_of_a_user_at_once(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, those that came while others were checked counted as wrong, and were sent away."""
    checked: list[User] = []
    check = EmbeddedEntrance.signed_in

    def counted(self: EmbeddedEntrance, user: User, password: str) -> Any:
        checked.append(user)
        return check(self, user, password)

    monkeypatch.setattr(EmbeddedEntrance, "signed_in", counted)
    assert basic_requests(gateway, [("alice", PASSWORDS["alice"])] * 60) == [200] * 60
    assert checked == [ALICE]


def test_sixty_users_at_one_address_sign_in_at_once(site: TrialSite) -> None:
    give_passwords(site)
    people = []
    for number in range(60):
        user = site.zone.add_user(f"user{number}")
        people.append((user.name, PASSWORDS["alice"]))
    file = Path(site.zone.directory, "passwords.json")
    kept = json.loads(file.read_text())
    kept["users"].update({f"{name}#{ALICE.zone}": kept["users"][str(ALICE)] for name, _ in people})
    file.write_text(json.dumps(kept))
    with running(gateway_settings(site)) as gateway:
        assert basic_requests(gateway, people) == [200] * 60


def test_wrong_passwords_at_once_gain_nothing(gateway: RunningGateway) -> None:
    begun = time.monotonic()
    found = basic_requests(gateway, [("bob", f"guess{number}") for number in range(40)])
    assert set(found) == {401, 429}
    assert found.count(401) <= FREE_FOR_USER + 1 + math.log2(time.monotonic() - begun + 1)


def test_turns_are_shared() -> None:
    """A user has one, an address half of them, and who waits too long hears why."""
    turns, order = Turns(4), []

    async def check(name: str, user: str, address: str, until: anyio.Event) -> None:
        async with turns.one(user, address):
            order.append(name)
            await until.wait()

    async def all_of_them() -> None:
        until = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for name, user, address in (
                ("first", "alice", "1"), ("waits for her own turn", "alice", "2"), ("second", "bob", "1"),
                ("waits for the address", "carol", "1"), ("another address", "dave", "2"), ("last", "eve", "3"),
                ("waits for any", "frank", "4"),
            ):  # fmt: skip
                tasks.start_soon(check, name, user, address, until)
                await anyio.wait_all_tasks_blocked()
            assert order == ["first", "second", "another address", "last"]
            until.set()
        assert len(order) == 7
        assert not turns._lines

    anyio.run(all_of_them)


def test_who_waits_too_long_for_a_turn_hears_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "LONGEST_SECONDS", 0.05)
    turns = Turns(1)

    async def two() -> None:
        async with turns.one("alice", "1"):
            with pytest.raises(HttpError, match="too many sign in at the same time") as caught:
                async with turns.one("alice", "1"):
                    pytest.fail("nobody may have this turn")
            assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "5")
        assert not turns._lines

    anyio.run(two)
