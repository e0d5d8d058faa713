"""Lets a job's uid read files that it does not own, by an entry in their POSIX access lists, and takes that back.

Files in a vault belong to the service account, usually with mode 0600. An entry lets one uid read them and changes
nothing for others. Only the owner of a file, or root, can make one; the kernel has had them for long, on ext4, XFS and
tmpfs. Mapped mounts would need no change to the file, but also a newer kernel and the rights to mount.

The format is that of the attribute ``system.posix_acl_access`` (linux/posix_acl_xattr.h), see also acl(5).
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
from collections.abc import Callable, Iterator

from compute_to_data.errors import EngineError

_ATTRIBUTE = "system.posix_acl_access"
_HEADER, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_VERSION = 2
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF
_READ, _ENTER = 4, 1
_Entries = dict[tuple[int, int], int]
"""Permissions by kind and id."""

_turn = threading.Lock()
"""Two jobs of a worker may begin to read the same file at the same time."""


def allow(path: str, uid: int) -> None:
    """Let ``uid`` read a file, or a directory with all that it holds. EngineError when this is not possible."""
    for place, mode in _below(path):
        needed = _READ | (_ENTER if stat.S_ISDIR(mode) else 0)
        if mode & needed == needed:
            continue  # everybody may
        try:
            _change(place, mode, lambda entries, needed=needed: _with(entries, uid, needed))  # type: ignore[misc]
        except OSError as error:
            raise _refused(place, uid, error) from error


def withdraw(path: str, uid: int) -> None:
    """Undo :func:`allow`, as far as the files are still there. OSError when that fails."""
    for place, mode in _below(path):
        try:
            _change(place, mode, lambda entries: _without(entries, uid))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise


def _below(path: str) -> Iterator[tuple[str, int]]:
    """A file, or a directory and all regular files and directories below it, with their modes. Only the worker's
    account can change these trees."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        yield path, mode
    if stat.S_ISDIR(mode):
        with os.scandir(path) as found:
            names = [entry.name for entry in found]
        for name in names:
            yield from _below(os.path.join(path, name))


def _change(path: str, mode: int, change: Callable[[_Entries], _Entries]) -> None:
    with _turn:
        before = _entries(path, mode)
        after = change(dict(before))
        if after != before:
            content = b"".join(_ENTRY.pack(kind, bits, one) for (kind, one), bits in sorted(after.items()))
            os.setxattr(path, _ATTRIBUTE, _HEADER.pack(_VERSION) + content, follow_symlinks=False)


def _entries(path: str, mode: int) -> _Entries:
    try:
        content = os.getxattr(path, _ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return {(_OWNER, _NO_ID): mode >> 6 & 7, (_OWNING_GROUP, _NO_ID): mode >> 3 & 7, (_OTHERS, _NO_ID): mode & 7}
    return {(kind, one): bits for kind, bits, one in _ENTRY.iter_unpack(content[_HEADER.size :])}


def _with(entries: _Entries, uid: int, needed: int) -> _Entries:
    """The entries with one for ``uid``. What the mask takes from the others, they lose for good, so that a wider mask
    gives them nothing."""
    masked = [key for key in entries if key[0] in (_USER, _OWNING_GROUP, _GROUP)]
    mask = entries.get((_MASK, _NO_ID), 7)
    entries.update({key: entries[key] & mask for key in masked})
    entries[_USER, uid] = needed
    entries[_MASK, _NO_ID] = needed | _union(entries)
    return entries


def _without(entries: _Entries, uid: int) -> _Entries:
    if entries.pop((_USER, uid), None) is None:
        return entries
    if any(kind in (_USER, _GROUP) for kind, _ in entries):
        entries[_MASK, _NO_ID] = _union(entries)
    else:
        del entries[_MASK, _NO_ID]  # the kernel then keeps no list any more, only a mode
    return entries


def _union(entries: _Entries) -> int:
    union = 0
    for (kind, _), bits in entries.items():
        union |= bits if kind in (_USER, _OWNING_GROUP, _GROUP) else 0
    return union


def _refused(path: str, uid: int, error: OSError) -> EngineError:
    if error.errno == errno.EOPNOTSUPP:
        remedy = 'Put it on a file system with POSIX access lists (ext4, XFS), or set "job_uids": null'
    else:
        remedy = "Make the worker's account its owner, or let everybody read it"
    return EngineError(f"input {path}", f"the worker cannot let uid {uid} read it ({error.strerror})", remedy)
