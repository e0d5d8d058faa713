"""The values that a role's hooks return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from compute_to_data.model import Access


@dataclass(frozen=True)
class Program:
    """What a role wants run: an image by name, argument vectors in order, an environment.

    ``allowed_nonzero`` are indices of commands that may exit nonzero; ``stdin`` and ``stdout``
    name files inside the sandbox that the first command reads and the last one writes ('' for
    none).
    """

    image: str
    commands: tuple[tuple[str, ...], ...]
    allowed_nonzero: frozenset[int] = frozenset()
    stdin: str = ""
    stdout: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = ""


@dataclass(frozen=True)
class RequiredAccess:
    """The access a task's owner must have on its inputs and on its output collection."""

    inputs: Access = Access.READ_OBJECT
    output_collection: Access = Access.OWN


class Retention(Enum):
    """What becomes of the replicas of inputs that staging made on the compute resource. Those
    that were there before, or that another task is using, are never touched."""

    KEEP = "keep"
    TRIM = "trim"
