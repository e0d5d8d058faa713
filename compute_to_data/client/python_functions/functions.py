"""A decorator that makes a Python function run as a task, beside the data.

    @c2d.as_task(image="python:3.12")
    def count(name: str, word: str) -> int:
        with open(f"/inputs/{name}") as file:
            return file.read().split().count(word)

    with c2d.connect() as session:
        call = count.on("/tempZone/home/alice/sea.txt").submit(session, "sea.txt", "whale")
        print(call.result())

The task's input ``call.json`` holds the function's source and its arguments. Every user who may
read the task can read it. ``result.json`` holds what the function returned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from compute_to_data.client import tasks
from compute_to_data.client.given import Given, input_of
from compute_to_data.client.python_functions import function_call, python_images
from compute_to_data.documents import interpolation
from compute_to_data.errors import ReasonCode, TaskFailed
from compute_to_data.model import name_of
from compute_to_data.records.task import new_task_id

if TYPE_CHECKING:
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.client.workbench import Workbench

_RESULT = "result.json"
_CALL = "call.json"
_CALLS = "calls"

R = TypeVar("R")


@dataclass(frozen=True)
class Settings:
    """How a function runs. The fields are those of a request (docs/task-format.md), and: ``python``,
    the program in the image; ``reuse``, whether the result may come from an identical earlier call."""

    image: str
    role: str = ""
    resource: str = ""
    inputs: tuple[str | Mapping[str, str], ...] = ()
    environment: Mapping[str, str] | None = None
    limits: Mapping[str, float] | None = None
    output_collection: str = ""
    python: str = "python3"
    reuse: bool = False


@overload
def as_task(function: Callable[..., R], /) -> TaskFunction[R]: ...


@overload
def as_task(
    *,
    image: str = "",
    role: str = "",
    resource: str = "",
    environment: Mapping[str, str] | None = None,
    limits: Mapping[str, float] | None = None,
    output_collection: str = "",
    python: str = "python3",
    reuse: bool = False,
) -> Callable[[Callable[..., R]], TaskFunction[R]]: ...


def as_task(
    function: Callable[..., R] | None = None,
    /,
    *,
    image: str = "",
    role: str = "",
    resource: str = "",
    environment: Mapping[str, str] | None = None,
    limits: Mapping[str, float] | None = None,
    output_collection: str = "",
    python: str = "python3",
    reuse: bool = False,
) -> Callable[[Callable[..., R]], TaskFunction[R]] | TaskFunction[R]:
    """Make a function run as a task in ``image``, which the site must allow and which has Python 3.7 or later.

    Without an image, also as ``@c2d.as_task`` without parentheses, each call looks for one: the only
    image there is, or the only one that is a Python (:func:`python_images.choose`). Without role and
    resource the role is CONTAINER. Arguments and result must be values that JSON carries unchanged:
    None, bool, int, float, str, and lists and dicts of these. The function imports what it needs in
    its body. The decorator raises InvalidRequest for a function that uses variables of its module or
    of an enclosing function.

    >>> @c2d.as_task(image=image)
    ... def longest(text: str) -> str:
    ...     return max(text.split(), key=len)
    >>> longest("call me Ishmael")
    'Ishmael'
    >>> longest.__wrapped__("here, not as a task")
    'here,'
    """
    settings = Settings(
        image, role, resource, (), environment, limits, output_collection=output_collection, python=python, reuse=reuse
    )

    def decorate(decorated: Callable[..., R]) -> TaskFunction[R]:
        return TaskFunction(decorated, settings)

    return decorate if function is None else decorate(function)


class TaskFunction(Generic[R]):
    """A function that can run as a task. Calling it submits a task and waits for the result."""

    __wrapped__: Callable[..., R]
    """The function itself, to call it on this host."""

    def __init__(self, function: Callable[..., R], settings: Settings) -> None:
        self.source = function_call.source_of(function)
        self.settings = settings
        update_wrapper(self, function)

    def on(self, *inputs: Given | Mapping[str, str]) -> TaskFunction[R]:
        """The same function with these inputs, written as in a request: logical paths, ids of datasets and
        tasks, or objects such as ``{"path": P, "name": N}``; or what an upload returned, or a task. It finds them at
        ``/inputs/<name>``."""
        named = (one if isinstance(one, Mapping) else input_of(one) for one in inputs)
        return TaskFunction(self.__wrapped__, replace(self.settings, inputs=(*self.settings.inputs, *named)))

    def __call__(self, *args: Any, **kwargs: Any) -> R:
        """Run it as a task in a new session, and return its result. Raises as :meth:`submit`."""
        from compute_to_data.client.session import connect

        function_call.written(self.__wrapped__, self.source, args, kwargs)  # refuse wrong arguments before connecting
        with connect() as session:
            return self.submit(session, *args, **kwargs).result()

    def submit(self, session: Workbench, *args: Any, **kwargs: Any) -> FunctionCall[R]:
        """Queue a task that calls the function. TypeError and InvalidRequest for wrong arguments;
        Refused or the zone's error as :meth:`Session.submit`. After an error nothing is left behind."""
        content = function_call.written(self.__wrapped__, self.source, args, kwargs)
        image = self.settings.image or python_images.choose(session, self.__wrapped__.__name__)
        task_id = new_task_id()
        results = self.settings.output_collection or session.results
        place = f"{results}/{_CALLS}/{task_id}"
        session.catalog.create_collection(place, parents=True)
        try:
            session.catalog.write(f"{place}/{_CALL}", content)
            document = self.document(f"{place}/{_CALL}", results, image)
            task = tasks.submit(session, document, task_id=task_id, reuse=self.settings.reuse)
        except BaseException:
            session.catalog.remove(place, recursive=True)
            raise
        if task.is_reused:
            session.catalog.remove(place, recursive=True)  # the earlier task has its own call.json
        return FunctionCall(task)

    def document(self, call: str, results: str, image: str = "") -> dict[str, Any]:
        """The task's request. ``call``: the logical path of ``call.json``. ``image``: for a function without one."""
        given = self.settings
        optional = {"role": given.role, "resource": given.resource, "limits": dict(given.limits or {})}
        if not given.role and not given.resource:
            optional["role"] = "CONTAINER"
        process: dict[str, Any] = {
            "image": given.image or image,
            "exec": given.python,
            "argv": ["-c", interpolation.escaped(function_call.runner())],
        }
        if given.environment:
            process["environment"] = dict(given.environment)
        return {
            **{name: value for name, value in optional.items() if value},
            "name": self.__wrapped__.__name__,
            "inputs": [call, *given.inputs],
            "output_collection": results,
            "process": process,
            "expected_outputs": [_RESULT],
        }


@dataclass(frozen=True)
class FunctionCall(Generic[R]):
    """A submitted call."""

    task: TaskHandle

    def result(self, timeout: float | None = None) -> R:
        """Wait for the task, and return what the function returned.

        TaskFailed, with the last line of the traceback, when the function raised or the task was
        stopped. TimeoutError after ``timeout`` seconds; the task continues.
        """
        self.task.wait(timeout)
        content = self.task.results()[_RESULT].bytes()
        try:
            result: R = json.loads(content)["result"]
        except (ValueError, KeyError, TypeError, RecursionError):
            subject = f"task {self.task.id}"
            raise TaskFailed(
                ReasonCode.OUTPUT_MISSING, subject, f"{name_of(self.task.collection)}/{_RESULT} holds no result"
            ) from None
        return result
