"""The files to install, read from a checkout. This module writes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from installer.layout import InstallError, Layout
from installer.manifest import checksum

HERE = Path(__file__).resolve().parent.parent
UNIT = "compute-to-data-worker@.service"
GUARD = "compute-to-data-guard.service"
QUOTAS = "compute-to-data-quotas.service"
SLICE = "c2d.slice"
NODE = "compute-to-data-node@.service"
"""For nodes of Slurm, which need not have an iRODS server, nor an installation of their own."""
PODMAN = ("compute-to-data-podman.socket", "compute-to-data-podman.service")
GATEWAY = "compute-to-data-gateway.service"
GATEWAY_ACCOUNT = "compute-to-data-gateway.conf"
_TEMPLATE, _GATEWAY_TEMPLATE = "compute_to_data.json.template", "gateway.json.template"
_PROGRAMS = ("compute-to-data-worker", "compute-to-data-doctor")
_RESOURCE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")


@dataclass(frozen=True)
class Item:
    """A file to install: its content and mode. ``shared``: its name is not ours alone, so one that is there already
    belongs to somebody else, who keeps it."""

    content: bytes
    mode: int = 0o644
    shared: bool = False


class Checkout:
    """The sources, in the folder above ``packaging``."""

    def __init__(self, folder: Path = HERE.parent) -> None:
        self.folder = folder
        if not (folder / "compute_to_data" / "__init__.py").is_file() or not (folder / "pyproject.toml").is_file():
            remedy = "Run packaging/install from a checkout"
            raise InstallError(f"{folder} is not a checkout of compute-to-data. {remedy}")

    @property
    def version(self) -> str:
        """``compute_to_data.__version__``, read without importing it."""
        text = (self.folder / "compute_to_data" / "__init__.py").read_text(encoding="utf-8")
        found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
        if found is None:
            path = f"{self.folder}/compute_to_data/__init__.py"
            raise InstallError(f"{path} has no __version__. Use an unchanged checkout")
        return found[1]

    @property
    def core(self) -> str:
        """The text of our core.py."""
        return (self.folder / "core.py").read_text(encoding="utf-8")

    def package(self) -> dict[str, bytes]:
        """The package's files, by their paths in the checkout."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in _files(self.folder / "compute_to_data")
        }

    def lock(self, name: str) -> Path:
        """The pinned packages of an environment, ``worker`` or ``gateway``, with the checksums of their wheels."""
        return self.folder / "packaging" / "locks" / f"{name}.txt"

    def fingerprint(self, lock: Path) -> str:
        """A hash of everything that the environment of a lock is made of."""
        files = {
            **self.package(),
            **{path.name: path.read_bytes() for path in (self.folder / "pyproject.toml", lock)},
        }
        return checksum(json.dumps({name: checksum(content) for name, content in sorted(files.items())}).encode())


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield path


def filled(name: str, layout: Layout) -> str:
    """A file of ``packaging/files`` with this server's paths in it."""
    text = (HERE / "files" / name).read_text(encoding="utf-8")
    for key, value in {
        "PREFIX": layout.prefix,
        "CONFIGURATION": layout.configuration,
        "IRODS_CONFIGURATION": layout.irods_configuration,
        "PYTHON": layout.python,
        "IRODS_HOME": layout.irods_home,
        "STATE_DIRECTORY": layout.state_directory,
        "ACCOUNT": layout.account,
        "GATEWAY_ACCOUNT": layout.gateway_account,
        "GATEWAY_CONFIGURATION": layout.gateway_configuration,
        "GATEWAY_SETTINGS": layout.gateway_settings,
    }.items():
        text = text.replace(f"@{key}@", value)
    return text


def default_configuration(layout: Layout) -> bytes:
    """The site's template without its comment lines."""
    return _without_comments(filled(_TEMPLATE, layout))


def default_gateway_settings(layout: Layout) -> bytes:
    """The gateway's template without its comment lines."""
    return _without_comments(filled(_GATEWAY_TEMPLATE, layout))


def _without_comments(text: str) -> bytes:
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.strip() and not line.lstrip().startswith("//")).encode()


def plain_files(checkout: Checkout, layout: Layout, *, gateway: bool) -> dict[str, Item]:
    """Every file that only we own, except the package and the virtual environments."""
    share, items = f"{layout.prefix}/share", {}
    for name in _PROGRAMS:
        items[f"{layout.prefix}/bin/{name}"] = Item(filled(name, layout).encode(), 0o755)
    for path in _files(checkout.folder / "rules"):
        items[f"{share}/rules/{path.name}"] = Item(path.read_bytes())
    docs = checkout.folder / "docs"
    for path in sorted([*docs.rglob("*.md"), *docs.glob("images/*")]):
        items[f"{share}/doc/{path.relative_to(docs)}"] = Item(path.read_bytes())
    items[f"{share}/doc/LICENSE"] = Item((checkout.folder / "LICENSE").read_bytes())
    items[f"{share}/{_TEMPLATE}"] = Item(filled(_TEMPLATE, layout).encode())
    for path in _files(HERE / "locks"):
        items[f"{share}/locks/{path.name}"] = Item(path.read_bytes())
    items[f"{share}/core.py"] = Item(checkout.core.encode())
    for name in (UNIT, GUARD, QUOTAS, NODE, SLICE):
        items[f"{layout.units}/{name}"] = Item(filled(name, layout).encode())
    items[f"{share}/{NODE}"] = Item(filled(NODE, layout).encode())
    for path in _files(HERE / "installer"):
        items[f"{layout.prefix}/packaging/installer/{path.name}"] = Item(path.read_bytes())
    items[f"{layout.prefix}/packaging/install"] = Item((HERE / "install").read_bytes(), 0o755)
    for name in PODMAN:
        items[f"{layout.prefix}/packaging/files/{name}"] = Item((HERE / "files" / name).read_bytes())
    return {**items, **(_of_the_gateway(layout) if gateway else {})}


def _of_the_gateway(layout: Layout) -> dict[str, Item]:
    places = {
        f"{layout.units}/{GATEWAY}": GATEWAY,
        f"{layout.sysusers}/{GATEWAY_ACCOUNT}": GATEWAY_ACCOUNT,
        f"{layout.prefix}/share/{_GATEWAY_TEMPLATE}": _GATEWAY_TEMPLATE,
    }
    return {path: Item(filled(name, layout).encode()) for path, name in places.items()}


def drop_ins(layout: Layout, workers: Mapping[str, str]) -> dict[str, Item]:
    """For each worker's unit, the vault that it may write into."""
    text = "# Besides its state directory, this worker may write into the vault.\n[Service]\nReadWritePaths={}\n"
    return {
        f"{layout.units}/{UNIT.replace('@', f'@{resource}')}.d/vault.conf": Item(text.format(vault).encode())
        for resource, vault in workers.items()
    }


def workers_named(arguments: list[str]) -> dict[str, str]:
    """Arguments such as ``dsp_resc=/path/of/its/vault`` as a mapping. InstallError for any other form."""
    found: dict[str, str] = {}
    for argument in arguments:
        resource, _, vault = argument.partition("=")
        if not _RESOURCE.fullmatch(resource) or not re.fullmatch(r"/[^\s\"'%\\]*", vault):
            raise InstallError(
                f"--worker {argument}: expected a resource and its vault, such as dsp_resc=/data/dsp_vault"
            )
        if found.setdefault(resource, vault) != vault:
            raise InstallError(f"--worker {argument}: {resource} has the vault {found[resource]} already. Name one")
    return found
