"""Where the sandbox has what a TES task names: its inputs, its outputs, and the volumes that its executors share.

In the sandbox a program can write below ``/outputs`` and ``/tmp`` only. So each directory in which the task writes, by
what it names as an output, a volume, stdout or stderr, becomes a directory of the outputs that is mounted there, too.
An input inside such a directory is mounted below ``/inputs``, and a link leads there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.schema import Problem
from compute_to_data.job import misplaced
from compute_to_data.task import INPUTS, Output

OUTPUTS, TMP = "/outputs", "/tmp"
_IN_A_DIRECTORY = "a path in a directory such as /data, since a program cannot write to /"
_WILDCARD = re.compile(r"[*?\[]")


def plain(path: str) -> str:
    """A path without a slash at its end."""
    return path.rstrip("/")


def has_wildcard(path: str) -> bool:
    """Whether a path is a pattern."""
    return _WILDCARD.search(path) is not None


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory, or lies in it."""
    return f"{path}/".startswith(f"{directory}/")


def fixed_part(pattern: str) -> str:
    """The directory above the first part of a pattern that has a wildcard."""
    parts = pattern.split("/")
    first = next(number for number, part in enumerate(parts) if has_wildcard(part))
    return "/".join(parts[:first])


class Places:
    """The places of one task. ``document`` fits the schema."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.volumes = [plain(one) for one in document.get("volumes", ())]
        self._written = tuple(plain(one["path"]) for one in document.get("outputs", ()))
        wanted = [*self.volumes, *_of_outputs(document), *_of_streams(document)]
        beside = [one for one in wanted if one and not is_below(one, OUTPUTS) and not is_below(one, TMP)]
        self._tops = _outermost(beside)
        self.outputs = tuple(Output(path, name) for path, name in zip(self._tops, _names(self._tops)))
        """The directories that are mounted, with their names below the outputs."""

    def name_of(self, path: str) -> str | None:
        """The name below the outputs of a path in the sandbox; None when the program cannot write there."""
        if is_below(path, OUTPUTS):
            return path[len(OUTPUTS) + 1 :]
        found = next((one for one in self.outputs if is_below(path, one.path)), None)
        return None if found is None else f"{found.name}{path[len(found.path) :]}"

    @property
    def scratch(self) -> tuple[str, ...]:
        """The names of the volumes in which no output lies."""
        unused = [one for one in self.volumes if not any(is_below(path, one) for path in self._written)]
        return tuple(filter(None, map(self.name_of, unused)))

    def folders(self, document: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of all directories that the task names in its outputs, and of those above them."""
        paths = [*self.volumes, *_of_outputs(document), *_of_streams(document)]
        paths += [plain(one["path"]).rpartition("/")[0] for one in document.get("inputs", ())]
        names = {*filter(None, map(self.name_of, paths)), *(one.name for one in self.outputs)}
        above = {name[:end] for name in names for end, letter in enumerate(name) if letter == "/"}
        return tuple(sorted(names | above))

    def problems(self, document: Mapping[str, Any], targets: Sequence[str]) -> Iterator[Problem]:
        """What cannot be where the task wants it. ``targets``: where its inputs are mounted."""
        wrong = misplaced((), [one.path for one in self.outputs])
        if wrong:
            shown = words.quoted(wrong[0] or "/")
            yield Problem(_pointer(document, wrong[0]), shown, f"another directory to write in: this one {wrong[1]}")
            return
        seen: set[str] = set()
        for number, (one, target) in enumerate(zip(document.get("inputs", ()), targets)):
            path = plain(one["path"])
            if path in seen:
                yield Problem(f"/inputs/{number}/path", words.quoted(path), "a path that no other input has")
            seen.add(path)
            if is_below(path, OUTPUTS) or path in self._tops:
                cause = "a place that is not itself a directory in which the task writes"
                yield Problem(f"/inputs/{number}/path", words.quoted(path), cause)
            elif wrong := misplaced([target], ()):
                yield Problem(f"/inputs/{number}/path", words.quoted(path), f"another place: this one {wrong[1]}")
        for number, one in enumerate(document.get("outputs", ())):
            path = plain(one["path"])
            if is_below(path, TMP):
                cause = "another directory than /tmp, which is gone when the program ends"
                yield Problem(f"/outputs/{number}/path", words.quoted(path), cause)
            elif "/" not in path[1:] and one.get("type") != "DIRECTORY" and not has_wildcard(path):
                yield Problem(f"/outputs/{number}/path", words.quoted(path), _IN_A_DIRECTORY)
        for number, one in enumerate(document["executors"]):
            for name in ("stdout", "stderr"):
                if name in one and "/" not in plain(one[name])[1:]:
                    yield Problem(f"/executors/{number}/{name}", words.quoted(one[name]), _IN_A_DIRECTORY)


def targets(document: Mapping[str, Any], places: Places) -> list[str]:
    """Where each input is mounted."""
    found = []
    for number, one in enumerate(document.get("inputs", ())):
        path = plain(one["path"])
        is_inside = places.name_of(path) is not None
        found.append(f"{INPUTS}/{number}/{path.rpartition('/')[2]}" if is_inside else path)
    return found


def _of_outputs(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document.get("outputs", ()):
        path = plain(one["path"])
        if has_wildcard(path):
            yield fixed_part(path)
        else:
            yield path if one.get("type") == "DIRECTORY" else path.rpartition("/")[0]


def _of_streams(document: Mapping[str, Any]) -> Iterator[str]:
    for one in document["executors"]:
        for name in ("stdout", "stderr"):
            if name in one:
                yield plain(one[name]).rpartition("/")[0]


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    for path in sorted(set(paths)):
        if not any(is_below(path, one) for one in found):
            found.append(path)
    return tuple(found)


def _names(paths: Sequence[str]) -> Iterator[str]:
    """A name for each directory, which is like its path."""
    seen: set[str] = set()
    for number, path in enumerate(paths):
        name = re.sub(r"[^A-Za-z0-9.]+", "_", path.strip("/"))[:64].strip("_.") or f"directory_{number}"
        name = name if name not in seen else f"{name}-{number}"
        seen.add(name)
        yield name


def _pointer(document: Mapping[str, Any], directory: str) -> str:
    """The first place in the document that needs a directory."""
    for number, one in enumerate(document.get("volumes", ())):
        if plain(one) == directory:
            return f"/volumes/{number}"
    for number, one in enumerate(document.get("outputs", ())):
        if is_below(plain(one["path"]), directory):
            return f"/outputs/{number}/path"
    return "/executors"
