"""An installation as a list of changes. It is empty when everything is up to date."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from installer import core_block, environment, gateway_account, job_accounts, payload, podman, server_config, slurm
from installer.layout import Layout, replace_file
from installer.manifest import Manifest, checksum, checksum_of
from installer.payload import Checkout, Item


@dataclass(frozen=True)
class Change:
    """A change: its description, and the function that makes it."""

    text: str
    do: Callable[[], object]


@dataclass(frozen=True)
class Choices:
    """What the administrator chose. ``wheels``: the folder that ``packaging/wheels`` made. ``configure``:
    beside copying files, also make what depends on this server: the block in core.py, the state directory,
    the ids of jobs, compiled modules."""

    wheels: Path
    workers: tuple[tuple[str, str], ...] = ()
    edit_server_config: bool = False
    configure: bool = True
    venv: bool = True
    gateway: bool = False
    podman: bool = False
    slurm: str = ""


class Installation:
    """Installs a checkout on a server, given the record of what is already installed."""

    def __init__(self, checkout: Checkout, layout: Layout, record: Manifest, choices: Choices) -> None:
        self.checkout = checkout
        self.layout = layout
        self.record = record
        self.choices = choices

    def changes(self) -> list[Change]:
        """The changes in order: those that fail most easily come first, those that agents see last."""
        found = [*self._environments(), *self._agent(), *self._plain(), *self._leftovers(), *self._configurations()]
        if self.choices.configure:
            found += configuring(self.layout, self.record, self.checkout.core, gateway=self.choices.gateway)
        if self.choices.edit_server_config:
            found += editing_server_config(self.layout, self.record)
        return found

    def environments(self) -> list[environment.Environment]:
        """The environments that the administrator wants here."""
        of_workers = environment.of_the_workers(self.layout, self.record) if self.choices.venv else None
        of_gateway = environment.of_the_gateway(self.layout, self.record) if self.choices.gateway else None
        return [one for one in (of_workers, of_gateway) if one is not None]

    def _environments(self) -> Iterator[Change]:
        for one in self.environments():
            if not one.is_current(self.checkout):
                yield Change(
                    f"{'update' if one.is_usable() else 'make'} {one.place}: compute-to-data {self.checkout.version} "
                    f"and the packages of its lock, from {self.choices.wheels}",
                    partial(environment.make, one, self.checkout, self.record, self.choices.wheels),
                )

    def _agent(self) -> Iterator[Change]:
        items = {f"{self.layout.agent}/{name}": content for name, content in self.checkout.package().items()}
        is_same = all(checksum_of(self.layout.on_disk(path)) == checksum(content) for path, content in items.items())
        stale = [path for path in self.record.files if path.startswith(f"{self.layout.agent}/") and path not in items]
        if not is_same or stale:
            verb = "replace" if self.layout.on_disk(self.layout.agent).exists() else "write"
            text = f"{verb} {self.layout.agent}: the package for the agents' Python, {len(items)} files"
            yield Change(text, lambda: self._swap_agent(items))

    def _swap_agent(self, items: dict[str, bytes]) -> None:
        """Replace the whole tree at once, so that no agent sees half of it."""
        final = self.layout.on_disk(self.layout.agent)
        fresh, old = (final.with_name(f".agent.{suffix}") for suffix in ("new", "old"))
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            for path, content in items.items():
                target = fresh / path[len(self.layout.agent) + 1 :]
                target.parent.mkdir(parents=True, exist_ok=True)
                replace_file(target, content)
            compile_modules(self.layout, fresh, self.layout.agent)
        except (OSError, subprocess.CalledProcessError):  # a full disk needs the room
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        for path in [path for path in self.record.files if path.startswith(f"{self.layout.agent}/")]:
            del self.record.files[path]
        self.record.files.update({path: [checksum(content)] for path, content in items.items()})
        if final.exists():
            final.rename(old)
        fresh.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def _plain(self) -> Iterator[Change]:
        yield from writing(self.layout, self.record, self._files(dict(self.choices.workers)))

    def _files(self, workers: dict[str, str]) -> dict[str, Item]:
        found = payload.plain_files(self.checkout, self.layout, gateway=self.choices.gateway)
        choices = self.choices
        return {**found, **of_the_host(self.layout, workers, with_podman=choices.podman, directory=choices.slurm)}

    def _leftovers(self) -> Iterator[Change]:
        """Remove files of an earlier version that this version no longer has. Workers' drop-ins stay."""
        known = {*self._files({}), self.layout.configuration, self.layout.gateway_settings}
        folders = (self.layout.agent, *self.layout.environments, self.layout.units)
        trees = tuple(f"{folder}/" for folder in folders)
        for path in sorted(self.record.files):
            if path not in known and path not in self.record.defaults and not path.startswith(trees):
                yield Change(f"remove {path}: this version no longer has it", partial(self._forget, path))

    def _forget(self, path: str) -> None:
        del self.record.files[path]
        self.layout.on_disk(path).unlink(missing_ok=True)

    def _configurations(self) -> Iterator[Change]:
        yield from self._configuration(self.layout.configuration, payload.default_configuration(self.layout))
        if self.choices.gateway:
            default = payload.default_gateway_settings(self.layout)
            yield from self._configuration(self.layout.gateway_settings, default)

    def _configuration(self, file: str, default: bytes) -> Iterator[Change]:
        """Write a default configuration once. When there is a configuration, write a new default beside it."""
        path, place = file, self.layout.on_disk(file)
        if place.exists():
            same = checksum_of(place) == checksum(default)
            if same or self.record.defaults.get(path) == checksum(default):
                return
            path = f"{path}.new"
            if checksum_of(self.layout.on_disk(path)) == checksum(default):
                return
        yield Change(f"write {path}: the default configuration", lambda: self._write_default(file, path, default))

    def _write_default(self, file: str, path: str, default: bytes) -> None:
        _write(self.layout, self.record, path, Item(default))
        self.record.defaults[file] = checksum(default)
        self.record.defaults[path] = checksum(default)


