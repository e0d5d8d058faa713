"""What a GA4GH TES task asks for, as values. ``documents/tes.py`` reads them from its document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Executor:
    """One command, which runs in a container of its own. ``stdin``, ``stdout`` and ``stderr``: files in the sandbox,
    '' for none. ``may_fail``: the next executor also runs if this one exits nonzero."""

    image: str
    command: tuple[str, ...]
    working_directory: str = ""
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    may_fail: bool = False


@dataclass(frozen=True)
class Content:
    """An input whose text is in the request, and the path at which the sandbox shows it."""

    target: str
    text: str


@dataclass(frozen=True)
class Link:
    """A symbolic link at ``name`` below the task's outputs, to ``target`` in the sandbox: an input that the request
    names inside a directory in which the program also writes."""

    name: str
    target: str


class PlacedKind(str, Enum):
    """What of the outputs an output of the task names."""

    FILE = "FILE"
    DIRECTORY = "DIRECTORY"
    PATTERN = "PATTERN"


@dataclass(frozen=True)
class Placed:
    """Results that are registered elsewhere than in the task's collection. ``output``: a name below the task's outputs,
    or a pattern of names, of which ``prefix`` is removed; '' for all of the outputs. ``logical_path``: of the file, or
    of the collection for the others. ``path``: what the request calls ``output`` or ``prefix`` in the sandbox."""

    kind: PlacedKind
    output: str
    logical_path: str
    path: str
    prefix: str = ""


@dataclass(frozen=True)
class TesTask:
    """``document``: the request as it was accepted. The rest follows from it."""

    document: Mapping[str, Any]
    executors: tuple[Executor, ...]
    contents: tuple[Content, ...] = ()
    links: tuple[Link, ...] = ()
    placed: tuple[Placed, ...] = ()
    folders: tuple[str, ...] = ()
    """Names of the directories in the outputs that are there before the first executor runs, the outer ones first."""
    scratch: tuple[str, ...] = ()
    """Names of directories below the outputs that hold no results: the volumes that executors share."""

    @property
    def images(self) -> tuple[str, ...]:
        """The images of all executors, each once."""
        return tuple(dict.fromkeys(one.image for one in self.executors))
