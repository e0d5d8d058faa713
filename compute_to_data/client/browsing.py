"""What a task, a dataset, a workload or another collection holds, with sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compute_to_data.client import results
from compute_to_data.client.results import Result, Tree
from compute_to_data.records.manifest import ancestors
from compute_to_data.records.task import timestamp

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog

FILE, FOLDER = "file", "folder"


@dataclass(frozen=True)
class Member:
    """A file or folder. ``name`` is relative to the collection; ``size`` in bytes and the number of
    ``files`` of a folder are of all below it; ``modified`` in ISO 8601, UTC, and ``checksum`` are empty
    for a folder."""

    name: str
    kind: str
    size: int
    files: int
    modified: str
    checksum: str
    path: str

    def document(self) -> dict[str, Any]:
        """The same as JSON (docs/reference/json.md)."""
        return dict(vars(self))


def members(catalog: ClientCatalog, collection: str, path: str = "", *, recursive: bool = False) -> list[Member]:
    """The files and folders directly in a collection or in one of its folders; with ``recursive`` all
    below it. ``path`` may also name a file, or be a pattern. NotFound for a path that names nothing."""
    tree = results.tree(catalog, collection)
    if not path.strip("/"):
        return _directly_below(tree, collection, "", recursive)
    plain = path.strip("/")
    if plain in tree.folders:
        return _directly_below(tree, collection, f"{plain}/", recursive)
    chosen = tree.chosen([path])
    return _directly_below(chosen, collection, "", True)


def _directly_below(tree: Tree, collection: str, above: str, recursive: bool) -> list[Member]:
    """The members whose names begin with ``above``, by name."""
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for name, one in tree.files.items():
        for folder in ancestors(name):
            sizes[folder] += one.size
            counts[folder] += 1
    found = [
        Member(f"{folder}/", FOLDER, sizes[folder], counts[folder], "", "", f"{collection}/{folder}")
        for folder in tree.folders
        if _is_shown(folder, above, recursive)
    ]
    found += [_file(one) for name, one in tree.files.items() if _is_shown(name, above, recursive)]
    return sorted(found, key=lambda one: one.name)


def _is_shown(name: str, above: str, recursive: bool) -> bool:
    return name.startswith(above) and (recursive or "/" not in name[len(above) :])


def _file(one: Result) -> Member:
    return Member(one.name, FILE, one.size, 1, timestamp(one.data_object.modified), one.checksum, one.path)
