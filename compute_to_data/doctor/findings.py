"""What a check receives (an installation) and returns (a finding)."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from compute_to_data.configuration import Configuration
from compute_to_data.ports.zone import Storage

LONGEST_SECONDS = 60.0
"""How long a program of a check may run."""


class Verdict(str, Enum):
    """The result of checking a link."""

    OK = "ok"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """The finding about one link: what the check saw and, for a problem, how to repair it."""

    link: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def ok(link: str, seen: str) -> Finding:
    """The link works."""
    return Finding(link, Verdict.OK, seen)


def problem(link: str, seen: str, remedy: str) -> Finding:
    """The link is broken."""
    return Finding(link, Verdict.PROBLEM, seen, remedy)


def skipped(link: str, why: str) -> Finding:
    """The link does not apply here, or this process cannot check it."""
    return Finding(link, Verdict.SKIPPED, why)


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
