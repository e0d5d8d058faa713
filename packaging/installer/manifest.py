"""What was installed, with checksums: so that taking it away leaves no trace and takes nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from installer.layout import InstallError, Layout, replace_file


def checksum(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def checksum_of(path: Path) -> str:
    """Of a file's content, or of where a symbolic link points; '' when there is neither."""
    if path.is_symlink():
        return checksum(b"-> " + os.fsencode(os.readlink(path)))
    return checksum(path.read_bytes()) if path.is_file() else ""


@dataclass
class Manifest:
    """``files``: path to the checksums it may have (two while an upgrade is on its way).

    ``directories``: those we made. ``block``: checksums of our block in core.py. ``defaults``: path
    to the checksum of the default that a configuration file began with. ``core_written``: there was
    no core.py before. ``venv``: how the worker's environment was made. ``server_config``: the
    checksum of the file as we left it and the backup's name, when we were asked to edit it.
    """

    version: str = ""
    files: dict[str, list[str]] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    defaults: dict[str, str] = field(default_factory=dict)
    block: list[str] = field(default_factory=list)
    core_written: bool = False
    venv: dict[str, str] = field(default_factory=dict)
    server_config: dict[str, str] = field(default_factory=dict)

    def changed(self, layout: Layout, paths: Iterable[str] | None = None) -> list[str]:
        """Files that somebody has changed since; those that are gone are not among them."""
        found = []
        for path in sorted(self.files if paths is None else paths):
            now = checksum_of(layout.on_disk(path))
            if now and now not in self.files.get(path, ()):
                found.append(path)
        return found

    def save(self, layout: Layout) -> None:
        """Write it in place of the last one."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
        replace_file(layout.on_disk(layout.record), text.encode())


def load(layout: Layout) -> Manifest:
    """The manifest of what is installed; an empty one when nothing is."""
    path = layout.on_disk(layout.record)
    try:
        return Manifest(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Manifest()
    except (OSError, ValueError, TypeError) as error:
        raise InstallError(f"{path}: the record of the installation cannot be read ({error})") from error
