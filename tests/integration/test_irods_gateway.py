"""Signing in to a real zone through ``c2d serve``, and working there from a computer without an iRODS client.

``tests/support/irods_site.py`` says what the tests need.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from support.gateways import with_digest
from support.identity_providers import CLIENT, Provider, running_providers
from support.irods_site import ENVIRONMENT, NO_ZONE, RealSite, plain_site
from support.reading import ENOUGH
from support.real_gateway import serving
from support.site import PATIENCE

from compute_to_data.model import Access, Collection

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

pytestmark = pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE)

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# What a computer without iRODS client, Docker client and gateway has not got.
BARE = "import sys; sys.modules.update(dict.fromkeys(('irods', 'docker', 'fastapi', 'uvicorn', 'jinja2')));" + (
    "from compute_to_data.cli.main import main; sys.exit(main())"
)


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with running_providers(tmp_path_factory.mktemp("provider")) as (found,):
        yield found


@pytest.fixture(scope="module")
def gateway(site: RealSite, provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "secret").write_text("secret\n")
    openid = {
        "issuer": provider.issuer,
        "client_id": CLIENT,
        "client_secret_file": str(folder / "secret"),
        "users": {"alice@example.org": site.alice.user.name},
        "pattern": "([a-z]+)@example\\.org",
        "url": "http://127.0.0.1:1",
    }
    with serving(site, folder, openid=openid) as address:
        yield address


@pytest.fixture(scope="module")
def password(zone: IrodsZoneUnderTest, site: RealSite) -> str:
    return zone.password(site.alice.user)


@pytest.fixture
def laptop(tmp_path: Path) -> Run:
    """Type a command on a computer of its own."""

    def run(*words: str, typed: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **variables}
        return subprocess.run(
            [sys.executable, "-c", BARE, *words],
            input=typed, text=True, capture_output=True, cwd=tmp_path, env=environment, timeout=PATIENCE,
        )  # fmt: skip

    return run


def signed_in(gateway: str, **options: object) -> httpx.Response:
    """The answer to a request for a token."""
    with httpx.Client(base_url=gateway, timeout=PATIENCE, trust_env=False) as client:
        headers = {"Accept": "application/json", **dict(options.pop("headers", {}))}  # type: ignore[call-overload]
        return client.post("/authenticate", headers=headers, **options)  # type: ignore[arg-type]


def test_native_passwords(gateway: str, site: RealSite, password: str) -> None:
    """By a name with and without the zone; the token is the user's own."""
    user = site.alice.user
    for name in (user.name, str(user)):
        answer = signed_in(gateway, auth=(name, password))
        assert answer.status_code == 200, answer.text
        assert answer.json()["user"] == str(user)
    with httpx.Client(base_url=gateway, timeout=PATIENCE, trust_env=False) as client:
        asked = {"logical_path": f"{site.home}/in"}
        headers = {"Authorization": f"Bearer {answer.json()['token']}"}
        found = client.post("/api/v1/catalog/stat", json=asked, headers=headers)
        assert found.json()["result"]["logical_path"] == f"{site.home}/in", found.text
        assert client.post("/api/v1/catalog/stat", json=asked, auth=(user.name, password)).status_code == 200
        assert client.post("/api/v1/catalog/stat", json=asked).status_code == 401


def test_wrong_passwords(gateway: str, zone: IrodsZoneUnderTest) -> None:
    """For every user the same answer, also for those whom the zone does not know."""
    user = zone.make_user()
    names = [user.name, str(user), f"{user.name}#elsewhere", f"nobody-{user.name}", "rods", "public"]
    for number, name in enumerate(names):
        # From an address of their own: those who fail often have to wait.
        transport = httpx.HTTPTransport(local_address=f"127.0.0.{number + 2}")
        with httpx.Client(base_url=gateway, timeout=PATIENCE, trust_env=False, transport=transport) as client:
            answers = [
                client.post("/authenticate", auth=(name.encode(), given.encode()))
                for given in ("wrong", "x" * 1000, "it's \u00e9", " ")
            ]
        assert answers[0].status_code == 401, answers[0].text
        assert {answer.status_code for answer in answers} <= {401, 429}
        first = answers[0].json()
        assert "no such user, or the password is wrong" in first["cause"]
        assert user.name not in answers[0].text


