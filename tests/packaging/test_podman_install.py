"""With --podman, the installer gives the service account its own systemd, and workers its socket; and takes it back."""

from __future__ import annotations

import pytest

from .conftest import ScratchServer

LINGER = "/var/lib/systemd/linger/irods"
DELEGATION = "/etc/systemd/system/user@998.service.d/compute-to-data.conf"
WORKER = "/etc/systemd/system/compute-to-data-worker@.service.d/podman.conf"
SOCKET = "/etc/systemd/user/compute-to-data-podman.socket"
SERVICE = "/etc/systemd/user/compute-to-data-podman.service"
WANTED = "/etc/systemd/user/sockets.target.d/compute-to-data.conf"
IMAGES = "/var/lib/irods/.local/share/containers"
RESTART = "systemctl restart user@998.service"


@pytest.fixture
def server(server: ScratchServer) -> ScratchServer:
    """A server with the service account."""
    server.path("/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nirods:x:998:998::/var/lib/irods:/bin/sh\n")
    for path in ("/etc/group", "/etc/subuid", "/etc/subgid"):
        server.path(path).touch()
    return server


def _install(server: ScratchServer, *options: str) -> str:
    return server.must("install", "--no-venv", *options)


def test_a_dry_run_names_all_that_it_would_do(server: ScratchServer) -> None:
    before = server.contents()
    said = _install(server, "--podman", "--dry-run")
    for path in (LINGER, DELEGATION, WORKER, SOCKET, SERVICE, WANTED):
        assert f"would write {path}\n" in said
    assert "would give irods the subordinate ids" in said
    assert server.contents() == before


def test_what_it_sets_up_and_takes_back(server: ScratchServer) -> None:
    server.path(IMAGES).mkdir(parents=True)
    before = server.contents()
    assert RESTART in _install(server, "--podman")
    assert server.path(LINGER).read_text() == ""
    for line in ("Delegate=cpu cpuset io memory pids\n", "Slice=c2d.slice\n"):
        assert line in server.path(DELEGATION).read_text()
    worker = server.path(WORKER).read_text()
    assert "SupplementaryGroups=\n" in worker and "Upholds=user@998.service\n" in worker
    directory = "RuntimeDirectory=compute-to-data-podman\nRuntimeDirectoryMode=0700\n"
    assert directory in server.path(DELEGATION).read_text()
    assert "ListenStream=/run/compute-to-data-podman/podman.sock\n" in server.path(SOCKET).read_text()
    assert "ConditionUser=irods\n" in server.path(SERVICE).read_text()
    assert "--time=0\n" in server.path(SERVICE).read_text()
    assert "Wants=compute-to-data-podman.socket\n" in server.path(WANTED).read_text()
    assert "nothing to do" in _install(server), "an upgrade keeps what an installation has set up"
    server.path("/opt/compute-to-data/share/doc/podman.md").unlink()
    upgraded = _install(server)
    assert "write " in upgraded and RESTART not in upgraded, "that would end jobs, and nothing of theirs has changed"
    assert f"left: {IMAGES}: the account's images" in server.must("uninstall")
    assert server.contents() == before


def test_an_account_that_lingers_already_does_so_afterwards(server: ScratchServer) -> None:
    server.path(LINGER).parent.mkdir(parents=True)
    server.path(LINGER).touch()
    before = server.contents()
    _install(server, "--podman")
    server.must("uninstall")
    assert server.contents() == before


def test_without_the_option_nothing_of_it_is_written(server: ScratchServer) -> None:
    _install(server)
    assert not any(server.path(path).exists() for path in (LINGER, DELEGATION, WORKER, SOCKET, SERVICE, WANTED))


def test_an_account_that_does_not_exist(server: ScratchServer) -> None:
    server.path("/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    done = server.run("install", "--no-venv", "--podman")
    assert done.returncode == 1
    assert "the account irods does not exist" in done.stderr
