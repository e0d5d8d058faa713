"""``irods_environment.json``: all keys that iRODS's own clients know, and TLS until a server asks who we are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from irods import password_obfuscation
from support import certificates
from support.negotiating import INVALID_PARAMETER, SERVER_NEGOTIATION_ERROR, NegotiatingServer

from compute_to_data.errors import ConfigurationError, ZoneOutOfReach
from compute_to_data.model import User
from compute_to_data.zones.irods import accounts
from compute_to_data.zones.irods.connections import Connections
from compute_to_data.zones.irods.entrance import IrodsEntrance
from compute_to_data.zones.irods.session import IrodsSession

REQUIRE, DONT_CARE, REFUSE = "CS_NEG_REQUIRE", "CS_NEG_DONT_CARE", "CS_NEG_REFUSE"
EVERY_KEY: dict[str, Any] = {
    "irods_authentication_scheme": "native",
    "irods_client_server_negotiation": "request_server_negotiation",
    "irods_client_server_policy": "CS_NEG_REFUSE",
    "irods_connection_pool_refresh_time_in_seconds": 300,
    "irods_cwd": "/tempZone/home/alice/in",
    "irods_debug": "",
    "irods_default_hash_scheme": "SHA256",
    "irods_default_number_of_transfer_threads": 4,
    "irods_default_resource": "demoResc",
    "irods_encryption_algorithm": "AES-256-CBC",
    "irods_encryption_key_size": 32,
    "irods_encryption_num_hash_rounds": 16,
    "irods_encryption_salt_size": 8,
    "irods_gsi_server_dn": "",
    "irods_home": "/tempZone/home/alice",
    "irods_host": "irods.example.org",
    "irods_log_level": 5,
    "irods_match_hash_policy": "compatible",
    "irods_maximum_number_of_transfer_threads": 16,
    "irods_maximum_size_for_single_buffer_in_megabytes": 32,
    "irods_plugin_directory": "/usr/lib/irods/plugins",
    "irods_plugins_home": "/usr/lib/irods/plugins",
    "irods_port": 1247,
    "irods_server_control_plane_encryption_algorithm": "AES-256-CBC",
    "irods_server_control_plane_encryption_num_hash_rounds": 16,
    "irods_server_control_plane_key": "TEMPORARY__32byte_ctrl_plane_key",
    "irods_server_control_plane_port": 1248,
    "irods_ssl_ca_certificate_file": "/etc/ssl/certs/ca-certificates.crt",
    "irods_ssl_ca_certificate_path": "/etc/ssl/certs",
    "irods_ssl_certificate_chain_file": "/etc/irods/chain.pem",
    "irods_ssl_certificate_key_file": "/etc/irods/server.key",
    "irods_ssl_dh_params_file": "/etc/irods/dhparams.pem",
    "irods_ssl_verify_server": "hostname",
    "irods_tcp_keepalive_intvl_in_seconds": 1,
    "irods_tcp_keepalive_probes": 5,
    "irods_tcp_keepalive_time_in_seconds": 7200,
    "irods_transfer_buffer_size_for_parallel_transfer_in_megabytes": 4,
    "irods_user_name": "alice",
    "irods_zone_name": "tempZone",
    "schema_name": "service_account_environment",
    "schema_version": "v5",
}
"""What iCommands 4.3.5 and 5.0.2 read, except the names of the files themselves."""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """An environment file with a password beside it. ``None`` leaves a key out."""

    def write(**keys: Any) -> str:
        few = {"irods_host": "127.0.0.1", "irods_user_name": "alice", "irods_zone_name": "tempZone"}
        found = {name: value for name, value in {**few, **keys}.items() if value is not None}
        file = tmp_path / "irods_environment.json"
        file.write_text(json.dumps(found))
        (tmp_path / ".irodsA").write_text(password_obfuscation.encode("her password"))
        return str(file)

    return write


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates.make_authority(tmp_path_factory.mktemp("authority") / "ca").with_suffix("")


@pytest.fixture(scope="module")
def signed(authority: Path) -> tuple[Path, Path]:
    return certificates.make_certificate(authority, authority.parent / "server", "DNS:localhost,IP:127.0.0.1")


def connect(file: str) -> str:
    """What a person reads when they connect to a server that hangs up once it knows them."""
    with pytest.raises(ZoneOutOfReach) as caught:
        IrodsSession.open(file)
    return str(caught.value)


def test_every_key_that_icommands_know_is_taken(write: Write) -> None:
    account = accounts.from_environment(write(**EVERY_KEY))
    assert (account.host, account.port, account.password) == ("irods.example.org", 1247, "her password")
    assert (account.client_user, account.client_zone) == ("alice", "tempZone")
    assert accounts.home(write(**EVERY_KEY)) == "/tempZone/home/alice"
    assert IrodsEntrance(write(**EVERY_KEY)).zone == "tempZone"


@pytest.mark.parametrize("name", sorted(set(EVERY_KEY) - {"irods_host", "irods_user_name", "irods_zone_name"}))
def test_each_key_may_be_absent(write: Write, name: str) -> None:
    account = accounts.from_environment(write(**{**EVERY_KEY, name: None}))
    assert (account.port, account.encryption_key_size, account.encryption_algorithm) == (1247, 32, "AES-256-CBC")


@pytest.mark.parametrize("name", ["password", "irods_password", "client_user", "irods_client_zone", "ssl_context"])
def test_what_icommands_do_not_know_changes_nothing(write: Write, name: str) -> None:
    plain, odd = (vars(accounts.from_environment(write(**keys))) for keys in ({}, {name: "odd"}))
    assert plain == odd


@pytest.mark.parametrize("scheme", ["native", "NATIVE", "PAM", "pam", "pam_password", "pam_interactive"])
def test_what_iinit_keeps_authenticates_natively(write: Write, scheme: str) -> None:
    account = accounts.from_environment(write(irods_authentication_scheme=scheme))
    assert (account.password, account._original_authentication_scheme) == ("her password", "native")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("irods_authentication_scheme", "gsi", "expected one of native, pam, pam_password, pam_interactive"),
        ("irods_client_server_policy", "yes", f"expected one of {REQUIRE}, {DONT_CARE}, {REFUSE}"),
        ("irods_ssl_verify_server", "perhaps", "expected one of hostname, cert, none"),
        ("irods_port", "ssh", "expected a number"),
        ("irods_encryption_salt_size", [], "expected a number"),
        ("irods_host", 7, "expected a text"),
    ],
)
def test_other_values_are_refused(write: Write, name: str, value: object, expected: str) -> None:
    """Also to a person: iinit would not help."""
    file = write(**{name: value})
    for open_it in (accounts.from_environment, IrodsSession.open, IrodsEntrance):
        with pytest.raises(ConfigurationError) as caught:
            open_it(file)
        assert f"{file}: {name}: found {value!r}, {expected}" in str(caught.value).replace("'GSI'", "'gsi'")


def test_nobody_signs_in_over_http_by_a_conversation(write: Write) -> None:
    with pytest.raises(ConfigurationError, match="found 'pam_interactive', by which nobody can sign in over HTTP"):
        IrodsEntrance(write(irods_authentication_scheme="pam_interactive"))


@pytest.mark.parametrize(
    ("ours", "theirs", "heard"),
    [
        (REQUIRE, REQUIRE, ["TLS"]),
        (REQUIRE, DONT_CARE, ["TLS"]),
        (DONT_CARE, REQUIRE, ["TLS"]),
        (DONT_CARE, DONT_CARE, ["TLS"]),
        (DONT_CARE, REFUSE, ["refused", "plain"]),
        (REFUSE, DONT_CARE, ["plain"]),
        (REFUSE, REFUSE, ["plain"]),
        (None, REQUIRE, ["refused", "TLS"]),
        (None, DONT_CARE, ["plain"]),
        (None, REFUSE, ["plain"]),
    ],
)
def test_policies_agree_as_those_of_icommands(
    write: Write, authority: Path, signed: tuple[Path, Path], ours: str | None, theirs: str, heard: list[str]
) -> None:
    """Also without ``irods_client_server_negotiation``, which 5.0 does not know any more."""
    with NegotiatingServer(theirs, *signed).answering() as server:
        trusted = f"{authority}.pem"
        keys = {"irods_client_server_policy": ours, "irods_ssl_ca_certificate_file": trusted}
        connections = Connections(accounts.from_environment(write(irods_port=server.port, **keys)), "alice")
        with pytest.raises(ZoneOutOfReach):
            connections.call(lambda connection: None)
    assert server.heard == heard


@pytest.mark.parametrize("refusal", [INVALID_PARAMETER, SERVER_NEGOTIATION_ERROR])
def test_tls_that_one_side_refuses(write: Write, signed: tuple[Path, Path], refusal: int) -> None:
    with NegotiatingServer(REQUIRE, *signed, refusal).answering() as server:
        file = write(irods_port=server.port, irods_client_server_policy=REFUSE)
        expected = f"127.0.0.1:{server.port}: it requires TLS, which the environment refuses (CS_NEG_REFUSE). "
        assert connect(file) == f"{expected}Set irods_client_server_policy of {file} to CS_NEG_REQUIRE."
    with NegotiatingServer(REFUSE).answering() as server:
        text = connect(write(irods_port=server.port, irods_client_server_policy=REQUIRE))
    assert f"127.0.0.1:{server.port}: it refuses TLS, which the environment requires (CS_NEG_REQUIRE)" in text
    assert "plain" not in server.heard


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("unknown", "no authority of this system's store has signed its certificate"),
        ("wrong", "other.pem has signed its certificate ("),
        ("expired", "its certificate has expired. Renew the certificate of 127.0.0.1."),
        ("renamed", "its certificate is not for the name 127.0.0.1. Set irods_host of"),
    ],
)
def test_a_server_that_cannot_be_trusted(
    write: Write, authority: Path, tmp_path: Path, kind: str, sentence: str
) -> None:
    """A worker, a person and a gateway read the object, the cause and the remedy, and send nothing."""
    names = "DNS:elsewhere.example.org" if kind == "renamed" else "IP:127.0.0.1"
    made = certificates.make_certificate(authority, tmp_path / "server", names, expired=kind == "expired")
    trusted = f"{authority}.pem" if kind != "wrong" else str(certificates.make_authority(tmp_path / "other"))
    with NegotiatingServer(REQUIRE, *made).answering() as server:
        keys = {"irods_ssl_ca_certificate_file": None if kind == "unknown" else trusted}
        file = write(irods_port=server.port, irods_client_server_policy=REQUIRE, **keys)
        text = connect(file)
        with pytest.raises(ZoneOutOfReach) as caught:
            IrodsEntrance(file).signed_in(User("alice", "tempZone"), "her password")
    assert text.startswith(f"127.0.0.1:{server.port}: ")
    assert sentence in text
    assert str(caught.value) == text
    assert set(server.heard) == {"no TLS"}


@pytest.mark.parametrize(("verify", "heard"), [("hostname", "no TLS"), ("cert", "TLS"), ("none", "TLS")])
def test_how_much_is_verified(write: Write, authority: Path, tmp_path: Path, verify: str, heard: str) -> None:
    made = certificates.make_certificate(authority, tmp_path / "server", "DNS:elsewhere.example.org")
    trusted = None if verify == "none" else f"{authority}.pem"
    keys = {"irods_ssl_verify_server": verify, "irods_ssl_ca_certificate_file": trusted}
    with NegotiatingServer(REQUIRE, *made).answering() as server:
        connect(write(irods_port=server.port, irods_client_server_policy=REQUIRE, **keys))
    assert set(server.heard) == {heard}


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [
        ("irods_ssl_ca_certificate_file", "/nowhere.pem", "/nowhere.pem: No such file or directory"),
        ("irods_ssl_ca_certificate_file", os.devnull, "/dev/null: has no certificate in PEM"),
        ("irods_ssl_ca_certificate_path", "/nowhere", "/nowhere is no directory"),
    ],
)
def test_authorities_that_cannot_be_read(write: Write, name: str, value: str, cause: str) -> None:
    file = write(irods_client_server_policy=REQUIRE, **{name: value})
    with pytest.raises(ConfigurationError) as caught:
        IrodsSession.open(file)
    assert str(caught.value).startswith(f"{file}: {name}: {cause}")


def test_a_pam_password_never_leaves_without_tls(write: Write) -> None:
    with NegotiatingServer(REFUSE).answering() as server:
        file = write(irods_port=server.port, irods_client_server_policy=REFUSE, irods_authentication_scheme="PAM")
        with pytest.raises(ConfigurationError, match="requires secure communications") as caught:
            IrodsEntrance(file).signed_in(User("alice", "tempZone"), "her password")
    assert "Set irods_client_server_policy to CS_NEG_REQUIRE" in str(caught.value)
    assert server.heard == ["plain"]
