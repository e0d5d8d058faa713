"""What a check returns, and what it may look at."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from compute_to_data.configuration import Configuration
from compute_to_data.ports import Storage


class Verdict(str, Enum):
    """How a link is."""

    OK = "ok"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """One link: what was seen, and for a problem what to do."""

    link: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def ok(link: str, seen: str) -> Finding:
    """The link holds."""
    return Finding(link, Verdict.OK, seen)


def problem(link: str, seen: str, remedy: str) -> Finding:
    """The link is broken."""
    return Finding(link, Verdict.PROBLEM, seen, remedy)


def skipped(link: str, why: str) -> Finding:
    """The link is not there, or cannot be seen from here."""
    return Finding(link, Verdict.SKIPPED, why)


@dataclass(frozen=True)
class Account:
    """Who does something: the service account, or whoever runs us."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    @classmethod
    def named(cls, name: str, *more_groups: int) -> Account:
        """From the system's accounts. KeyError when there is none."""
        found = pwd.getpwnam(name)
        groups = {*os.getgrouplist(name, found.pw_gid), *more_groups}
        return cls(name, found.pw_uid, found.pw_gid, tuple(sorted(groups)))

    @classmethod
    def current(cls) -> Account:
        """Whoever runs us."""
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        return cls(name, uid, os.getegid(), tuple(sorted({*os.getgroups(), os.getegid()})))

    @property
    def can_be_us(self) -> bool:
        """Whether we are it, or can become it."""
        return os.geteuid() in (0, self.uid)


@dataclass(frozen=True)
class Server:
    """Where things are on this server; ``python`` is the agent's."""

    irods_configuration: str = "/etc/irods"
    prefix: str = "/opt/compute-to-data"
    python: str = "/usr/bin/python3"


@dataclass(frozen=True)
class Patient:
    """What is examined. ``storage`` is None when the zone cannot be reached."""

    server: Server
    configuration: Configuration
    account: Account
    storage: Storage | None = None

    @property
    def is_embedded(self) -> bool:
        """No iRODS server belongs to it."""
        return self.configuration.zone.kind == "embedded"


def run_as(account: Account, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """A program run as an account that we are or can become (``can_be_us``), with little of our
    environment: what lies in the account's hands never runs as root."""
    change = {}
    if os.geteuid() != account.uid:
        change = {"user": account.uid, "group": account.gid, "extra_groups": list(account.groups)}
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        command, capture_output=True, text=True, check=False, cwd="/", env=environment, timeout=60, **change
    )


def python_as(patient: Patient, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python program run as the service account by the agent's interpreter (or ours)."""
    python = patient.server.python if os.access(patient.server.python, os.X_OK) else sys.executable
    return run_as(patient.account, [python, "-I", "-B", "-c", program, *arguments])
