"""A task as its user asked for it: values. ``request.py`` reads and writes them as documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from compute_to_data.model import Avu

REQUEST_NAME = "task.json"
STDOUT_NAME = "STDOUT.txt"
STDERR_NAME = "STDERR.txt"
CRATE_NAME = "ro-crate-metadata.json"
LIVE_STDOUT_NAME = "STDOUT.live.txt"
LIVE_STDERR_NAME = "STDERR.live.txt"
RESERVED_NAMES = frozenset({REQUEST_NAME, STDOUT_NAME, STDERR_NAME, CRATE_NAME, LIVE_STDOUT_NAME, LIVE_STDERR_NAME})
"""What stands beside the outputs in a task's own collection, so that no output has these names."""


class InputKind(str, Enum):
    """How an input is named."""

    OBJECT = "object"
    COLLECTION = "collection"
    NEXT_OF = "next_of"


@dataclass(frozen=True)
class InputReference:
    """One data object; all data objects below a collection; or the first data object
    of a collection that no task has claimed yet (it is claimed by this one).

    ``path``: where in the sandbox the data object is seen, or the collection as a directory; '' for
    a place below ``/inputs``."""

    kind: InputKind
    logical_path: str
    path: str = ""


@dataclass(frozen=True)
class Output:
    """A directory ``path`` of the sandbox, empty at the start and writable, whose content is kept as
    the directory ``name`` of the task's outputs."""

    path: str
    name: str


class Stream(str, Enum):
    """Standard streams an adapter can connect."""

    STDIN = "STDIN"
    STDOUT = "STDOUT"


@dataclass(frozen=True)
class FileAdapter:
    """How a program meets its file: through a standard stream, or by a name in argv
    (``${input_file}``, ``${output_file}``) when ``stream`` is None. ``name`` is the output's
    name under ``/outputs``; empty for inputs and where it follows the input's name."""

    stream: Stream | None
    name: str = ""


@dataclass(frozen=True)
class ProcessDefinition:
    """What to run. Vectors of arguments run in order in one sandbox; no shell reads them.

    ``allowed_nonzero`` are indices of commands that may exit nonzero, already counted from 0.
    Environment values may hold ``%(NAME)s``: another of these variables, or a supplied one.
    ``timeout_seconds``: the walltime this process asks for, or None.
    """

    image: str
    commands: tuple[tuple[str, ...], ...]
    allowed_nonzero: frozenset[int] = frozenset()
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    input_adapter: FileAdapter | None = None
    output_adapter: FileAdapter | None = None


@dataclass(frozen=True)
class Notebook:
    """A notebook held by an image, with the values of its parameters (JSON scalars, lists)."""

    name: str = ""
    image: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    report: str = ""


@dataclass(frozen=True)
class RequestedLimits:
    """Limits a request names; None where it leaves them to the site."""

    walltime_seconds: float | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    output_bytes: int | None = None


@dataclass(frozen=True)
class Task:
    """One requested computation. One of ``role`` and ``resource`` may be empty, never both;
    at most one of ``process`` and ``notebook`` is given: with neither, the role's own runs.
    ``expected_outputs`` are names below ``/outputs`` that a successful run must leave; ``outputs`` are
    directories that are kept beside what is written to ``/outputs`` itself; ``workload`` is the
    collection of the workload that it belongs to, or ''."""

    name: str
    role: str
    resource: str
    inputs: tuple[InputReference, ...]
    output_collection: str
    process: ProcessDefinition | None = None
    notebook: Notebook | None = None
    limits: RequestedLimits = RequestedLimits()
    expected_outputs: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = ()
    workload: str = ""
    metadata: tuple[Avu, ...] = ()
    secrets: tuple[str, ...] = ()
