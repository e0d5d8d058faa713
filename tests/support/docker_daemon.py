"""A Docker daemon of a test's own, which may be killed: the machine's never is."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from docker import APIClient
from docker.errors import APIError, DockerException

from compute_to_data.engines.docker.connection import connect
from support.site import wait_until

BASE_IMAGE = "compute-to-data/base:bookworm"


class OwnDaemon:
    """``dockerd`` with its own data, containerd and socket, without any network.

    ``live_restore``: whether containers outlive it. Needs root, as the machine's own does.
    """

    def __init__(self, folder: Path, *, live_restore: bool) -> None:
        self.folder = folder
        self.live_restore = live_restore
        self.socket = str(folder / "docker.sock")
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace = f"c2d-{secrets.token_hex(8)}"  # containerd takes no name like the folder's may be: `a_-b`

    def start(self) -> None:
        """Returns when it answers."""
        # In a network namespace of its own: `--bridge=none` deletes the bridge of the machine's daemon.
        command = ["unshare", "--net", "--", "dockerd"]
        command += ["--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")]
        command += ["--pidfile", str(self.folder / "pid"), "--host", f"unix://{self.socket}"]
        command += ["--bridge=none", "--iptables=false", "--ip6tables=false"]
        # Should the machine have a containerd for all, ours is kept apart from the others' containers.
        command += [f"--containerd-namespace={self._namespace}", f"--containerd-plugins-namespace={self._namespace}-p"]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, f"--live-restore={str(self.live_restore).lower()}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, f"the daemon of {self.folder}")

    def _answers(self) -> bool:
        assert self._process is not None
        log = (self.folder / "log").read_text(errors="replace")[-2000:]
        assert self._process.poll() is None, f"dockerd ended: {log}"
        with contextlib.suppress(OSError, DockerException):
            client = connect(f"unix://{self.socket}", 60)
            try:
                return bool(client.ping())
            finally:
                client.close()
        return False

    def kill(self) -> None:
        """With -9, as a host short of memory does; its containerd goes with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        (self.folder / "pid").unlink(missing_ok=True)
        file = self.folder / "exec" / "containerd" / "containerd.pid"
        with contextlib.suppress(FileNotFoundError, ValueError):
            number = int(file.read_text())
            wait_until(lambda: _is_gone(number), "its containerd to go")
            file.unlink()

    @contextlib.contextmanager
    def client(self) -> Iterator[APIClient]:
        """Asks it, while it runs."""
        client = connect(f"unix://{self.socket}", 60)
        try:
            yield client
        finally:
            client.close()

    def running(self) -> list[dict[str, str]]:
        """The labels of the containers that run, each with the container's ``Id``."""
        with self.client() as client:
            return [{**one["Labels"], "Id": one["Id"]} for one in client.containers()]

    def close(self) -> None:
        """Whatever the test left goes: containers, processes, mounts, files."""
        try:
            self._end()
        finally:
            for number in _processes_naming(str(self.folder)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            for place in _mounts_below(str(self.folder)):
                subprocess.run(["umount", "--lazy", place], check=False)
            shutil.rmtree(self.folder)

    def _end(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        with self.client() as client:
            for one in client.containers(all=True):
                with contextlib.suppress(APIError):
                    client.remove_container(one["Id"], force=True)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)
        self._process.kill()
        self._process.wait()


def _is_gone(number: int) -> bool:
    """A zombie is: nobody reaps where there is no init system."""
    try:
        return "State:\tZ" in Path(f"/proc/{number}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def _processes_naming(folder: str) -> Iterator[int]:
    """Shims of containers that the daemon did not get to end; the folder's name is this test's own."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{folder}/" in (entry / "cmdline").read_bytes().decode(errors="replace"):
                yield int(entry.name)


def _mounts_below(folder: str) -> list[str]:
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((place for place in places if place.startswith(f"{folder}/")), reverse=True)


@contextlib.contextmanager
def own_daemon(*, live_restore: bool) -> Iterator[OwnDaemon]:
    """One that runs and holds the base image."""
    # Not pytest's folder: its path would be too long for the sockets below it.
    daemon = OwnDaemon(Path(tempfile.mkdtemp(prefix="c2d-docker-", dir="/tmp")), live_restore=live_restore)
    daemon.folder.chmod(0o711)  # whoever may use the socket must get to it
    try:
        daemon.start()
        load = ["docker", "--host", f"unix://{daemon.socket}", "load", "--quiet"]
        with subprocess.Popen(["docker", "save", BASE_IMAGE], stdout=subprocess.PIPE) as save:
            subprocess.run(load, stdin=save.stdout, stdout=subprocess.DEVNULL, check=True, timeout=120)
        assert save.returncode == 0
        yield daemon
    finally:
        daemon.close()
