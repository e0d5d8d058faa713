"""A worker in a process of its own, as its host would run it: by the service's account.

That account owns the folder of the configuration file. The server must be able to read what tasks
leave in its vaults, so a worker of a real zone is never root's; in a folder of one's own it is one's own.
A worker of another account runs with ``C2D_TEST_IRODS_PYTHON``, a Python that the account may run, with
what a worker needs; by default the one that runs the tests. It gets at the engine, nobody else does.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import compute_to_data
from compute_to_data.configuration import Configuration
from compute_to_data.coordination import heartbeat
from compute_to_data.model import Entity, EntityKind
from compute_to_data.ports.zone import Catalog
from support import outside
from support.site import PATIENCE, until

PYTHON = "C2D_TEST_IRODS_PYTHON"
SOURCES = Path(compute_to_data.__file__).parents[1]
_DOCKER = "/var/run/docker.sock"


class ServiceWorker:
    """One that has been started, and what it says.

    ``command``: another one that starts it, and chooses the account and the environment by itself.
    """

    STOP = signal.SIGTERM

    def __init__(self, configuration: Configuration, resource: str, log: Path, command: Sequence[str] = ()) -> None:
        self._log = log
        account: dict[str, Any] = {}
        if not command:
            command, account = _command(configuration, resource)
        with log.open("ab") as written:
            self._process = outside.start(command, written, cwd="/", **account)

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def ended(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.poll()

    @property
    def most_memory(self) -> int:
        """The most memory that its process ever had, in bytes."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text())
        assert found, "it has ended"
        return int(found[1]) * 1024

    @property
    def processor_seconds(self) -> float:
        """How long its process has used a processor."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self, number: int = STOP) -> int:
        """Send it a signal, and wait for its end; its exit status."""
        self._process.send_signal(number)
        return self._process.wait(PATIENCE)


@contextlib.contextmanager
def working(catalog: Catalog, configuration: Configuration, resource: str, log: Path) -> Iterator[ServiceWorker]:
    """A resource is served while inside, by a worker that ends well when it is told to stop.

    ``catalog``: an administrator's session.
    """
    with serving(ServiceWorker(configuration, resource, log), catalog, configuration, resource) as worker:
        yield worker


@contextlib.contextmanager
def serving(
    worker: ServiceWorker, catalog: Catalog, configuration: Configuration, resource: str
) -> Iterator[ServiceWorker]:
    """The same of a worker that has just been started."""
    try:
        until(lambda: worker.ended is not None or _is_served(catalog, configuration, resource), f"a worker: {resource}")
        assert worker.ended is None, worker.said
        yield worker
    finally:
        ended = worker.end() if worker.ended is None else worker.ended
    assert ended == 0, worker.said


def _is_served(catalog: Catalog, configuration: Configuration, resource: str) -> bool:
    """It shows its sign of life, and then what it accepts."""
    if not heartbeat.heartbeats(catalog, configuration, resource):
        return False
    offer = configuration.attributes.named("offer")
    return any(avu.attribute == offer for avu in catalog.avus(Entity(EntityKind.RESOURCE, resource)))


def _command(configuration: Configuration, resource: str) -> tuple[list[str], dict[str, Any]]:
    """What runs a worker, and the environment to start it with."""
    become, python, home = _account(configuration)
    command = [python, "-m", "compute_to_data.worker", "--configuration", configuration.source, "--resource", resource]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES), "PYTHONDONTWRITEBYTECODE": "1"}
    return [*become, *command], {"env": {**environment, "HOME": home}}


def _account(configuration: Configuration) -> tuple[list[str], str, str]:
    """What becomes the account that runs the worker, with the capabilities that compute-to-data-worker gives it; the
    Python of the account, and its home."""
    owner = Path(configuration.source).parent.stat()
    home = pwd.getpwuid(owner.st_uid).pw_dir
    if os.geteuid() != 0 or owner.st_uid == 0:
        return [], sys.executable, home
    socket = str(configuration.engine.settings.get("socket", _DOCKER))
    has_socket = configuration.engine.name == "docker" and os.path.exists(socket)
    groups = f"--groups={os.stat(socket).st_gid}" if has_socket else "--clear-groups"
    capabilities = [f"--{kind}=-all,+setuid,+setgid" for kind in ("inh-caps", "ambient-caps")]
    become = ["setpriv", f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", groups, *capabilities, "--no-new-privs"]
    return become, os.environ.get(PYTHON) or sys.executable, home
