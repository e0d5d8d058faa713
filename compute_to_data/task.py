"""A task as its user requested it, as values. ``documents/request.py`` reads and writes them as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Union

from compute_to_data.model import Avu
from compute_to_data.tes_task import TesTask
from compute_to_data.urls.address import parse

INPUTS = "/inputs"
"""The directory of the sandbox below which a job sees its inputs."""
OUTPUTS = "/outputs"
"""The directory of the sandbox in which a job leaves its outputs."""
REQUEST_NAME = "task.json"
STDOUT_NAME = "STDOUT.txt"
STDERR_NAME = "STDERR.txt"
CRATE_NAME = "ro-crate-metadata.json"
RECORD_NAME = "task-record.json"
"""The facts of a task that is archived."""
LOG_NAMES = (STDOUT_NAME, STDERR_NAME)
TIMES_NAME = "LOG.times"
"""When the worker received what the program wrote: lines of Unix seconds and how many bytes stdout and stderr had by
then. Only a task that wrote for more than a second has this file."""
LIVE_LOG_NAME = "LOG.live"
EARLIER_LIVE_NAMES = ("STDOUT.live.txt", "STDERR.live.txt")
"""Workers of an earlier version showed live logs under these names."""
LIVE_NAMES = (LIVE_LOG_NAME, *EARLIER_LIVE_NAMES)
FETCHED_NAME = "fetched_inputs"
"""The collection, in the collection of a task, for what the worker fetched from URLs."""
RESERVED_NAMES = frozenset({REQUEST_NAME, *LOG_NAMES, TIMES_NAME, CRATE_NAME, RECORD_NAME, *LIVE_NAMES, FETCHED_NAME})
"""The worker keeps these beside the outputs in a task's collection, so no output may have these names."""


FAILED_NAME = "failed"
"""The collection, in the collection of a task that failed, for what the task left behind."""


class OnFailure(str, Enum):
    """What becomes of what a task wrote to its outputs when it fails or is cancelled."""

    KEEP = "keep"
    DISCARD = "discard"


class InputKind(str, Enum):
    """How an input is named."""

    OBJECT = "object"
    COLLECTION = "collection"
    NEXT_OF = "next_of"
    PATH = "path"
    """By a path or an id. The submission looks up what it names (``inputs.naming``)."""
    TASK = "task"
    """As a result, or as all results, of another task."""
    URL = "url"
    """By a URL. The worker fetches it into the task's own collection."""


@dataclass(frozen=True)
class InputReference:
    """One data object, all data objects below a collection, the first data object of a collection
    that no task has claimed yet (this task then claims it), the results of another task (by its collection), or what a
    URL names.

    ``logical_path``: for a PATH possibly an id instead, of a dataset or a task; for a TASK the id or the
    collection of the task; for a URL the URL, which may hold a key. ``path``: where the sandbox shows the data object,
    or the collection as a directory; '' for a place below ``/inputs``. ``result``: for a TASK, the result's name in the
    task's collection; '' for all results. ``sha256`` and ``secret``: of a URL, its expected checksum in hexadecimal and
    the name of the secret with its credentials; '' for none."""

    kind: InputKind
    logical_path: str
    path: str = ""
    result: str = ""
    sha256: str = ""
    secret: str = ""


@dataclass(frozen=True)
class Put:
    """A result that the worker sends to a URL. ``output``: its name in the task's collection: of a file, or of a
    directory with all files below it. ``secret``: the name of the secret with the credentials; '' for none."""

    output: str
    url: str
    secret: str = ""


@dataclass(frozen=True)
class Output:
    """A directory of the sandbox that is empty at the start and writable. The worker keeps the content
    of ``path`` as the directory ``name`` of the task's outputs."""

    path: str
    name: str


class Stream(str, Enum):
    """Standard streams an adapter can connect."""

    STDIN = "STDIN"
    STDOUT = "STDOUT"


@dataclass(frozen=True)
class FileAdapter:
    """How a program gets its file: through a standard stream, or when ``stream`` is None by a name in
    argv (``${input_file}``, ``${output_file}``). ``name`` is the output's name under ``/outputs``;
    empty for inputs, and for an output that is named after the input."""

    stream: Stream | None
    name: str = ""


class ChannelKind(str, Enum):
    """How a helper beside the program brings its input, or collects its output."""

    PIPE = "pipe"
    """A named pipe."""
    APPEND = "append"
    """A file to which the helper, or the program, appends."""
    TCP = "tcp"
    """A port of the sandbox's own loopback, at which the program listens."""


DEFAULT_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Channel:
    """An adapter that a helper beside the program serves. ``name``: as for :class:`FileAdapter`. ``path``: where the
    sandbox has the pipe or the appended file; '' when argv names it. ``port``: of a TCP channel. ``chunk_bytes``: how
    much is sent or read at a time."""

    kind: ChannelKind
    name: str = ""
    path: str = ""
    port: int = 0
    chunk_bytes: int = DEFAULT_CHUNK_BYTES


