"""A role of a site's own, as CONTRIBUTING.md says to write one."""

from __future__ import annotations

import sys  # noqa: F401 - for the expressions below
from collections.abc import Mapping
from typing import Any

from compute_to_data.job import Exit, Logs
from compute_to_data.model import Access, Avu
from compute_to_data.pipeline.hooks import Program, RequiredAccess, Retention  # noqa: F401
from compute_to_data.pipeline.template import Role
from compute_to_data.roles.container import Container
from compute_to_data.task import Task


class TidyContainer(Container):
    """Gives back the room its inputs took, asks for more access than it must, and says so."""

    def required_access(self, task: Task) -> RequiredAccess:
        return RequiredAccess(inputs=Access.MODIFY_OBJECT)

    def retention(self, task: Task) -> Retention:
        return Retention.TRIM

    def annotations(self, task: Task, exit: Exit) -> tuple[Avu, ...]:
        return (Avu("tidied", str(self.settings["by"])),)

    def explanation(self, exit: Exit, logs: Logs) -> str:
        return f"it said {logs.stdout.decode().strip()}"


class FaultyContainer(Container):
    """A role whose hooks do what its settings say: each names a hook and a Python expression for its answer."""

    def _answer(self, hook: str, *arguments: Any) -> Any:
        told = self.settings.get(f"faulty_{hook}")
        return getattr(super(), hook)(*arguments) if told is None else eval(told)

    def program(self, *arguments: Any) -> Any:
        return self._answer("program", *arguments)

    def required_access(self, *arguments: Any) -> Any:
        return self._answer("required_access", *arguments)

    def expected_outputs(self, *arguments: Any) -> Any:
        return self._answer("expected_outputs", *arguments)

    def metadata_output(self, *arguments: Any) -> Any:
        return self._answer("metadata_output", *arguments)

    def annotations(self, *arguments: Any) -> Any:
        return self._answer("annotations", *arguments)

    def results_to(self, *arguments: Any) -> Any:
        return self._answer("results_to", *arguments)

    def retention(self, *arguments: Any) -> Any:
        return self._answer("retention", *arguments)

    def explanation(self, *arguments: Any) -> Any:
        return self._answer("explanation", *arguments)


class Demanding(Container):
    """A role that is not made without a setting."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(name, settings)
        self.threshold = settings["threshold"]


class WithoutProgram(Role):
    """A role that lacks the one hook that it must have."""
