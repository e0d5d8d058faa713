"""A zone whose connections all need TLS (``CS_NEG_REQUIRE``), with certificates of an authority of its own.

``C2D_TEST_IRODS_TLS=1 make test-zone`` starts one. Here, ``C2D_TEST_IRODS_TLS`` then names the folder of the server's
key and certificate, ``C2D_TEST_IRODS_AUTHORITY`` the authority's files without their suffix, and
``C2D_TEST_IRODS_PAM_USER`` a user and the password that PAM knows (``name:password``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import certificates
from support.irods_site import COUNT, ENVIRONMENT, NO_ZONE, RealSite, plain_site, succeeded
from support.reading import ENOUGH
from support.site import PATIENCE
from support.terminal import USER, opened_bench, serving

from compute_to_data.cli.exits import ExitCode
from compute_to_data.errors import AccessDenied, Code, ZoneOutOfReach
from compute_to_data.model import User
from compute_to_data.zones.irods import IrodsStorage
from compute_to_data.zones.irods.entrance import IrodsEntrance

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

TLS, AUTHORITY, PAM_USER = "C2D_TEST_IRODS_TLS", "C2D_TEST_IRODS_AUTHORITY", "C2D_TEST_IRODS_PAM_USER"
NOT_REQUIRED = f"the zone does not require TLS (make test-zone with {TLS}=1)"
pytestmark = [
    pytest.mark.skipif(not os.environ.get(ENVIRONMENT), reason=NO_ZONE),
    pytest.mark.skipif(bool(os.environ.get(ENVIRONMENT)) and not os.environ.get(AUTHORITY), reason=NOT_REQUIRED),
]

Write = Callable[..., str]


@pytest.fixture(scope="module")
def site(zone: IrodsZoneUnderTest) -> RealSite:
    return plain_site(zone)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Another environment file of the administrator's, with these keys changed. ``None`` leaves a key out."""

    def write(**keys: Any) -> str:
        given = json.loads(Path(os.environ[ENVIRONMENT]).read_text())
        found = {name: value for name, value in {**given, **keys}.items() if value is not None}
        file = tmp_path / "irods_environment.json"
        file.write_text(json.dumps(found))
        return str(file)

    return write


@pytest.fixture(scope="module")
def authority() -> Path:
    return Path(os.environ[AUTHORITY])


@pytest.fixture
def expired(authority: Path, tmp_path: Path) -> Iterator[None]:
    """The server's certificate is one that has expired: each agent reads it anew."""
    chain = Path(os.environ[TLS]) / "chain.pem"
    key = Path(os.environ[TLS]) / "key.pem"
    kept = {file: file.read_bytes() for file in (chain, key)}
    names = (Path(os.environ[TLS]) / "names").read_text().partition("=")[2]
    made = certificates.make_certificate(authority, tmp_path / "expired", names, expired=True)
    try:
        for old, new in zip((chain, key), made):
            old.write_bytes(new.read_bytes())  # in place: the owner stays
        yield
    finally:
        for file, content in kept.items():
            file.write_bytes(content)


