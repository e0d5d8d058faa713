"""What cannot become an output, and why: in words, and as the failure of a task."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.irods_names import MAXIMUM_PATH_BYTES
from compute_to_data.plain_text import one_line

_LISTED = 20
"""How many entries a message names."""
_LISTED_CHARACTERS = 1200


@dataclass(frozen=True)
class Refusal:
    """An entry that cannot become an output: its printable name, and why."""

    name: str
    cause: str


def unreadable(error: OSError) -> str:
    """Why an entry that the worker cannot open is no output."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENOENT):
        return "changed while it was read"
    return f"cannot be read ({error.strerror})"


_KINDS = (
    (stat.S_ISLNK, "is a symbolic link"),
    (stat.S_ISFIFO, "is a FIFO"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


def wrong_kind(status: os.stat_result) -> str:
    """Why an entry that is no directory cannot become an output; '' when it can."""
    if stat.S_ISREG(status.st_mode):
        return ""
    return next((what for matches, what in _KINDS if matches(status.st_mode)), "is not a regular file")


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def wrong_name(name: str, relative: str, collection: str, reserved: frozenset[str]) -> str:
    """Why an entry's name cannot become an output's; '' when it can."""
    try:
        logical = len(collection.encode()) + 1 + len(relative.encode())
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    if _CONTROL.search(name):
        return "has a control character in its name"
    if name.startswith("-"):
        return "has a name that begins with '-', which commands would read as an option"
    if "++++" in name:
        return "has '++++' in its name, which separates keywords in iRODS calls"
    if logical > MAXIMUM_PATH_BYTES:
        return f"has a name too long for iRODS ({logical} bytes as a logical path)"
    return "has a name that is reserved for the task's own record" if name in reserved else ""


def shown_name(relative: str) -> str:
    """A path as one can print it, in at most about 120 characters."""
    shown = one_line(relative)
    return f"{shown[:80]}...{shown[-30:]}" if len(shown) > 120 else shown


def listed(refusals: Sequence[Refusal]) -> str:
    """The entries with the causes, up to a bound, and how many more there are."""
    words: list[str] = []
    for one in refusals[:_LISTED]:
        words.append(f"'{one.name}' {one.cause}")
        if sum(map(len, words)) > _LISTED_CHARACTERS:
            break
    more = len(refusals) - len(words)
    return "; ".join(words) + (f"; and {more} more" if more else "")


def refused(refusals: Sequence[Refusal]) -> TaskFailed:
    """The failure of a task whose outputs hold something that cannot become an output."""
    remedy = "Only regular files and directories become outputs, under names that iRODS can hold"
    if len(refusals) == 1:
        return TaskFailed(ReasonCode.OUTPUT_REFUSED, f"output '{refusals[0].name}'", refusals[0].cause, remedy)
    return TaskFailed(ReasonCode.OUTPUT_REFUSED, f"{len(refusals)} outputs", listed(refusals), remedy)


def over_bytes(limit: int) -> TaskFailed:
    """The failure of a task that wrote more bytes than it may."""
    remedy = "Write less, or ask for more in limits.output_bytes"
    return TaskFailed(ReasonCode.OUTPUT_LIMIT, "outputs", f"the task wrote more than its {limit} bytes", remedy)


def over_names(limit: int) -> TaskFailed:
    """The failure of a task whose outputs have names that are too long together."""
    cause = f"the names of the outputs, as paths below /outputs, have more than {limit} bytes together"
    remedy = "Use shorter names, or write fewer files, for example in an archive"
    return TaskFailed(ReasonCode.OUTPUT_LIMIT, "outputs", cause, remedy)


def over_files(limit: int) -> TaskFailed:
    """The failure of a task that wrote more files than it may."""
    remedy = "Write fewer, for example in an archive; an administrator can raise limits.output_files"
    return TaskFailed(ReasonCode.OUTPUT_LIMIT, "outputs", f"the task wrote more than its {limit} files", remedy)
