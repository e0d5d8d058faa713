"""The installer gives the service account a range of ids for its jobs, and takes back only that."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from installer import job_accounts
from installer.layout import InstallError, Layout
from installer.manifest import Manifest

from .conftest import ScratchServer

SUBUID, SUBGID = "/etc/subuid", "/etc/subgid"
OURS = "irods:165536:65536\n"
PEOPLE = "alice:100000:65536\n"


@pytest.fixture
def server(server: ScratchServer) -> ScratchServer:
    """A server with the service account and one person, who has subordinate ids."""
    for path, text in {
        "/etc/passwd": "root:x:0:0::/root:/bin/sh\nirods:x:998:998::/var/lib/irods:/bin/sh\n",
        "/etc/group": "irods:x:998:\n",
        SUBUID: PEOPLE,
        SUBGID: PEOPLE,
    }.items():
        server.path(path).write_text(text)
    server.path(SUBGID).chmod(0o640)
    return server


def _install(server: ScratchServer, *options: str) -> str:
    return server.must("install", "--no-venv", *options)


def test_the_account_gets_a_free_range_and_gives_it_back(server: ScratchServer) -> None:
    before = server.contents()
    would = "give irods the subordinate ids 165536-231071 in /etc/subuid and /etc/subgid"
    assert f"would {would}" in _install(server, "--dry-run")
    assert server.contents() == before
    assert would in _install(server)
    assert server.path(SUBUID).read_text() == server.path(SUBGID).read_text() == PEOPLE + OURS
    assert "nothing to do" in _install(server)
    assert "would take the subordinate ids 165536-231071 back" in server.must("uninstall", "--dry-run")
    server.must("uninstall")
    assert server.contents() == before


def test_a_range_that_the_account_has_stays(server: ScratchServer) -> None:
    for path in (SUBUID, SUBGID):
        server.path(path).write_text("998:300000:1000\n")  # a uid is as good as a name
    before = server.contents()
    assert "subordinate ids" not in _install(server)
    server.must("uninstall")
    assert server.contents() == before


def test_the_range_has_no_id_of_an_account(server: ScratchServer) -> None:
    with server.path("/etc/passwd").open("a") as file:
        file.write("bob:x:200000:100::/:/bin/sh\nbroken line\n")
    _install(server)
    assert server.path(SUBUID).read_text() == f"{PEOPLE}irods:200001:65536\n"


def test_a_range_that_was_edited_since_stays_and_is_named(server: ScratchServer) -> None:
    _install(server)
    server.path(SUBUID).write_text("irods:165536:1000\n")
    output = server.must("uninstall")
    assert "left: /etc/subuid: the range 165536-231071, which we gave to irods, was changed" in output
    assert server.path(SUBUID).read_text() == "irods:165536:1000\n"
    assert server.path(SUBGID).read_text() == PEOPLE


def test_files_that_are_missing_are_made(server: ScratchServer) -> None:
    for path in (SUBUID, SUBGID):
        server.path(path).unlink()
    _install(server)
    assert server.path(SUBUID).read_text() == "irods:100000:65536\n"


def test_a_vault_without_access_lists_is_named(server: ScratchServer) -> None:
    output = _install(server, "--worker", "dsp_resc=/data/dsp_vault")
    assert "missing: /data/dsp_vault, the vault of dsp_resc, does not exist" in output
    server.path("/data").symlink_to("/proc/self")
    output = _install(server, "--worker", "dsp_resc=/data/fd")
    assert "missing: /data/fd, the vault of dsp_resc, cannot hold POSIX access lists" in output
    server.path("/data").unlink()
    server.path("/data/dsp_vault").mkdir(parents=True)
    assert "vault of dsp_resc" not in _install(server, "--worker", "dsp_resc=/data/dsp_vault", "--dry-run")


def _layout(server: ScratchServer) -> Layout:
    server.path("/opt/compute-to-data").mkdir(parents=True, exist_ok=True)
    return Layout(root=server.root)


def test_a_file_that_another_program_changes_is_left_alone(
    server: ScratchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is that of usermod."""
    lock = server.path(f"{SUBUID}.lock")
    lock.write_bytes(b"%d\0" % os.getppid())
    monkeypatch.setattr(job_accounts, "LOCK_SECONDS", 0.1)
    with pytest.raises(InstallError, match="another program is changing"):
        job_accounts.add(_layout(server), Manifest(), (165536, 231071), [SUBUID])
    assert server.path(SUBUID).read_text() == PEOPLE
    assert sorted(path.name for path in server.path("/etc").glob("subuid*")) == ["subuid", "subuid.lock"]


def test_a_lock_of_a_program_that_died_does_not_stop_us(server: ScratchServer) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    server.path(f"{SUBUID}.lock").write_bytes(b"%d\0" % ended.pid)
    job_accounts.add(_layout(server), Manifest(), (165536, 231071), [SUBUID])
    assert server.path(SUBUID).read_text() == PEOPLE + OURS
    assert not server.path(f"{SUBUID}.lock").exists()