Adapter = Union[FileAdapter, Channel]


def is_named_in_argv(adapter: Adapter | None) -> bool:
    """Whether a word in argv stands for the adapter's file."""
    if isinstance(adapter, Channel):
        return adapter.kind is not ChannelKind.TCP and not adapter.path
    return adapter is not None and adapter.stream is None


@dataclass(frozen=True)
class StoredDefinition:
    """The stored process definition that a task's process comes from: its name, its data object, and the checksum
    (``sha2:<base64>``) that this had when the task was submitted."""

    name: str
    data_object: str
    checksum: str


@dataclass(frozen=True)
class ProcessDefinition:
    """What to run. The argument vectors run in order in one sandbox, without a shell.

    ``allowed_nonzero`` are the indices, from 0, of commands that may exit nonzero. Environment
    values may hold ``%(NAME)s``: another of these variables, or one that the template supplies.
    ``timeout_seconds``: the walltime that this process asks for, or None. ``application`` and
    ``process_type`` are those of a process registry's definition, or ''. ``parameters``: a JSON Schema of the values
    that a task may give; ``${name}`` in a command stands for one of them.
    """

    image: str
    commands: tuple[tuple[str, ...], ...]
    allowed_nonzero: frozenset[int] = frozenset()
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float | None = None
    input_adapter: Adapter | None = None
    output_adapter: Adapter | None = None
    application: str = ""
    process_type: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


NOTEBOOK_PLACE = "/notebook"
"""The directory in which the sandbox shows a notebook that is a data object: not among the data in ``/inputs``."""


@dataclass(frozen=True)
class Notebook:
    """A notebook in an image, or in a data object, with the values of its parameters (JSON scalars, lists), and perhaps
    a JSON ``schema`` that these must fit.

    A task has the data object among its inputs, as :attr:`reference`.
    """

    name: str = ""
    image: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    report: str = ""
    data_object: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> InputReference | None:
        """The data object as an input of the task, or None."""
        if not self.data_object:
            return None
        path = f"{NOTEBOOK_PLACE}/{self.data_object.rpartition('/')[2]}"
        return InputReference(InputKind.OBJECT, self.data_object, path)


LEAST_MEMORY_BYTES = 6 << 20
"""Docker starts no container with less (https://docs.docker.com/engine/containers/resource_constraints/)."""


@dataclass(frozen=True)
class RequestedLimits:
    """The limits that a request names; None for a limit that it leaves to the site."""

    walltime_seconds: float | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    output_bytes: int | None = None
    input_bytes: int | None = None


LOWEST_PRIORITY, HIGHEST_PRIORITY = -10, 10


@dataclass(frozen=True)
class Task:
    """One requested computation.

    ``role`` or ``resource`` may be empty, but not both. At most one of ``process`` and ``notebook``
    is given; with neither, the role runs its own program. ``expected_outputs``: names below
    ``/outputs`` that a successful run must leave. ``outputs``: directories that the worker keeps
    besides ``/outputs`` itself. ``workload``: the collection of the task's workload, or ''. ``on_failure``: what
    becomes of its outputs if it fails. ``put``: results that are also sent to URLs. ``priority``: among the queued
    tasks of its owner, those with the highest begin first. ``after``: the tasks whose success this one waits for, by
    their collections; a request that is not resolved yet may also hold their ids. ``parameters``: values for the
    parameters of the process. ``definition``: where the process comes from, if it was stored. ``tes``: what to run
    instead of a process or a notebook; then ``inputs``, ``outputs`` and ``put`` follow from it.
    """

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
    on_failure: OnFailure = OnFailure.KEEP
    after: tuple[str, ...] = ()
    priority: int = 0
    put: tuple[Put, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    definition: StoredDefinition | None = None
    tes: TesTask | None = None

    @property
    def urls(self) -> tuple[InputReference, ...]:
        """The inputs that are named by URLs. Each has a ``path``."""
        return tuple(one for one in self.inputs if one.kind is InputKind.URL)

    @property
    def shown_urls(self) -> Mapping[str, str]:
        """The URLs of inputs without their queries, by the paths of these inputs in the sandbox."""
        return {one.path: parse(one.logical_path).shown for one in self.urls}

    @property
    def secrets_of_urls(self) -> tuple[str, ...]:
        """The secrets that the worker itself needs, for URLs. The program does not get them."""
        named = [*(one.secret for one in self.urls), *(one.secret for one in self.put)]
        return tuple(dict.fromkeys(filter(None, named)))

    @property
    def awaited(self) -> tuple[str, ...]:
        """The tasks that this one waits for: those of ``after``, and those whose results are its inputs."""
        results = (one.logical_path for one in self.inputs if one.kind is InputKind.TASK)
        return tuple(dict.fromkeys((*self.after, *results)))
