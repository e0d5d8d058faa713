"""The user ids of jobs: a range of subordinate ids of the service account, so that no job shares its own.

``useradd`` gives such a range to people but not to system accounts, so we add one. A range that the account has
already stays as it is. ``usermod`` takes no range from an account that has processes, as iRODS's has. So we edit
the files ourselves, with the lock of ``usermod`` and its neighbours (shadow, lib/commonio.c).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from installer.layout import InstallError, Layout, replace_file
from installer.manifest import Manifest

FILES = ("/etc/subuid", "/etc/subgid")
COUNT = 65536
FIRST, LAST = 100_000, 600_100_000
"""The ids from which ``useradd`` takes ranges, by default, on Debian and Red Hat."""
LOCK_SECONDS = 10.0


def missing(layout: Layout) -> list[str]:
    """The files that have no range for the service account. Empty when the account itself does not exist."""
    ids = layout.account_ids()
    if ids is None:
        return []
    owners = (layout.account, str(ids[0]))
    return [path for path in FILES if not any(owner in owners for owner, _, _ in _ranges(layout, path))]


def free_range(layout: Layout) -> tuple[int, int]:
    """The first and last id of a range that no account has, as a user or as subordinate ids."""
    taken = [(first, first + count) for path in FILES for _, first, count in _ranges(layout, path)]
    taken += [(uid, uid + 1) for uid in _uids(layout)]
    first = FIRST
    while first + COUNT <= LAST:
        later = [end for start, end in taken if start < first + COUNT and first < end]
        if not later:
            return first, first + COUNT - 1
        first = max(later)
    raise InstallError(
        f"{FILES[0]} leaves no {COUNT} ids free between {FIRST} and {LAST}. Give {layout.account} a range"
    )


def add(layout: Layout, record: Manifest, ids: tuple[int, int], files: list[str]) -> None:
    """Give the service account a range in these files."""
    for path in files:
        record.subordinate_ids[path] = f"{ids[0]}-{ids[1]}"
        record.save(layout)
        line = _line(layout, record.subordinate_ids[path])
        _edit(layout.on_disk(path), lambda lines, line=line: [*lines, line])  # type: ignore[misc]


def ours(layout: Layout, record: Manifest) -> dict[str, str]:
    """The ranges that we added and that are still there, by file."""
    ranges = record.subordinate_ids.items()
    return {path: ids for path, ids in ranges if _line(layout, ids) in _lines(layout.on_disk(path))}


def remove(layout: Layout, record: Manifest) -> None:
    """Take back the ranges that we added."""
    for path, ids in ours(layout, record).items():
        line = _line(layout, ids)
        _edit(layout.on_disk(path), lambda lines, line=line: [one for one in lines if one != line])  # type: ignore[misc]
    record.subordinate_ids = {}


def _line(layout: Layout, ids: str) -> str:
    return f"{layout.account}:{ids.partition('-')[0]}:{COUNT}"


def _edit(place: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the lines of such a file, with its owner and mode, and nothing of it while another program does."""
    place = place.resolve()
    with _locked(place):
        status = place.stat() if place.exists() else None
        mode, owner = (status.st_mode & 0o777, (status.st_uid, status.st_gid)) if status else (0o644, None)
        text = "".join(f"{line}\n" for line in change(_lines(place)))
        replace_file(place, text.encode("utf-8", "surrogateescape"), mode, owner, durable=True)


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    own, lock = place.with_name(f"{place.name}.{os.getpid()}"), place.with_name(f"{place.name}.lock")
    own.write_bytes(b"%d\0" % os.getpid())
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        while not _linked(own, lock):
            if time.monotonic() > deadline:
                raise InstallError(f"{lock} says that another program is changing {place}. Try again when it has ended")
            time.sleep(0.1)
    finally:
        own.unlink()
    try:
        yield
    finally:
        lock.unlink()


def _linked(own: Path, lock: Path) -> bool:
    """Whether the lock is ours now. A lock of a process that no longer runs is removed."""
    with contextlib.suppress(FileExistsError):
        os.link(own, lock)
        return True
    with contextlib.suppress(OSError, ValueError):
        holder = int(lock.read_bytes().rstrip(b"\0\n"))
        try:
            os.kill(holder, 0)
        except ProcessLookupError:
            lock.unlink()
    return False


def _lines(place: Path) -> list[str]:
    return place.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if place.exists() else []


def _ranges(layout: Layout, path: str) -> Iterator[tuple[str, int, int]]:
    """Each line of such a file: owner (a name or a uid), first id, count. Lines of another form are not ranges."""
    for line in _lines(layout.on_disk(path)):
        owner, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if owner and first.isdigit() and count.isdigit():
            yield owner, int(first), int(count)


def _uids(layout: Layout) -> Iterator[int]:
    if layout.is_live:
        yield from (one.pw_uid for one in pwd.getpwall())
        return
    place = layout.on_disk("/etc/passwd")
    for line in place.read_text(encoding="utf-8").splitlines() if place.exists() else []:
        fields = line.split(":")
        if len(fields) > 2 and fields[2].isdigit():
            yield int(fields[2])
