"""A task's outputs: which there are, and their content as bytes or lines. ``fetching`` copies them into a
folder of this host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compute_to_data.catalog_tree import walk
from compute_to_data.client.local_folders.patterns import is_pattern, parsed_all, verdict
from compute_to_data.errors import Code, NotFound, TooLarge, ZoneError, shortened_in_the_middle, zone_error
from compute_to_data.local_files import Digest
from compute_to_data.model import DataObject, ReplicaStatus
from compute_to_data.provenance import crate
from compute_to_data.records.manifest import ancestors
from compute_to_data.similar_names import nearest
from compute_to_data.task import (
    CRATE_NAME,
    LIVE_NAMES,
    RESERVED_NAMES,
)

if TYPE_CHECKING:
    from compute_to_data.ports.zone import ClientCatalog

LARGEST_IN_MEMORY = 1 << 30
"""The most bytes of an output that :meth:`Result.bytes` reads."""
_SHOWN = 5
_LIVE = frozenset(LIVE_NAMES)


@dataclass(frozen=True)
class Result:
    """One output of a task. ``name`` is relative to the task's collection; ``size`` in bytes;
    ``checksum`` as the catalog holds it (``sha2:<base64>``, or '')."""

    name: str
    data_object: DataObject
    catalog: ClientCatalog = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        """Its logical path."""
        return self.data_object.logical_path

    @property
    def size(self) -> int:
        """In bytes."""
        return self.data_object.size

    @property
    def checksum(self) -> str:
        """The checksum in the catalog for a good replica; '' when it has none."""
        good = [one for one in self.data_object.replicas if one.status is ReplicaStatus.GOOD and one.checksum]
        return good[0].checksum if good else ""

    def bytes(self) -> bytes:
        """The whole content, of at most 1 GiB: ``fetch`` is for more. ZoneError when it does not match the checksum
        in the catalog."""
        content = self.catalog.read(self.path, LARGEST_IN_MEMORY)
        digest = Digest()
        digest.update(content)
        if self.checksum and digest.text != self.checksum:
            raise _damaged(self.path)
        return content

    def text(self) -> str:
        """The content as UTF-8."""
        return self.bytes().decode("utf-8")

    def lines(self) -> list[str]:
        """The lines of the text, without their ends."""
        return self.text().splitlines()


def _damaged(logical_path: str) -> ZoneError:
    cause = "its bytes do not match the checksum in the catalog"
    return zone_error(Code.USER_CHKSUM_MISMATCH, logical_path, cause, "Run the task again: c2d rerun")


@dataclass(frozen=True)
class Tree:
    """All that a collection holds: files and folders by name, a parent before what is in it."""

    files: Mapping[str, Result]
    folders: tuple[str, ...]

    def chosen(self, words: Sequence[str]) -> Tree:
        """What paths and patterns choose: a file, a folder with all that is in it, or what a pattern as in
        ``.gitignore`` matches. NotFound names a word that chooses nothing, and the name most like it."""
        names: set[str] = set()
        for word in words:
            found = self.named(word)
            if not found:
                raise self._no_such(word)
            names |= found
        files = {name: one for name, one in self.files.items() if name in names}
        return Tree(files, tuple(folder for folder in self.folders if folder in names))

    def named(self, word: str) -> set[str]:
        """The names of files and folders that one path or pattern chooses, with all below them."""
        plain = word.strip("/") if word.strip("/") else word
        plain = plain[2:] if plain.startswith("./") else plain
        tops = {plain} & (self.files.keys() | set(self.folders))
        if not tops and is_pattern(word):
            pattern = parsed_all([word])
            tops = {name for name in self.files if verdict(pattern, name, False)}
            tops |= {name for name in self.folders if verdict(pattern, name, True)}
        every = (*self.files, *self.folders)
        return {name for name in every if name in tops or any(above in tops for above in ancestors(name))}

    def without(self, top: str) -> Tree:
        """Without a file or folder at the top, and all below it."""
        files = {name: one for name, one in self.files.items() if name.partition("/")[0] != top}
        return Tree(files, tuple(folder for folder in self.folders if folder.partition("/")[0] != top))

    def closest(self, word: str) -> str:
        """The name most like a word; '' when none is like it."""
        return nearest(word, [*self.files, *self.folders], likeness=0.75)

    def _no_such(self, word: str) -> NotFound:
        like = self.closest(word)
        held = ", ".join([*self.files][:_SHOWN]) + (" and more" if len(self.files) > _SHOWN else "")
        hint = f"Did you mean {like}?" if like else f"It holds {held}" if held else ""
        return NotFound(shortened_in_the_middle(word), "names nothing there", hint)


def tree(catalog: ClientCatalog, collection: str) -> Tree:
    """All that is below a collection, without a task's live output for followers."""
    beyond = len(collection) + 1
    files: dict[str, Result] = {}
    folders: list[str] = []
    for _, below, members in walk(catalog, collection):
        folders += [one.logical_path[beyond:] for one in below]
        found = {one.logical_path[beyond:]: one for one in members}
        files.update({name: Result(name, one, catalog) for name, one in found.items() if name not in _LIVE})
    return Tree(files, tuple(sorted(folders)))


def everything(catalog: ClientCatalog, collection: str) -> Iterator[Result]:
    """Every data object below a task's collection, except the live output for followers."""
    yield from tree(catalog, collection).files.values()


def outputs(catalog: ClientCatalog, collection: str) -> Mapping[str, Result]:
    """The program's outputs by name, without the request, the logs and the crate."""
    return dict(sorted(without_records(tree(catalog, collection).files).items()))


def without_records(found: Mapping[str, Result]) -> dict[str, Result]:
    """Of what is in a task's collection, what its program left."""
    return {name: one for name, one in found.items() if name.partition("/")[0] not in RESERVED_NAMES}


def expected(catalog: ClientCatalog, collection: str) -> tuple[str, ...]:
    """The names of the outputs that the task's crate lists; empty without a crate."""
    try:
        return crate.output_names(catalog.read(f"{collection}/{CRATE_NAME}", crate.LARGEST)) or ()
    except (ZoneError, TooLarge):
        return ()