def test_somebody_elses_password(gateway: str, zone: IrodsZoneUnderTest, site: RealSite) -> None:
    """The password of one user does not open another one's, nor the one of a namesake in another zone."""
    bob = zone.make_user()
    namesake = zone.make_namesake(bob)
    assert signed_in(gateway, auth=(bob.name, zone.password(bob))).json()["user"] == str(bob)
    for wrong in (site.alice.user, namesake):
        assert signed_in(gateway, auth=(str(wrong), zone.password(bob))).status_code == 401


def test_on_behalf_of_a_user_whom_a_provider_names(
    gateway: str, zone: IrodsZoneUnderTest, site: RealSite, provider: Provider
) -> None:
    """With exactly that user's rights: what they make is theirs, and what is hidden from them stays so."""
    bob = zone.session(zone.make_user())
    hidden = zone.scratch(bob.user)
    bearer = {"Authorization": f"Bearer {provider.token('alice')}"}
    with httpx.Client(base_url=gateway, timeout=PATIENCE, trust_env=False, headers=bearer) as client:

        def call(method: str, **arguments: object) -> httpx.Response:
            return client.post(f"/api/v1/catalog/{method}", json=arguments)

        made = call("create_collection", collection=f"{site.home}/by-provider", parents=False)
        assert made.status_code == 200, made.text
        found = site.alice.stat(f"{site.home}/by-provider")
        assert isinstance(found, Collection)
        assert found.owner == site.alice.user
        assert call("stat", logical_path=hidden).status_code == 404
        bob.set_access(hidden, site.alice.user, Access.READ_OBJECT)
        assert call("stat", logical_path=hidden).status_code == 200
        assert call("create_collection", collection=f"{hidden}/x", parents=False).status_code == 403
        files = [{"logical_path": f"{site.home}/passwd", "physical_path": "/etc/passwd", "size": 1, "checksum": ""}]
        assert call("register", resource="demoResc", files=files).status_code in (400, 403)


def test_making_something_does_not_say_what_is_there(
    gateway: str, zone: IrodsZoneUnderTest, site: RealSite, password: str
) -> None:
    """For what bob has in a collection that alice may not see, and for what nobody has, she gets the same answers."""
    bob = zone.session(zone.make_user())
    hidden = zone.scratch(bob.user)
    bob.write(f"{hidden}/there", b"x")
    bob.create_collection(f"{hidden}/below")
    auth = (site.alice.user.name, password)
    with httpx.Client(base_url=gateway, timeout=PATIENCE, trust_env=False, auth=auth) as client:

        def answers(name: str) -> list[tuple[int, str]]:
            path = f"{hidden}/{name}"
            asked = [
                *(
                    client.put("/api/v1/catalog/content", params={"path": path, **more}, content=with_digest(b"x"))
                    for more in ({}, {"force": "true"})
                ),
                *(
                    client.post("/api/v1/catalog/create_collection", json={"collection": path, "parents": parents})
                    for parents in (False, True)
                ),
                client.get("/api/v1/catalog/content", params={"path": path}),
                client.head("/api/v1/catalog/content", params={"path": path}),
            ]
            return [(one.status_code, one.text.replace(path, "PATH")) for one in asked]

        expected = answers("nothing")
        assert [one for one in expected if one[0] != 404] == []
        assert "no such collection" in expected[3][1]
        assert answers("there") == answers("below") == expected
    assert bob.read(f"{hidden}/there", ENOUGH) == b"x"