@contextlib.contextmanager
def in_the_middle(address: tuple[str, int]) -> Iterator[int]:
    """A port of this machine that passes everything on to a server, whose certificate is not for this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads: list[threading.Thread] = []

        def copy(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while content := source.recv(65536):
                    target.sendall(content)
                target.shutdown(socket.SHUT_WR)

        def pass_on(client: socket.socket) -> None:
            with client, socket.create_connection(address) as server:
                back = threading.Thread(target=copy, args=(server, client))
                back.start()
                copy(client, server)
                back.join()

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=pass_on, args=(listening.accept()[0],)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join()


def test_a_worker_runs_tasks(site: RealSite) -> None:
    content = os.urandom(1 << 21)  # more than iRODS moves in one message
    data = site.put("large", content)
    compute = site.compute_resource(site.role)
    with site.working(compute):
        collection = succeeded(site.run(site.request(*COUNT, inputs=[data], role=site.role)))
    assert site.alice.read(f"{collection}/count", ENOUGH).split() == [b"%d" % len(content)]


@pytest.mark.skipif(not os.environ.get(USER), reason=NO_ZONE)
def test_a_rule_wakes_a_worker(tmp_path_factory: pytest.TempPathFactory) -> None:
    with opened_bench(tmp_path_factory.mktemp("terminal")) as bench, serving(bench):
        done = bench.user.irule(f'container_dispatch("containers.run", "{bench.written()}", "", "", "encrypted");')
        assert "task encrypted COMPLETED" in done.stdout, done.stdout + done.stderr
        assert bench.user.get("iget", f"{bench.home}/out/encrypted/y.txt", "-") == "cba\n"


def c2d(environment_file: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("C2D_", "IRODS_", "XDG_"))}
    environment = {**plain, "HOME": str(home), "IRODS_ENVIRONMENT_FILE": environment_file}
    command = [sys.executable, "-m", "compute_to_data.cli.main", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )


def test_a_person_works_by_c2d(zone: IrodsZoneUnderTest, site: RealSite, tmp_path: Path) -> None:
    listed = c2d(zone.environment_of(site.alice.user), tmp_path, "list")
    assert listed.returncode == ExitCode.DONE, listed.stderr


def refused_to_all(file: str, home: Path) -> str:
    """What a worker, a person and a gateway read, which is the same."""
    with pytest.raises(ZoneOutOfReach) as to_a_worker:
        IrodsStorage.open(file)
    with pytest.raises(ZoneOutOfReach) as to_a_gateway:
        IrodsEntrance(file).signed_in(User("rods", "tempZone"), "rods")
    done = c2d(file, home, "list")
    assert done.returncode != ExitCode.DONE
    assert str(to_a_worker.value) == str(to_a_gateway.value)
    assert str(to_a_worker.value) in done.stderr
    return str(to_a_worker.value)


def test_a_wrong_authority(write: Write, tmp_path: Path) -> None:
    other = str(certificates.make_authority(tmp_path / "other"))
    file = write(irods_ssl_ca_certificate_file=other)
    text = refused_to_all(file, tmp_path)
    assert f":1247: no authority of {other} has signed its certificate" in text
    assert text.endswith(f"Name the authority's certificate in irods_ssl_ca_certificate_file of {file}.")


def test_no_authority_is_no_trust(write: Write, tmp_path: Path) -> None:
    text = refused_to_all(write(irods_ssl_ca_certificate_file=None), tmp_path)
    assert "no authority of this system's store has signed its certificate" in text


def test_an_expired_certificate(write: Write, expired: None, tmp_path: Path) -> None:
    file = write()
    host = json.loads(Path(file).read_text())["irods_host"]
    expected = f"{host}:1247: its certificate has expired. Renew the certificate of {host}."
    assert refused_to_all(file, tmp_path) == expected


def test_another_host(write: Write, tmp_path: Path) -> None:
    given = json.loads(Path(os.environ[ENVIRONMENT]).read_text())
    with in_the_middle((given["irods_host"], given["irods_port"])) as port:
        text = refused_to_all(write(irods_host="localhost", irods_port=port), tmp_path)
        IrodsStorage.open(write(irods_host="localhost", irods_port=port, irods_ssl_verify_server="cert")).close()
    assert text.startswith(f"localhost:{port}: its certificate is not for the name localhost. Set irods_host of ")


def test_refusing_tls(write: Write, tmp_path: Path) -> None:
    text = refused_to_all(write(irods_client_server_policy="CS_NEG_REFUSE"), tmp_path)
    assert "it requires TLS, which the environment refuses (CS_NEG_REFUSE)" in text


@pytest.mark.parametrize("policy", ["CS_NEG_DONT_CARE", None])
def test_other_policies_encrypt(write: Write, policy: str | None) -> None:
    IrodsStorage.open(write(irods_client_server_policy=policy, irods_client_server_negotiation=None)).close()


def test_native_passwords_at_a_gateway(zone: IrodsZoneUnderTest, site: RealSite, write: Write) -> None:
    entrance = IrodsEntrance(write())
    try:
        own = entrance.signed_in(site.alice.user, zone.password(site.alice.user))
        assert own.home == site.alice.home
        with pytest.raises(AccessDenied) as caught:
            entrance.signed_in(site.alice.user, "wrong")
        assert caught.value.code == Code.CAT_INVALID_AUTHENTICATION
    finally:
        entrance.close()


@pytest.mark.skipif(
    bool(os.environ.get(AUTHORITY)) and not os.environ.get(PAM_USER),
    reason="no real zone with PAM authentication is configured",
)
class TestPam:
    @pytest.mark.parametrize("scheme", ["pam_password", "PAM"])
    def test_a_gateway_asks_pam(self, write: Write, scheme: str) -> None:
        name, password = os.environ[PAM_USER].split(":")
        entrance = IrodsEntrance(write(irods_authentication_scheme=scheme))
        try:
            own = entrance.signed_in(User(name, "tempZone"), password)
            assert own.stat(own.home).logical_path == f"/tempZone/home/{name}"
            with pytest.raises(AccessDenied) as caught:
                entrance.signed_in(User(name, "tempZone"), f"{password}x")
            assert caught.value.code == Code.CAT_INVALID_AUTHENTICATION
            assert entrance.on_behalf_of(User(name, "tempZone")).home == own.home
        finally:
            entrance.close()

    @pytest.mark.skipif(not shutil.which("iinit"), reason="no real zone is configured here, with iCommands")
    def test_a_person_works_by_c2d_after_iinit(self, write: Write, tmp_path: Path) -> None:
        name, password = os.environ[PAM_USER].split(":")
        kept = Path(os.environ[TLS]).parents[1] / f"pam-{os.getpid()}"
        file = write(
            irods_user_name=name, irods_authentication_scheme="pam_password", irods_authentication_file=str(kept)
        )
        shared = kept.with_suffix(".json")  # iCommands run in the server's container
        shared.write_text(Path(file).read_text())
        environment = {
            **os.environ,
            "IRODS_ENVIRONMENT_FILE": str(shared),
            "IRODS_AUTHENTICATION_FILE": str(kept),
        }
        try:
            subprocess.run(
                ["iinit"], input=f"{password}\n", env=environment, check=True, capture_output=True, text=True,
                timeout=PATIENCE,
            )  # fmt: skip
            assert password not in kept.read_text()
            listed = c2d(str(shared), tmp_path, "list")
            assert listed.returncode == ExitCode.DONE, listed.stderr
        finally:
            shared.unlink()
            kept.unlink(missing_ok=True)