def of_the_host(
    layout: Layout, workers: Mapping[str, str], *, with_podman: bool, directory: str = ""
) -> dict[str, Item]:
    """The files that depend on what this host's workers use, by their paths. ``workers``: the vault of each resource.
    ``directory``: the one that workers share with the nodes of Slurm, if any. The packages do not have these files."""
    of_podman = podman.files(layout) if with_podman else {}
    return {**payload.drop_ins(layout, workers), **of_podman, **slurm.files(layout, directory)}


def writing(layout: Layout, record: Manifest, items: Mapping[str, Item]) -> Iterator[Change]:
    """The changes that write these files, without those that are there already."""
    for path, item in items.items():
        place = layout.on_disk(path)
        if item.shared and place.exists() and path not in record.files:
            continue
        if checksum_of(place) != checksum(item.content) or path not in record.files:
            verb = "replace" if place.exists() else "write"
            yield Change(f"{verb} {path}", partial(_write, layout, record, path, item))


def _write(layout: Layout, record: Manifest, path: str, item: Item) -> None:
    make_directories(layout, record, os.path.dirname(path))
    record.files[path] = [checksum(item.content)]
    replace_file(layout.on_disk(path), item.content, item.mode)


def editing_server_config(layout: Layout, record: Manifest) -> Iterator[Change]:
    """The change that puts the Python rule engine before the native one, if it is not."""
    path = server_config.path(layout)
    if layout.on_disk(path).exists() and server_config.problem(server_config.read(layout)):
        server_config.edited(server_config.read(layout))  # what is impossible must fail before anything is changed
        text = f"edit {path}: put the Python rule engine before the native one; the old file is kept beside it"
        yield Change(text, partial(server_config.edit, layout, record))


