"""A role's hooks, called so that a fault in one of them ends its task with a reason that names role and hook.

A site writes roles of its own. Their errors are no errors of ours, and what they return is used long afterwards: so it
is checked here, where it is known who returned it.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from compute_to_data.configuration import Attributes
from compute_to_data.documents import schema_words as words
from compute_to_data.errors import ComputeToDataError, ConfigurationError
from compute_to_data.job import Exit, Logs
from compute_to_data.model import Avu
from compute_to_data.pipeline.hooks import Hooks, Program, RequiredAccess, Retention, Step
from compute_to_data.pipeline.results import output_metadata
from compute_to_data.task import Task

log = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_REMEDY = "Tell the administrator: whoever maintains this role's class has to mend it"


class CheckedHooks(Hooks):
    """The hooks of a role. ConfigurationError when one of them raises anything that is not ours, SystemExit included,
    or returns something else than :class:`Hooks` says."""

    def __init__(self, role: Hooks, attributes: Attributes) -> None:
        super().__init__(role.name, role.settings)
        self._role = role
        self._reserved = (f"{attributes.prefix}::", attributes.claim)

    def program(self, task: Task, inputs: tuple[str, ...], supplied: Mapping[str, str]) -> Program:
        return self._asked("program", _program, task, inputs, supplied)

    def required_access(self, task: Task) -> RequiredAccess:
        return self._asked("required_access", _one_of(RequiredAccess), task)

    def expected_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        return self._asked("expected_outputs", _each(str), task, inputs)

    def annotations(self, task: Task, exit: Exit) -> tuple[Avu, ...]:
        return self._asked("annotations", self._avus, task, exit)

    def metadata_output(self, task: Task, inputs: tuple[str, ...]) -> str:
        return self._asked("metadata_output", _text, task, inputs)

    def results_to(self, task: Task) -> str:
        return self._asked("results_to", _text, task)

    def retention(self, task: Task) -> Retention:
        return self._asked("retention", _one_of(Retention), task)

    def explanation(self, exit: Exit, logs: Logs) -> str:
        """The role's; the default one, where the role fails at it: the program's failure is the task's reason."""
        try:
            return self._asked("explanation", _text, exit, logs)
        except ComputeToDataError as error:
            log.warning("%s", error)
            return super().explanation(exit, logs)

    def _asked(self, hook: str, checked: Callable[[Any], _Answer], *arguments: Any) -> _Answer:
        try:
            answer = getattr(self._role, hook)(*arguments)
        except ComputeToDataError:
            raise
        except (Exception, SystemExit) as error:  # the boundary to code that is not ours
            log.exception("role %s: its hook %s raised an error", self.name, hook)
            raise self._fault(hook, raised(error)) from error
        try:
            return checked(answer)
        except _Wrong as wrong:
            raise self._fault(hook, str(wrong)) from None

    def _fault(self, hook: str, cause: str) -> ConfigurationError:
        return ConfigurationError(f"role {self.name}", f"its hook {hook} {cause}", _REMEDY)

    def _avus(self, answer: Any) -> tuple[Avu, ...]:
        found = _each(Avu)(answer)
        for avu in found:
            fault = output_metadata.fault(avu)
            if fault:
                raise _Wrong(f"returned an AVU with {fault}: {words.shown(str(avu.attribute))}")
            if avu.attribute.startswith(self._reserved):
                raise _Wrong(f"returned the AVU {words.quoted(avu.attribute)}, which is reserved for the system")
        return found


def raised(error: BaseException) -> str:
    """``raised KeyError: 'threshold' (roles.py, line 12)``: an error of a role, and where it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rpartition('/')[2]}, line {frames[-1].lineno})" if frames else ""
    return f"raised {type(error).__name__}: {error}{where}"


class _Wrong(Exception):
    """What a hook returned is not what it should be."""


def _need(answer: Any, kind: type[_Answer], what: str) -> _Answer:
    if not isinstance(answer, kind):
        raise _Wrong(f"returned {_shown(answer)}, expected {what}")
    return answer


def _shown(answer: Any) -> str:
    return "None" if answer is None else f"{answer!r:.60} of type {type(answer).__name__}"


def _one_of(kind: type[_Answer]) -> Callable[[Any], _Answer]:
    return lambda answer: _need(answer, kind, f"a {kind.__name__}")


def _text(answer: Any) -> str:
    return _need("" if answer is None else answer, str, "a string")


def _each(kind: type[_Answer]) -> Callable[[Any], tuple[_Answer, ...]]:
    """A tuple of this type, made from any sequence."""
    what = f"a tuple of {kind.__name__}"

    def checked(answer: Any) -> tuple[_Answer, ...]:
        if isinstance(answer, (str, bytes, Mapping)) or not isinstance(answer, Iterable):
            raise _Wrong(f"returned {_shown(answer)}, expected {what}")
        return tuple(_need(one, kind, what) for one in answer)

    return checked


def _program(answer: Any) -> Program:
    program = _need(answer, Program, "a Program")
    for step in _each(Step)(program.steps):
        _need(step.image, str, "an image's name")
        _each(str)(step.argv)
        for name, value in _need(step.environment, Mapping, "an environment").items():  # type: ignore[type-abstract]
            if not (isinstance(name, str) and isinstance(value, str)):
                raise _Wrong(f"returned the variable {name!r:.60} with {_shown(value)}, expected strings")
    return program
