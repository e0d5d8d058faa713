"""The methods that a role overrides, and the values that they return."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from compute_to_data.job import Exit, Logs
from compute_to_data.model import Access, Avu
from compute_to_data.task import Task


@dataclass(frozen=True)
class Step:
    """One command of a program.

    ``argv``: its argument vector, which no shell parses. ``stdin``, ``stdout`` and ``stderr`` name
    files inside the sandbox. '' means an empty standard input, and that the other two go to the task's logs.
    ``working_directory``: '' for ``/tmp``. ``may_fail``: if it exits nonzero, the next step runs all the same.
    ``helper``: the words for the helper (``Job.helper``) that brings its input or collects its output.
    """

    image: str
    argv: tuple[str, ...]
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    may_fail: bool = False
    helper: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """What a role runs: steps in order. The task ends at the first step that fails. ``apart``: each step has a
    container of its own; all of them see the same inputs and outputs."""

    steps: tuple[Step, ...]
    apart: bool = False

    @classmethod
    def of(
        cls,
        image: str,
        commands: Sequence[Sequence[str]],
        *,
        allowed_nonzero: AbstractSet[int] = frozenset(),
        stdin: str = "",
        stdout: str = "",
        environment: Mapping[str, str] | None = None,
        working_directory: str = "",
        helper: tuple[str, ...] = (),
    ) -> Program:
        """The usual program: commands of one image that share an environment and a working directory.

        ``allowed_nonzero``: indices, from 0, of commands that may exit nonzero. ``stdin`` is the
        first command's, ``stdout`` the last one's. TypeError for a command that is a string: it would run letter by
        letter.
        """
        if any(isinstance(argv, str) for argv in commands):
            raise TypeError("a command is a string, expected a sequence of its words")
        last = len(commands) - 1
        return cls(
            tuple(
                Step(
                    image,
                    tuple(argv),
                    stdin=stdin if index == 0 else "",
                    stdout=stdout if index == last else "",
                    working_directory=working_directory,
                    environment=environment or {},
                    may_fail=index in allowed_nonzero,
                    helper=helper,
                )
                for index, argv in enumerate(commands)
            )
        )

    @property
    def commands(self) -> tuple[tuple[str, ...], ...]:
        """The argument vectors of the steps."""
        return tuple(step.argv for step in self.steps)


@dataclass(frozen=True)
class RequiredAccess:
    """The access a task's owner must have on its inputs and on its output collection."""

    inputs: Access = Access.READ_OBJECT
    output_collection: Access = Access.OWN


class Retention(Enum):
    """What to do with the replicas of inputs that staging made on the compute resource. The worker never
    trims replicas that were there before, or that another task is using."""

    KEEP = "keep"
    TRIM = "trim"


class Hooks(ABC):
    """What differs between kinds of computation. Hooks are nouns: they return data and never call the zone
    or the engine. Each may read the task and the role's settings."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        """``name`` is the value of the resource's role AVU. ``settings`` is the role's part of the
        configuration, without the class."""
        self.name = name
        self.settings = settings

    @abstractmethod
    def program(self, task: Task, inputs: tuple[str, ...], supplied: Mapping[str, str]) -> Program:
        """What to run. Called when the inputs are on the resource. ``inputs`` are their names
        inside the sandbox, ``supplied`` the variables that templates may refer to.
        InvalidRequest when the task lacks what this role needs."""

    def required_access(self, task: Task) -> RequiredAccess:
        """The access that the owner needs. Called first. Default: read the inputs, own the output
        collection (as in the 2019 training module)."""
        return RequiredAccess()

    def expected_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """Names below ``/outputs`` that a successful run must leave. Default: none."""
        return ()

    def annotations(self, task: Task, exit: Exit) -> tuple[Avu, ...]:
        """AVUs for the results, in addition to the provenance that the template records. Default: none."""
        return ()

    def metadata_output(self, task: Task, inputs: tuple[str, ...]) -> str:
        """The name below ``/outputs`` of a small JSON file whose members become AVUs on the
        results (``output_metadata`` describes its form). Called after the program succeeded. If the
        file is missing or malformed, the task fails. Default: '', no such file."""
        return ""

    def results_to(self, task: Task) -> str:
        """The role of the resource that receives the results instead of the compute resource; '' leaves
        them on the compute resource. Called before the inputs are staged, so that a task does not run
        when no resource can receive its results, and again at the end. Default: the setting ``results_to``."""
        return str(self.settings.get("results_to", ""))

    def retention(self, task: Task) -> Retention:
        """What to do with replicas that staging made. Called last. Default: the setting
        ``staged_inputs``, else KEEP, so that the next task on the same input finds them."""
        return Retention(self.settings.get("staged_inputs", Retention.KEEP.value))

    def explanation(self, exit: Exit, logs: Logs) -> str:
        """The program's own message about its failure, for the task's reason. Default: the last line that is not
        empty of standard error, or, if there is none, of standard output."""
        return _last_line(logs.stderr) or _last_line(logs.stdout)


_TAIL = 1 << 16
"""How many last bytes of a stream may hold its last line."""
_OWN_LINE = re.compile(r"command (\d+) of (\d+) \((.*)\) exited \d+")
"""The line about a failed command that ``command_line`` writes last to standard error."""


def own_line(stderr: bytes) -> re.Match[str] | None:
    """Our own last line in a program's standard error: the command's number, how many there are, its program."""
    last = stderr[-_TAIL:].decode("utf-8", "replace").rstrip().rpartition("\n")[2]
    return _OWN_LINE.fullmatch(last)


def _last_line(stream: bytes) -> str:
    """The last line of the program's own that is not empty; '' when there is none."""
    lines = [line.strip() for line in stream[-_TAIL:].decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line and not _OWN_LINE.fullmatch(line)), "")