def configuring(layout: Layout, record: Manifest, our_core: str, *, gateway: bool) -> list[Change]:
    """The changes that depend on this server: the gateway's account, the ids of jobs, the state directory and the
    block in core.py."""
    return [
        *(_gateway_account(layout) if gateway else ()),
        *_job_accounts(layout, record),
        *_state_directory(layout, record),
        *_core(layout, record, our_core),
    ]


def _gateway_account(layout: Layout) -> Iterator[Change]:
    if gateway_account.can_be_made(layout):
        yield Change(
            f"make the system account {layout.gateway_account}, for the gateway", lambda: gateway_account.make(layout)
        )


def _job_accounts(layout: Layout, record: Manifest) -> Iterator[Change]:
    files = job_accounts.missing(layout)
    if files:
        ids = job_accounts.free_range(layout)
        yield Change(
            f"give {layout.account} the subordinate ids {ids[0]}-{ids[1]} in {' and '.join(files)}, for its jobs",
            lambda: job_accounts.add(layout, record, ids, files),
        )


def _state_directory(layout: Layout, record: Manifest) -> Iterator[Change]:
    place = layout.on_disk(layout.state_directory)
    if place.exists():
        return
    yield Change(f"make {layout.state_directory} for {layout.account}, mode 0700", lambda: _make_state(layout, record))


def _make_state(layout: Layout, record: Manifest) -> None:
    make_directories(layout, record, layout.state_directory)
    place = layout.on_disk(layout.state_directory)
    place.chmod(0o700)
    owner = layout.account_ids()
    if owner is not None and os.geteuid() == 0:
        os.chown(place, *owner)


def _core(layout: Layout, record: Manifest, our_core: str) -> Iterator[Change]:
    place = layout.on_disk(layout.core)
    block = core_block.make(our_core, layout.agent)
    if not place.exists():
        text, what = core_block.add(core_block.HEADER, block), f"write {layout.core}: it does not exist"
    else:
        before = core_block.read(place)
        text = core_block.add(before, block)
        what = f"add our block at the end of {layout.core}; the rest stays unchanged"
        if core_block.find(before):
            what = f"replace our block in {layout.core}; the rest stays unchanged"
        if text == before and checksum(block.encode()) in record.block:
            return
    yield Change(what, lambda: _write_core(layout, record, text, block))


def _write_core(layout: Layout, record: Manifest, text: str, block: str) -> None:
    place = layout.on_disk(layout.core)
    record.block = [*record.block, checksum(block.encode())]
    if not place.exists():
        record.core_written = True
        make_directories(layout, record, layout.irods_configuration)
    record.save(layout)
    write_core(layout.real(layout.core), text)
    record.block = [checksum(block.encode())]


def write_core(place: Path, text: str) -> None:
    """Write core.py with the owner and mode that it had, and remove its compiled module. Agents compare
    modification times by the second, so they could take a stale one for current."""
    status = place.stat() if place.exists() else place.parent.stat()
    mode = status.st_mode & 0o777 if place.exists() else 0o644
    replace_file(place, text.encode(), mode, (status.st_uid, status.st_gid), durable=True)
    for compiled in place.parent.glob("__pycache__/core.*.pyc"):
        compiled.unlink(missing_ok=True)


def make_directories(layout: Layout, record: Manifest, path: str) -> None:
    """Make a folder and the missing folders above it, and record which we made."""
    missing = []
    while not layout.on_disk(path).exists():
        missing.append(path)
        path = os.path.dirname(path)
    for one in reversed(missing):
        layout.on_disk(one).mkdir(mode=0o755)
        if one not in record.directories:
            record.directories.append(one)


def compile_modules(layout: Layout, place: Path, final: str) -> None:
    """Compile for the agents' Python. Agents cannot write there, so they would compile at every connection."""
    rarely = r"site-packages/(pip|setuptools|pkg_resources|_distutils_hack)/"
    options = ["-q", "-x", rarely, "-s", str(place), "-p", final]
    command = [layout.python, "-I", "-m", "compileall", *options, str(place)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
