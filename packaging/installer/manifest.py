"""The record of an installation, with checksums, so that a removal takes all of it and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from installer.layout import InstallError, Layout, replace_file


def checksum(content: bytes) -> str:
    """The SHA-256 of some content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def checksum_of(path: Path) -> str:
    """The checksum of a file's content or of a symbolic link's target; '' when there is neither."""
    if path.is_symlink():
        return checksum(b"-> " + os.fsencode(os.readlink(path)))
    return checksum(path.read_bytes()) if path.is_file() else ""


@dataclass
class Manifest:
    """What was installed.

    ``files`` maps a path to the checksums that it may have (two during an upgrade). ``directories``
    are those that we made. ``block`` holds checksums of our block in core.py. ``defaults`` maps a
    configuration file to the checksum of its first, default content. ``core_written``: there was no
    core.py before. ``venv`` and ``gateway_venv``: how the environments were made. ``server_config``: when we edited
    that file, the checksum of our version and the name of the backup. ``subordinate_ids``: the range that we
    gave to the service account, for each of the two files.
    """

    version: str = ""
    files: dict[str, list[str]] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)
    defaults: dict[str, str] = field(default_factory=dict)
    block: list[str] = field(default_factory=list)
    core_written: bool = False
    venv: dict[str, str] = field(default_factory=dict)
    gateway_venv: dict[str, str] = field(default_factory=dict)
    server_config: dict[str, str] = field(default_factory=dict)
    subordinate_ids: dict[str, str] = field(default_factory=dict)

    def changed(self, layout: Layout, paths: Iterable[str] | None = None) -> list[str]:
        """The files that were changed since their installation, without those that were removed."""
        found = []
        for path in sorted(self.files if paths is None else paths):
            now = checksum_of(layout.on_disk(path))
            if now and now not in self.files.get(path, ()):
                found.append(path)
        return found

    def save(self, layout: Layout) -> None:
        """Write the record in place of the last one."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"
        replace_file(layout.on_disk(layout.record), text.encode())


def _checked(record: Manifest) -> Manifest:
    """TypeError for a record with a part of another type than we write."""
    for name, empty in asdict(Manifest()).items():
        if type(getattr(record, name)) is not type(empty):
            raise TypeError(f"its {name} is not of the type {type(empty).__name__}")
    return record


def load(layout: Layout) -> Manifest:
    """The manifest of what is installed; an empty one when nothing is."""
    path = layout.on_disk(layout.record)
    try:
        return _checked(Manifest(**json.loads(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return Manifest()
    except (OSError, ValueError, TypeError) as error:
        remedy = "Restore it, or remove it and run install --force, which writes a new one"
        raise InstallError(f"{path}: the record of the installation cannot be read ({error}). {remedy}") from error
