"""What an image has at a path, read from the layers on the disk.

Podman answers such a question too, but starts a process for each, which takes a second on a busy host. The layers
belong to the account of the worker. https://docs.kernel.org/filesystems/overlayfs.html says how the kernel joins them.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_LINKS = 255
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
"""Marks a directory that hides those of the same name in the layers below."""
_MOVED = ("user.overlay.redirect", "trusted.overlay.redirect")
"""Marks a directory whose rest is elsewhere in the layers below."""
_LINK, _DIRECTORY = 1 << 27, 1 << 31  # https://pkg.go.dev/io/fs#FileMode


class Unclear(Exception):
    """The layers do not show it: this process may not read them, or they have a form that we do not know."""


class Layers:
    """The layers of a container's image. They never change."""

    def __init__(self, directories: Sequence[str]) -> None:
        """``directories``: of the layers, the uppermost first."""
        self._directories = directories

    @classmethod
    def of(cls, container: Mapping[str, Any]) -> Layers:
        """From Podman's inspection of a container. Unclear for storage that does not let the kernel join layers."""
        driver = container.get("GraphDriver") or {}
        lower = (driver.get("Data") or {}).get("LowerDir", "")
        if driver.get("Name") != "overlay" or not lower:
            raise Unclear(f"the storage driver {driver.get('Name')}")
        return cls(lower.split(":"))

    def at(self, path: str) -> dict[str, Any] | None:
        """As :meth:`~compute_to_data.engines.docker.client.Client.path_in`, for a path with no link above it.

        Unclear; OSError (ELOOP) for links without an end.
        """
        found = self._entry(path)
        if not found:
            return None
        mode = os.lstat(found[0]).st_mode
        if stat.S_ISLNK(mode):
            return {"mode": _LINK, "linkTarget": self._resolve(path)}
        return {"mode": _DIRECTORY if stat.S_ISDIR(mode) else 0, "linkTarget": path}

    def _entry(self, path: str) -> list[str]:
        """The places of what is at a path: one in each layer that has a part of a directory, else one; none when there
        is nothing. The directories above it are no links."""
        places = list(self._directories)
        for part in path.strip("/").split("/"):
            if part:
                places = _named(places, part)
        return places

    def _resolve(self, path: str) -> str:
        """The place to which a path leads, in the image. What does not exist leads to itself."""
        place, rest, links = "/", path.split("/")[::-1], 0
        while rest:
            part = rest.pop()
            if part in ("", "."):
                continue
            if part == "..":
                place = posixpath.dirname(place)
                continue
            below = posixpath.join(place, part)
            found = self._entry(below)
            if not found or not stat.S_ISLNK(os.lstat(found[0]).st_mode):
                place = below
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            target = os.readlink(found[0])
            rest += target.split("/")[::-1]
            place = "/" if target.startswith("/") else place
        return place


def _named(directories: Sequence[str], name: str) -> list[str]:
    """The places of an entry, in the parts of one directory from the uppermost layer on."""
    found: list[str] = []
    for directory in directories:
        place = f"{directory}/{name}"
        try:
            if not stat.S_ISDIR(os.lstat(directory).st_mode):
                return found
            status = os.lstat(place)
        except FileNotFoundError:
            if not os.path.isdir(directory):
                raise Unclear(directory) from None
            continue
        except OSError as error:
            raise Unclear(f"{place}: {error.strerror}") from error
        if not stat.S_ISDIR(status.st_mode):
            is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            return found or ([] if is_whiteout else [place])
        found.append(place)
        if _is_marked(place, _MOVED):
            raise Unclear(f"{place} was moved")
        if _is_marked(place, _OPAQUE):
            break
    return found


def _is_marked(directory: str, names: Sequence[str]) -> bool:
    for name in names:
        try:
            if os.getxattr(directory, name, follow_symlinks=False):
                return True
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
                raise Unclear(f"{directory}: {error.strerror}") from error
    return False
