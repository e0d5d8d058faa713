"""The user ids of jobs: a range from which each running job gets a uid and a gid of its own.

The kernel counts much for each uid: inotify instances, pending signals and timers, pages of pipes, descriptors on
their way through sockets. With ids of their own, jobs use up neither each other's share nor that of the worker's
account, under which the iRODS server runs.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from compute_to_data.errors import ConfigurationError, EngineError

Account = tuple[int, int]
"""A uid and a gid."""

FILES = ("/etc/subuid", "/etc/subgid")
LEAST = 65_536
"""The ids below are those of the host's accounts; the last two of them mean that there is no account."""
_LIMIT = 1 << 31
_OF_ROOT = 1_879_048_192
"""Where the range of a worker of root begins, who needs no subordinate ids. No other program takes ids from there:
https://systemd.io/UIDS-GIDS/"""
_COUNT = 65_536
_TEXT = re.compile(r"([0-9]{1,10})-([0-9]{1,10})")
_SUBJECT = "the user ids of jobs"
_REMEDY = (
    "Run packaging/install install, or: usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST {account}. Or set "
    '"job_uids": null, and jobs share one account, and can use up what the kernel grants to it'
)


@dataclass(frozen=True)
class JobIds:
    """``count`` uids and as many gids."""

    first_uid: int
    first_gid: int
    count: int

    def account(self, number: int) -> Account:
        """The ids with a number from 0 on."""
        return self.first_uid + number, self.first_gid + number

    def has(self, uid: int) -> bool:
        """Whether a uid is one of these."""
        return self.first_uid <= uid < self.first_uid + self.count


def read(text: str) -> JobIds:
    """The range in the configuration: ``FIRST-LAST``, for uids and gids. ConfigurationError for any other text."""
    pointer = "/engine/settings/job_uids"
    found = _TEXT.fullmatch(text)
    if not found:
        raise ConfigurationError(pointer, f"{text!r} is not a range of ids", "write it like 165536-231071, or null")
    first, last = int(found[1]), int(found[2])
    if not LEAST <= first <= last < _LIMIT:
        raise ConfigurationError(
            pointer,
            f"{text} is not a range between {LEAST} and {_LIMIT - 1}",
            "take ids that no account of this host has",
        )
    return JobIds(first, first, last - first + 1)


def of_this_account(folder: str = "/etc") -> JobIds:
    """The subordinate ids of this process's account, in /etc/subuid and /etc/subgid; for root, a range that nothing
    else uses. EngineError when the account has none."""
    uid = os.geteuid()
    if uid == 0:
        return JobIds(_OF_ROOT, _OF_ROOT, _COUNT)
    name = _name(uid)
    uids, gids = (_largest(os.path.join(folder, os.path.basename(file)), name, uid) for file in FILES)
    for file, (_, count) in zip(FILES, (uids, gids)):
        if not count:
            raise EngineError(_SUBJECT, f"{file} has no range for {name}", _REMEDY.format(account=name))
    return JobIds(uids[0], gids[0], min(uids[1], gids[1]))


def of_setting(setting: str | None) -> JobIds | None:
    """The ids of jobs by the setting ``job_uids`` ('' for none); None when jobs share an account.

    ConfigurationError for a wrong setting. EngineError when the worker's account has no ids.
    """
    if setting is None:
        return None
    return read(setting) if setting else of_this_account()


def ranges(file: str, name: str, uid: int) -> Iterator[tuple[int, int]]:
    """The subordinate ids in a file that belong to an account, named by its name or uid: first id and count."""
    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner in (name, str(uid)) and first.isdigit() and count.isdigit():
            yield int(first), int(count)


def _largest(file: str, name: str, uid: int) -> tuple[int, int]:
    """The largest of an account's ranges, without ids that accounts of the host can have."""
    found = [(0, 0)]
    for first, count in ranges(file, name, uid):
        least = max(first, LEAST)
        found.append((least, max(0, min(first + count, _LIMIT) - least)))
    return max(found, key=lambda one: one[1])


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