def test_an_upload_that_cannot_succeed_is_refused_before_it_is_sent(
    gateway: str, zone: IrodsZoneUnderTest, site: RealSite, password: str
) -> None:
    bob = zone.session(zone.make_user())
    shown, shut = zone.scratch(bob.user), zone.make_resource()
    bob.set_access(shown, site.alice.user, Access.READ_OBJECT)
    site.alice.write(f"{site.home}/shut", b"x", resource=shut)
    site.alice.write(f"{site.home}/open", b"x")
    zone.set_resource_status(shut, "down")
    name = base64.b64encode(f"{site.alice.user.name}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {name}", "Content-Length": str(64 << 20), "Expect": "100-continue"}
    for place, status in (
        (f"{shown}/x", 403), (f"{site.home}/missing/x", 404), (f"{site.home}/open", 409),
        (f"{site.home}/x&resource={shut}", 503), (f"{site.home}/x&resource=nowhere", 404),
        (f"{site.home}/shut&force=true", 503), (f"{site.home}/open&force=true&resource={shut}", 503),
        (f"{site.home}/open&force=true&resource=nowhere", 404), ("/elsewhere/home/x", 400),
    ):  # fmt: skip
        # http.client passes over "100 Continue", and then waits in vain for the answer.
        with contextlib.closing(http.client.HTTPConnection(gateway.partition("//")[2], timeout=PATIENCE)) as connection:
            connection.request("PUT", f"/api/v1/catalog/content?path={place}", headers=headers)
            assert connection.getresponse().status == status, place
    assert site.alice.read(f"{site.home}/open", ENOUGH) == b"x"
    assert [one for one in site.alice.children(site.home) if one.logical_path == f"{site.home}/x"] == []


@pytest.mark.parametrize("subject", ["stranger", "nobody", "rods"])
def test_people_whom_nobody_in_the_zone_belongs_to(gateway: str, provider: Provider, subject: str) -> None:
    """Nor does the pattern make anybody the zone's administrator."""
    bearer = {"Authorization": f"Bearer {provider.token(subject)}"}
    with httpx.Client(base_url=gateway, timeout=PATIENCE, trust_env=False, headers=bearer) as client:
        answer = client.post("/api/v1/catalog/stat", json={"logical_path": "/"})
    assert answer.status_code == 401, answer.text


def test_the_commands_from_a_computer_without_an_irods_client(
    gateway: str, site: RealSite, password: str, laptop: Run, compute: str, tmp_path: Path
) -> None:
    user = site.alice.user
    done = laptop("login", gateway, "--user", user.name, typed="wrong\n")
    assert done.returncode == 3, done.stderr
    done = laptop("login", gateway, "--user", str(user), typed=f"{password}\n")
    assert (done.returncode, done.stdout) == (0, f"{user}\n"), done.stderr
    assert json.loads(laptop("whoami", "--output", "json").stdout)["user"] == str(user)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("axbxc\n")
    script = "cat /inputs/* > /outputs/x; echo printed"
    words = ("--role", site.role, "-o", f"{site.home}/out", "--", "/bin/sh", "-c")
    ran = laptop("run", site.image, "-i", "data/a.txt", *words, script)
    assert (ran.returncode, ran.stdout) == (0, "printed\n"), ran.stderr
    (listed, *_) = json.loads(laptop("list", "--output", "json").stdout)
    task = listed["task_id"]
    status = json.loads(laptop("status", task, "--output", "json").stdout)
    assert (status["state"], status["owner"]) == ("COMPLETED", str(user))
    assert laptop("logs", task).stdout == "printed\n"
    fetched = laptop("fetch", task, "x", "--output", "here")
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "here" / "x").read_text() == "axbxc\n"
    assert site.alice.read(f"{site.home}/out/{task}/x", ENOUGH) == b"axbxc\n"
    failed = laptop("run", site.image, *words, "echo why >&2; exit 3")
    assert failed.returncode == 1, failed.stderr
    assert "why" in failed.stderr
    assert laptop("logout").stderr == "signed out\n"
    assert laptop("list").returncode == 3
