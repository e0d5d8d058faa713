"""Attacks on the resident service of a node. Who speaks to it decides what runs there, so only its own account may, and
it takes nothing but jobs in its directories. These tests need no Slurm."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.nobody import NOBODY, said_by_nobody
from support.real_slurm import NodeService, node_service
from support.site import wait_until

from compute_to_data.engines.slurm import client, service
from compute_to_data.engines.slurm.notes import Directory

NONCE = "0123456789abcdef"
PATIENCE = 60.0
NUMBER, NODE = "7", "n1"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another account")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An engine's directory, with a job that its worker has given up: who hands it over gets an exit status."""
    made = tmp_path / "shared"
    Directory(str(made)).make()
    (made / "jobs" / "job").mkdir(mode=0o700)
    (made / "nodes" / NODE / "running").mkdir(mode=0o700, parents=True)
    return made


@pytest.fixture
def served(directory: Path) -> Iterator[NodeService]:
    with node_service(str(directory)) as running:
        yield running


def connected(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(address)  # without a time-out it waits where many others do
    connection.settimeout(PATIENCE)
    return connection


def note_of(directory: Path) -> int:
    return client.locked(str(directory / "nodes" / NODE / "running" / NUMBER))


def fields_of(directory: Path) -> list[str]:
    return [client.stamp(), str(directory / "jobs" / "job"), NONCE, NUMBER, NODE]


def answer_to(address: str, message: bytes, *files: int) -> bytes:
    """What the service answers; b'' when it ends the connection."""
    with connected(address) as connection:
        return said_to(connection, message, *files)


def said_to(connection: socket.socket, message: bytes, *files: int) -> bytes:
    try:
        socket.send_fds(connection, [message], list(files))
        return connection.recv(16)
    except OSError:
        return b""


@contextmanager
def files_of(directory: Path) -> Iterator[tuple[int, int]]:
    with ExitStack() as stack, open(os.devnull, "w") as log:
        note = note_of(directory)
        stack.callback(os.close, note)
        yield note, log.fileno()


def test_the_message_of_a_client_is_taken(served: NodeService, directory: Path) -> None:
    """So what the tests below change is what the service refuses."""
    with files_of(directory) as files, connected(served.socket) as connection:
        assert said_to(connection, "\0".join(fields_of(directory)).encode(), *files) == client.READY
        assert said_to(connection, client.GO) == b"\0", "the worker has given it up"
        assert connection.recv(1) == b""


CHANGES: dict[str, Callable[[list[str], Path], None]] = {
    "another release": lambda fields, _: fields.__setitem__(0, "1 2 3"),
    "a folder elsewhere": lambda fields, place: fields.__setitem__(1, str(place.parent / "other" / "jobs" / "job")),
    "a folder above": lambda fields, _: fields.__setitem__(1, f"{fields[1]}/../../../other/jobs/job"),
    "a folder that leads out": lambda fields, place: fields.__setitem__(1, f"{place}/jobs/../../other"),
    "a folder below": lambda fields, _: fields.__setitem__(1, f"{fields[1]}/below"),
    "the folder of all jobs": lambda fields, place: fields.__setitem__(1, f"{place}/jobs/"),
    "no folder": lambda fields, _: fields.__setitem__(1, ""),
    "another number": lambda fields, _: fields.__setitem__(3, "8"),
    "a number that leads out": lambda fields, _: fields.__setitem__(3, "../7"),
    "no number": lambda fields, _: fields.__setitem__(3, ""),
    "a node that leads out": lambda fields, _: fields.__setitem__(4, "../nodes/n1"),
    "no node": lambda fields, _: fields.__setitem__(4, ""),
    "another node": lambda fields, _: fields.__setitem__(4, "n2"),
    "more than it asks for": lambda fields, _: fields.append("more"),
    "less than it asks for": lambda fields, _: fields.__delitem__(4),
    "more than it reads": lambda fields, _: fields.__setitem__(2, "0" * 20_000),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_message_that_no_client_sends(served: NodeService, directory: Path, change: str) -> None:
    fields = fields_of(directory)
    CHANGES[change](fields, directory)
    with files_of(directory) as files:
        assert answer_to(served.socket, "\0".join(fields).encode(), *files) == b""
    still_serves(served, directory)


def still_serves(served: NodeService, directory: Path) -> None:
    with files_of(directory) as files:
        assert answer_to(served.socket, "\0".join(fields_of(directory)).encode(), *files) == client.READY


@pytest.mark.parametrize(
    "message", [b"\xff\xfe", b"\0\0\0\0", b"go", b"\0" * 9000], ids=["bytes", "empty", "go", "long"]
)
def test_a_message_that_is_none(served: NodeService, directory: Path, message: bytes) -> None:
    with files_of(directory) as files:
        assert answer_to(served.socket, message, *files) == b""
    still_serves(served, directory)


def test_files_that_are_not_the_note(served: NodeService, directory: Path) -> None:
    message = "\0".join(fields_of(directory)).encode()
    with files_of(directory) as (note, log):
        for files in ((), (note,), (log, note), (log, log)):
            assert answer_to(served.socket, message, *files) == b"", files
    still_serves(served, directory)


def test_a_client_that_does_not_say_when(served: NodeService, directory: Path) -> None:
    """Something else comes instead of the word to begin: the job does not begin."""
    message = "\0".join(fields_of(directory)).encode()
    with files_of(directory) as files, connected(served.socket) as connection:
        assert said_to(connection, message, *files) == client.READY
        assert said_to(connection, message, *files) == b""
    still_serves(served, directory)


def test_a_wrong_nonce(served: NodeService, directory: Path) -> None:
    """The worker has submitted the job once more: this one does nothing."""
    (directory / "jobs" / "job" / "request.json").write_text(json.dumps({"nonce": "other", "job": {}, "sandbox": {}}))
    with files_of(directory) as files, connected(served.socket) as connection:
        assert said_to(connection, "\0".join(fields_of(directory)).encode(), *files) == client.READY
        assert said_to(connection, client.GO) == b"\0"
    assert list((directory / "jobs" / "job").iterdir()) == [directory / "jobs" / "job" / "request.json"]


def test_a_directory_that_others_can_write(served: NodeService, directory: Path) -> None:
    still_serves(served, directory)
    (directory / "jobs").chmod(0o777)
    with files_of(directory) as files, connected(served.socket) as connection:
        assert said_to(connection, "\0".join(fields_of(directory)).encode(), *files) == client.READY
        assert said_to(connection, client.GO) == b"\1"
    assert "other accounts may use it" in served.log


def test_a_flood_of_connections(served: NodeService, directory: Path) -> None:
    """Those beyond the bound are closed at once, so that a client goes on without the service. Silent ones are closed
    after a while, and then it serves again."""
    with ExitStack() as stack:
        flood = [stack.enter_context(connected(served.socket)) for _ in range(service._MOST_CALLERS + 100)]
        with files_of(directory) as files:
            message = "\0".join(fields_of(directory)).encode()
            assert answer_to(served.socket, message, *files) == b""
        wait_until(lambda: flood[0].recv(1) == b"", "the service to close a silent connection")
    still_serves(served, directory)


def test_clients_that_come_and_go(served: NodeService, directory: Path) -> None:
    """The service closes all descriptors that they have handed over."""
    folder = Path(f"/proc/{served.pid}/fd")
    still_serves(served, directory)
    before = len(list(folder.iterdir()))
    for _ in range(200):
        still_serves(served, directory)
    wait_until(lambda: len(list(folder.iterdir())) <= before, "the service to close what is gone")


@as_root
class TestAnotherAccount:
    def test_it_cannot_reach_the_socket(self, served: NodeService) -> None:
        assert "PermissionError" in _as_nobody(served.socket)

    def test_it_is_refused_also_where_it_reaches_the_socket(self, served: NodeService, directory: Path) -> None:
        """As when an administrator has opened the folder."""
        Path(served.socket).parent.chmod(0o755)
        Path(served.socket).chmod(0o777)
        assert _as_nobody(served.socket) == "b''"
        assert "ready" in served.log

    def test_a_client_speaks_to_no_service_of_another_account(self, directory: Path, tmp_path: Path) -> None:
        """It becomes the program, and the other service gets nothing."""
        theirs = tmp_path / "theirs"
        theirs.mkdir(mode=0o700)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(theirs / "socket"))
            listener.listen()
            os.chown(theirs, NOBODY, NOBODY)
            assert "not this account's alone" in _client(str(theirs / "socket"), directory)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(100) == b""

    def test_a_service_does_not_start_in_a_folder_of_another_account(self, directory: Path, tmp_path: Path) -> None:
        theirs = tmp_path / "theirs"
        for uid, mode in ((NOBODY, 0o700), (os.geteuid(), 0o777)):
            theirs.mkdir()
            os.chown(theirs, uid, -1)
            theirs.chmod(mode)
            words = [sys.executable, "-I", "-m", "compute_to_data.engines.slurm.service", str(directory)]
            done = subprocess.run(
                [*words, "--socket", str(theirs / "socket")], capture_output=True, text=True, timeout=PATIENCE
            )
            assert done.returncode == 1
            assert "other accounts may use it" in done.stderr
            assert list(theirs.iterdir()) == []
            theirs.rmdir()


def _as_nobody(address: str) -> str:
    """What another account gets from a service."""

    def say() -> str:
        try:
            with connected(address) as connection:
                return repr(connection.recv(16))
        except OSError as error:
            return repr(error)

    return said_by_nobody(say)


def _client(address: str, directory: Path) -> str:
    """What a client says in its log, before it becomes a program that does nothing."""
    words = [sys.executable, "-I", "-S", client.__file__, address, "/bin/echo", str(directory / "jobs" / "job"), NONCE]
    environment = {"SLURM_JOB_ID": NUMBER, "SLURMD_NODENAME": NODE}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert NONCE in done.stdout, "it has become the program"
    return done.stdout


def test_a_client_whose_service_is_gone(directory: Path, tmp_path: Path) -> None:
    assert "No such file or directory" in _client(str(tmp_path / "socket"), directory)
