"""What a check receives: the installation, whose workers' account it can act as."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from compute_to_data.configuration import Configuration
from compute_to_data.ports.zone import Storage

LONGEST_SECONDS = 60.0
"""How long a program of a check may run."""
_WRITE = """
import os, sys
try:
    place = os.path.join(sys.argv[1], ".compute_to_data_probe_%d" % os.getpid())
    os.mkdir(place, 0o700)
    os.rmdir(place)
except OSError as error:
    print(error.strerror)
"""
_READ = """
import sys
try:
    open(sys.argv[1], "rb").read(1)
except OSError as error:
    print(error.strerror)
"""


@dataclass(frozen=True)
class Account:
    """An account of this host, with its groups."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def named(cls, name: str, *more_groups: int) -> Account:
        """The account with this name. KeyError when the host has none."""
        found = pwd.getpwnam(name)
        groups = {*os.getgrouplist(name, found.pw_gid), *more_groups}
        return cls(name, found.pw_uid, found.pw_gid, tuple(sorted(groups)))

    @classmethod
    def current(cls) -> Account:
        """The account of this process."""
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        return cls(name, uid, os.getegid(), tuple(sorted({*os.getgroups(), os.getegid()})))

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Let this process, if it is root and has no other threads, act as the account meanwhile."""
        before = os.geteuid(), os.getegid()
        if before[0] != 0:
            yield
            return
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(before[0])
            os.setegid(before[1])

    @property
    def is_usable(self) -> bool:
        """Whether this process can run programs as this account."""
        return os.geteuid() in (0, self.uid)

    def may(self, for_others: int, status: os.stat_result) -> bool:
        """Whether a file's mode gives the account a permission. ``for_others`` is the permission as a bit for
        others; the bits of owner and group follow from it."""
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            return bool(status.st_mode & for_others << 6)
        if status.st_gid in {self.gid, *self.groups}:
            return bool(status.st_mode & for_others << 3)
        return bool(status.st_mode & for_others)


@dataclass(frozen=True)
class Server:
    """Where things are on this server. ``python`` is the interpreter of iRODS agents."""

    irods_configuration: str = "/etc/irods"
    prefix: str = "/opt/compute-to-data"
    python: str = "/usr/bin/python3"


@dataclass(frozen=True)
class Installation:
    """What the checks look at. ``account`` is the workers' account; ``storage`` is None when the zone
    cannot be reached."""

    server: Server
    configuration: Configuration
    account: Account
    storage: Storage | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the zone is embedded, so that it has no iRODS server."""
        return self.configuration.zone.kind == "embedded"


def run_as(account: Account, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program as an account (see ``is_usable``), with a minimal environment. Files that the
    account can change must never run as root. A program that does not end is killed, and has failed."""
    change = {}
    if os.geteuid() != account.uid:
        change = {"user": account.uid, "group": account.gid, "extra_groups": list(account.groups)}
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            cwd="/",
            env=environment,
            timeout=LONGEST_SECONDS,
            **change,
        )
    except subprocess.TimeoutExpired:
        said = f"it did not end within {LONGEST_SECONDS:g} s"
        return subprocess.CompletedProcess(command, -signal.SIGKILL, "", said)


def python_as(installation: Installation, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program as the workers' account, with the agents' interpreter when there is one,
    else with ours."""
    python = installation.server.python if os.access(installation.server.python, os.X_OK) else sys.executable
    return run_as(installation.account, [python, "-I", "-B", "-c", program, *arguments])


def write_refusal(installation: Installation, directory: str) -> str:
    """Why the workers' account cannot write into a directory; '' when it can."""
    return _refusal(installation, _WRITE, directory)


def read_refusal(installation: Installation, file: str) -> str:
    """Why the workers' account cannot read a file; '' when it can."""
    return _refusal(installation, _READ, file)


def _refusal(installation: Installation, program: str, path: str) -> str:
    """Why the workers' account cannot do with a path what the program tries; '' when it can."""
    done = python_as(installation, program, path)
    return done.stdout.strip() or (done.stderr.strip()[-200:] if done.returncode else "")
