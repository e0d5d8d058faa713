"""The other server of a zone of two: a consumer with resources, rules and workers of its own, for tests.

``make test-zone`` starts such a zone. The tests' machine is the catalog provider's host, and both have the same
folders. ``C2D_TEST_IRODS_CONSUMER`` is the consumer's host name, and the variables that begin like it name an
administrator's and the service account's environment there, its ``core.py``, what runs a command there as the service
account (``EXEC``), and shell commands: that freeze the host and bring it back (``LOSE``, ``FIND``), and that stop and
start its server (``STOP``, ``START``).
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from compute_to_data import site_file
from compute_to_data.configuration import Configuration
from compute_to_data.model import User
from compute_to_data.zones.irods import accounts
from compute_to_data.zones.irods.connections import Connections
from compute_to_data.zones.irods.session import IrodsSession
from support.irods_site import RealSite, zone_section
from support.service_worker import PYTHON, SOURCES, ServiceWorker, serving
from support.site import PATIENCE

if TYPE_CHECKING:
    from contract.irods_zone import IrodsZoneUnderTest

HOST = "C2D_TEST_IRODS_CONSUMER"
ENVIRONMENT = f"{HOST}_ENVIRONMENT_FILE"
SERVICE = f"{HOST}_SERVICE_ENVIRONMENT_FILE"
CORE, EXEC = f"{HOST}_CORE", f"{HOST}_EXEC"
LOSE, FIND = f"{HOST}_LOSE", f"{HOST}_FIND"
STOP, START = f"{HOST}_STOP", f"{HOST}_START"
NO_SECOND = f"no real zone of two servers is configured (make test-zone; {HOST})"

_UNTIL_STDIN_ENDS = '"$@" & p=$!; read _; kill -TERM $p; wait $p'
"""A program in a container gets no signal from here, but it can notice that nobody is connected any more."""


class WorkerThere(ServiceWorker):
    """A worker in a process on the consumer."""

    def __init__(self, configuration: Configuration, resource: str, log: Path) -> None:
        worker = ["-m", "compute_to_data.worker", "--configuration", configuration.source, "--resource", resource]
        program = ["env", f"PYTHONPATH={SOURCES}", "PYTHONDONTWRITEBYTECODE=1", os.environ[PYTHON], *worker]
        command = [*shlex.split(os.environ[EXEC]), "sh", "-c", _UNTIL_STDIN_ENDS, "sh", *program]
        self._log = log
        with log.open("ab") as written:
            there = subprocess.Popen(command, cwd="/", stdin=subprocess.PIPE, stdout=written, stderr=written)
        assert there.stdin is not None
        self._process, self._stdin = there, there.stdin

    def end(self, number: int = ServiceWorker.STOP) -> int:
        """Tell it to stop, and wait for its end; its exit status."""
        assert number == self.STOP
        self._stdin.close()
        return self._process.wait(PATIENCE)


def configuration_there(site: RealSite) -> Configuration:
    """The site's configuration as on the consumer: another environment file, another state directory."""
    document = json.loads(Path(site.configuration.source).read_text())
    document["zone"] = zone_section(SERVICE)
    document["worker"] |= {"state_directory": str(site.zone.make_place("there"))}
    file = site.zone.make_place("consumer") / "compute_to_data.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return site_file.load(str(file))


@contextlib.contextmanager
def working_there(site: RealSite, resource: str) -> Iterator[ServiceWorker]:
    """A resource of the consumer is served from there while inside."""
    configuration = configuration_there(site)
    worker = WorkerThere(configuration, resource, site.place / f"{resource}.log")
    with serving(worker, site.zone.storage().catalog, configuration, resource):
        yield worker


def session_there(zone: IrodsZoneUnderTest, user: User) -> IrodsSession:
    """A user who is connected to the consumer; to be closed by the caller."""
    account = accounts.with_password(accounts.from_environment(os.environ[ENVIRONMENT]), user, zone.password(user))
    return IrodsSession(Connections(account, str(user)), user)
