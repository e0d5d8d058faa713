"""The helpers with capabilities listen at sockets. They answer nobody but the workers' own account, and no request ends
them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.nobody import said_by_nobody
from support.site import wait_until

from compute_to_data.engines import guard

LISTENING = """
import sys
from compute_to_data.engines import guard, quota_guard
from compute_to_data.engines.job_ids import JobIds
guard.listen(sys.argv[1], lambda channel: quota_guard.serve(channel, JobIds(300000, 300000, 100)))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the helper listens, in a folder that every account may enter, as if its own protection were lost."""
    folder = Path(tempfile.mkdtemp(prefix="c2d-helper-"))
    folder.chmod(0o755)
    found = folder / "socket"
    process = subprocess.Popen([sys.executable, "-c", LISTENING, str(found)], stderr=subprocess.DEVNULL)
    try:
        wait_until(found.exists, "the helper to listen")
        assert stat.S_IMODE(found.stat().st_mode) == 0o600
        yield found
        assert process.poll() is None, "the helper has ended"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def asked(place: Path, request: bytes, *, descriptor: bool = True) -> bytes:
    """What the helper answers; b"" when it hangs up."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(60)
        channel.connect(str(place))
        opened = os.open("/", os.O_RDONLY)
        try:
            socket.send_fds(channel, [request], [opened] if descriptor else [])
            return channel.recv(guard.MOST_BYTES)
        except (BrokenPipeError, ConnectionResetError):
            return b""
        finally:
            os.close(opened)


def asked_by_nobody(place: Path, request: bytes) -> str:
    """The same from a process of another account."""

    def say() -> str:
        try:
            return f"answered: {asked(place, request)!r}"
        except OSError as error:
            return f"refused: {error.strerror}"

    return said_by_nobody(say)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another account")
CHECK = json.dumps(["check"]).encode()


@needs_root
def test_another_account_gets_no_answer(place: Path) -> None:
    assert asked(place, CHECK) != b"", "its own account gets one"
    assert asked_by_nobody(place, CHECK) == "refused: Permission denied"
    place.chmod(0o666)
    assert asked_by_nobody(place, CHECK) == "answered: b''"
    assert asked(place, CHECK) != b""


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'["hold"]',
        b'["hold", "300001", 1, 1]',
        b'["hold", 300001.5, 1, 1]',
        b'["hold", 0, 1, 1]',
        b'["hold", -1, 1, 1]',
        b'["hold", 300001, -1, 1]',
        b'["hold", 300001, 18446744073709551616, 1]',
        b'["release", 1, 2, 3]',
        b"[" * 4000,
        b"\xff\xfe",
    ],
)
def test_no_request_ends_the_helper(place: Path, request_: bytes) -> None:
    """Each connection has a process of its own. The root directory is never given to a project."""
    answer = asked(place, request_) if request_ else b""
    assert not answer or json.loads(answer) != "", answer
    asked(place, CHECK, descriptor=False)
    assert asked(place, CHECK) != b"", "the next worker is served"
