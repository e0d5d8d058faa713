"""Removal: remove what is as we installed it; leave what was changed, and name it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from installer import core_block, environment, gateway_account, job_accounts, podman, server_config
from installer.changes import Change, write_core
from installer.layout import InstallError, Layout, replace_file
from installer.manifest import Manifest, checksum, checksum_of
from installer.payload import GATEWAY_ACCOUNT

_RUNTIME = (".lock", ".bell", ".log", ".pid")


class Removal:
    """Removes what a record lists. ``force``: also remove files that were changed, but never an
    administrator's own rules or server configuration. ``left``: what stayed, and why."""

    def __init__(self, layout: Layout, record: Manifest, force: bool) -> None:
        self.layout = layout
        self.record = record
        self.force = force
        self.left: list[str] = []

    def changes(self) -> list[Change]:
        """The changes in order. Those that agents see come first."""
        return [
            *self._configured(),
            *self._server_config(),
            *self._files(),
            Change(f"remove {self.layout.prefix} and the other folders that we made, if empty", self._directories),
        ]

    def beside_a_package(self) -> list[Change]:
        """The changes that undo what ``configure`` did. The package manager removes the rest."""
        return [
            *self._configured(),
            *self._server_config(),
            *self._files(),
            Change("remove the folders that we made, if empty", self._empty_directories),
        ]

    def _configured(self) -> list[Change]:
        """What enables units, the block in core.py, the state directory and the ids of jobs."""
        self._name_the_gateways_account()
        if podman.is_installed(self.record.files):
            self.left += podman.left(self.layout)
        return [*self._enabled(), *self._core(), *self._state_directory(), *self._job_accounts()]

    def _enabled(self) -> Iterator[Change]:
        """The links by which the host's systemd would start our units, and could not any more."""
        for link in sorted(self.layout.on_disk("/etc/systemd/system").glob("*.wants/compute-to-data-*")):
            if link.is_symlink():
                text = f"remove /{link.relative_to(self.layout.root)}, by which its unit was enabled"
                yield Change(text, partial(link.unlink, missing_ok=True))

    def _name_the_gateways_account(self) -> None:
        is_ours = self.layout.on_disk(f"{self.layout.sysusers}/{GATEWAY_ACCOUNT}").exists()
        if is_ours and not gateway_account.is_missing(self.layout):
            why = "another account with its uid would own its files. Remove it with userdel when it has none"
            self.left.append(f"the account {self.layout.gateway_account}: {why}")

    def _job_accounts(self) -> Iterator[Change]:
        ranges = job_accounts.ours(self.layout, self.record)
        for path, ids in self.record.subordinate_ids.items():
            if path not in ranges:
                self.left.append(f"{path}: the range {ids}, which we gave to {self.layout.account}, was changed")
        if ranges:
            text = f"take the subordinate ids {next(iter(ranges.values()))} back from {self.layout.account}"
            yield Change(text, partial(job_accounts.remove, self.layout, self.record))

    def _core(self) -> Iterator[Change]:
        place = self.layout.on_disk(self.layout.core)
        text = core_block.read(place)
        try:
            block = core_block.find(text)
        except InstallError as error:
            self.left.append(f"{self.layout.core}: {error}")
            return
        if not block:
            return
        if checksum(block.encode()) not in self.record.block and not self.force:
            self.left.append(f"{self.layout.core}: our block was edited. It does no harm without the package")
            return
        rest = core_block.remove(text)
        if self.record.core_written and rest == core_block.HEADER:
            yield Change(f"remove {self.layout.core}: we wrote it, and it has no other rules", place.unlink)
        else:
            yield Change(
                f"remove our block from {self.layout.core}",
                lambda: write_core(self.layout.real(self.layout.core), rest),
            )

    def _is_ours(self, path: str, usual: str) -> bool:
        """Whether a folder holds nothing of others: we made it, or it has the name of the usual one."""
        return path in self.record.directories or os.path.basename(path) == os.path.basename(usual)

    def _state_directory(self) -> Iterator[Change]:
        place = self.layout.on_disk(self.layout.state_directory)
        if place.is_dir() and not self._is_ours(self.layout.state_directory, Layout().state_directory):
            self.left.append(f"{self.layout.state_directory}: it was there before the installation")
        elif place.is_dir():
            yield Change(f"remove {self.layout.state_directory} with its locks and logs", self._remove_state)

    def _remove_state(self) -> None:
        place = self.layout.on_disk(self.layout.state_directory)
        for path in list(place.iterdir()):
            if path.suffix in _RUNTIME and not path.is_dir():
                path.unlink()
        if self.force:
            shutil.rmtree(place)
            return
        remove_empty(place)
        if place.exists():
            self.left.append(f"{self.layout.state_directory}: it holds other files, perhaps of unfinished tasks")

    def _server_config(self) -> Iterator[Change]:
        edited = self.record.server_config
        if not edited:
            return
        path = server_config.path(self.layout)
        place = self.layout.real(path)
        backup = self.layout.on_disk(edited["backup"])
        if checksum_of(place) != edited["checksum"]:
            self.left.append(f"{path} and {edited['backup']}: it was edited after --edit-server-config changed it")
            return
        yield Change(f"restore {path} as it was before --edit-server-config", lambda: _restore(place, backup))

    def _files(self) -> Iterator[Change]:
        changed = set(self.record.changed(self.layout))
        environments = (environment.of_the_workers, environment.of_the_gateway)
        for one in (of(self.layout, self.record) for of in environments):
            if one.made and (self.force or "fingerprint" not in one.made):
                yield Change(f"remove {one.place} with everything in it", partial(_remove_tree, one.folder))
        for path in sorted(changed):
            if not self.force:
                self.left.append(f"{path}: it was changed since its installation")
        mine = [path for path in sorted(self.record.files) if self.force or path not in changed]
        trees = (self.layout.agent, *self.layout.environments)
        for tree in trees:
            several = [path for path in mine if path.startswith(f"{tree}/")]
            if several:
                yield Change(f"remove {tree}: {len(several)} files", partial(self._remove, *several))
        for path in [path for path in mine if not path.startswith(tuple(f"{tree}/" for tree in trees))]:
            if self.layout.on_disk(path).exists():
                yield Change(f"remove {path}", partial(self._remove, path))

    def _remove(self, *paths: str) -> None:
        for path in paths:
            self.layout.on_disk(path).unlink(missing_ok=True)

    def _directories(self) -> None:
        """Remove compiled modules, then every empty folder that we made."""
        self.layout.on_disk(self.layout.record).unlink(missing_ok=True)
        alone = self._is_ours(self.layout.prefix, Layout().prefix)  # others may use it, too, such as /usr/local
        trees = (self.layout.prefix,) if alone else self.layout.trees
        places = [self.layout.on_disk(path) for path in trees]
        for unfinished in self.layout.on_disk(self.layout.prefix).glob(".agent.*"):
            _remove_tree(unfinished)
        for place in places:
            remove_compiled(place)
            remove_empty(place)
        self._empty_directories()
        kept = [os.path.join(folder, name) for place in places for folder, _, names in os.walk(place) for name in names]
        known = {str(self.layout.on_disk(path)) for path in self.record.files}
        foreign = [path for path in kept if path not in known]
        if foreign:
            self.left.append(f"{self.layout.prefix}: {len(foreign)} files that are not ours, for example {foreign[0]}")

    def _empty_directories(self) -> None:
        for path in sorted(self.record.directories, key=len, reverse=True):
            place = self.layout.on_disk(path)
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def _remove_tree(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)


def remove_compiled(place: Path) -> None:
    """Remove Python's compiled modules below a folder; the record does not list them."""
    for folder, _, names in os.walk(place, topdown=False):
        if os.path.basename(folder) == "__pycache__":
            for name in names:
                os.unlink(os.path.join(folder, name))
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def remove_empty(place: Path) -> None:
    """Remove the empty folders below a folder, and the folder itself if it is empty then."""
    for folder, _, _ in os.walk(place, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


def _restore(place: Path, backup: Path) -> None:
    status = backup.stat()
    owner = (status.st_uid, status.st_gid)
    replace_file(place, backup.read_bytes(), status.st_mode & 0o777, owner, durable=True)
    backup.unlink()


def served(layout: Layout) -> list[str]:
    """The lock files of running workers. We remove nothing while a worker runs."""
    held = []
    place = layout.on_disk(layout.state_directory)
    for path in sorted(place.glob("*.lock")) if place.is_dir() else ():
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                held.append(path.name)
    return held
