"""Workloads as a person uses them: many short tasks of one image, in sandboxes kept warm."""

from __future__ import annotations

import functools
import io
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from compute_to_data.client import removing
from compute_to_data.client.given import Given, input_of, need_object, several, text_of
from compute_to_data.client.kinds import Kind, Named
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.documents.schema_words import shown
from compute_to_data.errors import AlreadyExists, ComputeToDataError, InvalidRequest, NotFound, OutOfReach
from compute_to_data.inputs import naming
from compute_to_data.model import EntityKind, Query, name_of
from compute_to_data.plain_text import spaced
from compute_to_data.records.state import State
from compute_to_data.records.task import timestamp
from compute_to_data.records.workload import STATE, is_workload_id
from compute_to_data.submission import workloads

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports.zone import ClientCatalog

_BEGINNING = re.compile(r"w-[0-9a-f]{2,12}")
"""The id of a workload, or the beginning of one. Less would name whichever workload is the only one."""
_SHOWN = 5
_LONGEST_NAME = 255


@dataclass(frozen=True)
class ListedWorkload:
    """A workload in a listing. ``created`` in ISO 8601, UTC."""

    workload: str
    name: str
    state: str
    resource: str
    created: str
    collection: str


@dataclass(frozen=True)
class ListedTask:
    """A task of a workload in a listing. ``name`` is by default the task's command."""

    task_id: str
    name: str
    state: str
    created: str
    collection: str


@dataclass(frozen=True)
class Downloaded:
    """What :meth:`WorkloadHandle.download` did: ``folders`` by task id, ``unfinished`` tasks, which
    have no results yet, ``incomplete`` tasks, whose results are missing, damaged or not fetched in part,
    and ``failed`` tasks, of which nothing was fetched, with the error's text."""

    folders: Mapping[str, str]
    unfinished: tuple[str, ...]
    incomplete: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether every task that has ended was fetched whole."""
        return not self.incomplete and not self.failed


class WorkloadHandle:
    """One workload, by its collection. Every method asks the zone again.

    >>> with c2d.connect() as session:
    ...     workload = session.start_workload(image, instances=2)
    ...     tasks = [workload.create_task(["echo", word]) for word in ("one", "two")]
    ...     print([task.wait().state.value for task in tasks])
    ...     print(sorted(task.name for task in workload.tasks()))
    ...     print(workload.stop(), workload.describe().state)
    ['COMPLETED', 'COMPLETED']
    ['echo one', 'echo two']
    [] STOPPED
    """

    def __init__(self, workbench: Workbench, collection: str) -> None:
        self.workbench = workbench
        self.collection = collection

    def __repr__(self) -> str:
        return f"<WorkloadHandle {self.collection}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkloadHandle) and other.collection == self.collection

    def __hash__(self) -> int:
        return hash(self.collection)

    @property
    def id(self) -> str:
        """The workload's id (``w-...``), which names its collection."""
        return name_of(self.collection)

    def create_task(
        self,
        command: Sequence[str],
        *,
        stdin: bytes | BinaryIO | os.PathLike[str] | None = None,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        walltime_seconds: float | None = None,
        secrets: Sequence[str] = (),
        task_id: str = "",
    ) -> TaskHandle:
        """Queue a task with this argument vector, standard input and secrets, which it reads as files. ``stdin``: the
        bytes, or a binary file, of which all that comes is read; or the path of a file of this computer.
                task_id=task_id,

        Refused when the workload is stopped; AlreadyExists when it has a task of this id; InvalidRequest, or the zone's
        error.
        """
        workbench = self.workbench
        workloads.need_words(command)
        need_object(environment, "/environment")
        _need_bytes(stdin)
        path = "" if stdin is None else self._put_stdin(stdin)
        try:
            submitted = workloads.create_task(
                workbench.catalog,
                workbench.configuration,
                self.collection,
                command,
                stdin=path,
                name=name or _shown(command),
                environment=environment,
                walltime_seconds=walltime_seconds,
                secrets=several(secrets, "secrets"),
                task_id=task_id,
            )
        except BaseException:
            if path:
                workbench.catalog.remove(path)
            raise
        task = TaskHandle(workbench, submitted.collection)
        task.call_worker()
        return task

    def _put_stdin(self, stdin: bytes | BinaryIO | os.PathLike[str]) -> str:
        """Store standard input; returns its data object. Of a pipe, a file of this computer has it first."""
        place = self.workbench.catalog, self.workbench.attributes, self.collection
        if isinstance(stdin, os.PathLike):
            return workloads.put_stdin(*place, os.fspath(stdin))
        if isinstance(stdin, (bytes, bytearray, memoryview)):
            return workloads.put_stdin(*place, bytes(stdin))
        with tempfile.TemporaryDirectory(prefix="c2d-") as folder:
            file = os.path.join(folder, "stdin")
            with open(file, "wb") as copy:
                shutil.copyfileobj(stdin, copy)
            return workloads.put_stdin(*place, file)

    def tasks(self) -> list[ListedTask]:
        """The workload's tasks, newest first."""
        attributes, catalog = self.workbench.attributes, self.workbench.catalog
        names = _names(catalog, attributes.named("name"), self.collection)
        return [
            ListedTask(
                name_of(one.collection),
                names.get(one.collection, ""),
                one.value,
                timestamp(one.created),
                one.collection,
            )
            for one in catalog.query(
                Query(EntityKind.COLLECTION, attributes.state, within=self.collection, newest_first=True)
            )
        ]

    def current_tasks(self) -> list[ListedTask]:
        """The workload's tasks, oldest first. If it has a task for each file: only the newest one of each file."""
        oldest_first = self.tasks()[::-1]
        if not self.describe().workload.each:
            return oldest_first
        return list({task.name: task for task in oldest_first}.values())

    def describe(self) -> workloads.Description:
        """What was asked for, and how many of its tasks are in each state."""
        return workloads.describe(self.workbench.catalog, self.workbench.attributes, self.collection)

    def stop(self) -> list[TaskHandle]:
        """Accept no more tasks, and cancel the unfinished tasks; returns these."""
        unfinished = workloads.stop(self.workbench.catalog, self.workbench.attributes, self.collection)
        asked = [TaskHandle(self.workbench, one) for one in unfinished]
        for task in asked[:1]:
            task.call_worker()
        return asked

    def remove(self) -> removing.Removal:
        """Remove the workload with all its tasks and their results; returns what was removed. Refused unless it
        is STOPPED, and while an unfinished task is in it or depends on it."""
        run = removing.Removing(self.workbench)
        planned = run.plan(Named(Kind.WORKLOAD, self.id, self.collection))
        run.remove(planned)
        return planned

    def download(
        self, directory: str, *, force: bool = False, fetched: Callable[[int, int], None] = lambda done, all: None
    ) -> Downloaded:
        """Fetch the results of each ended task into ``<directory>/<task id>``; files already there stay.

        If the workload has a task for each file, the folder has the file's name instead, and of several tasks for
        one file only the newest is fetched, in the place of an unchanged copy of an earlier one's results. ``fetched``
        receives how many tasks are done, and how many there are. A task that cannot be fetched does not stop the
        others, unless the zone does not answer.
        """
        from compute_to_data.client import fetching

        folders: dict[str, str] = {}
        failed: dict[str, str] = {}
        unfinished: list[str] = []
        incomplete: list[str] = []
        by_file = bool(self.describe().workload.each)
        listed = self.current_tasks()
        for number, task in enumerate(listed, start=1):
            if not State(task.state).is_final:
                unfinished.append(task.task_id)
                continue
            folder = task.name if by_file and _is_relative(task.name) else ""
            fetch = functools.partial(fetching.fetch, self.workbench.catalog, task.collection, directory, folder=folder)
            try:
                try:
                    done = fetch(force=force)
                except AlreadyExists:
                    if not folder or not self._discarded_earlier(task, os.path.join(directory, folder)):
                        raise
                    done = fetch(force=force)
            except OutOfReach:
                raise
            except ComputeToDataError as error:
                failed[task.task_id] = str(error)
            else:
                folders[task.task_id] = done.directory
                incomplete += [] if done.is_complete else [task.task_id]
            fetched(number, len(listed))
        return Downloaded(folders, tuple(unfinished), tuple(incomplete), failed)

    def _discarded_earlier(self, task: ListedTask, folder: str) -> bool:
        """Remove a folder that holds nothing but a copy of what an earlier task for the same file left. Returns whether
        it did."""
        from compute_to_data.client import fetching

        for one in self.tasks():
            is_earlier = one.name == task.name and one.task_id != task.task_id
            if is_earlier and fetching.is_copy(self.workbench.catalog, one.collection, folder):
                shutil.rmtree(folder)
                return True
        return False


def _need_bytes(stdin: object) -> None:
    """InvalidRequest for what cannot be standard input."""
    if isinstance(stdin, str):
        raise InvalidRequest("stdin", "is text, and a program reads bytes", "Encode it: stdin=text.encode()")
    if isinstance(stdin, io.TextIOBase):
        raise InvalidRequest("stdin", "is a file opened for text, and a program reads bytes", 'Open it with "rb"')
    is_content = stdin is None or isinstance(stdin, (bytes, bytearray, memoryview, os.PathLike))
    if not is_content and not hasattr(stdin, "read"):
        raise InvalidRequest("stdin", f"found {shown(stdin)}", "Give bytes, a binary file, or a pathlib.Path")


def _is_relative(name: str) -> bool:
    """Whether a task's name, which its owner can change, leads to a place below a folder."""
    return not {"", ".", ".."} & set(name.split("/"))


def _shown(command: Sequence[str]) -> str:
    """A command as a task's name: on one line, shortened when it is too long."""
    text = spaced(shlex.join(command))
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."


def start(
    workbench: Workbench, image: str, *, input_dataset: Given = "", workload_id: str = "", **asked: Any
) -> WorkloadHandle:
    """Start a workload in the project of the workbench.

    ``input_dataset``: the id of a dataset or of a task, an upload, or any collection; tasks find its files at
    ``/input``. For the other arguments and the errors see :func:`compute_to_data.submission.workloads.accept`.
    """
    asked = _checked(asked, workbench, input_dataset)
    place = workbench.catalog, workbench.configuration, workbench.project
    started = workloads.start(*place, image=image, workload_id=workload_id, **asked)
    return WorkloadHandle(workbench, started.collection)


def check(workbench: Workbench, image: str, **asked: Any) -> None:
    """Raise what :func:`start` would raise, except about the dataset. Call it before you upload that."""
    place = workbench.catalog, workbench.configuration, workbench.project
    workloads.accept(*place, image=image, **_checked(asked, workbench))


def _checked(asked: dict[str, Any], workbench: Workbench, dataset: Given = "") -> dict[str, Any]:
    need_object(asked.get("limits"), "/limits")
    need_object(asked.get("environment"), "/environment")
    return {**asked, "dataset": collection_of(workbench, dataset), "ask_images": workbench.held_images}


def collection_of(workbench: Workbench, dataset: Given) -> str:
    """The collection with the files of a dataset, given by its id or as a collection; '' for ''."""
    dataset = input_of(dataset)
    if not dataset:
        return ""
    given = workbench.absolute(dataset) if "/" in dataset else dataset
    return naming.collection(workbench.catalog, workbench.attributes, given, [workbench.project])


def find(workbench: Workbench, given: Given) -> WorkloadHandle:
    """The project's workload with this id or an id that begins so, or the workload at a logical path.
    NotFound; InvalidRequest when several workloads match."""
    given = text_of(given, "workload")
    if given.startswith("/"):
        collection = given.rstrip("/")
        if not is_workload_id(name_of(collection)):
            remedy = "List the workloads: c2d workload list"
            raise InvalidRequest(f"workload {given}", "is not the collection of a workload", remedy)
        return WorkloadHandle(workbench, collection)
    known = [one.collection for one in listed(workbench)] if _BEGINNING.fullmatch(given) else []
    meant = [one for one in known if name_of(one).startswith(given)]
    if not meant:
        cause = f"does not exist in {workbench.project}"
        raise NotFound(f"workload {given}", cause, "List the project's workloads: c2d workload list")
    if len(meant) > 1:
        names = ", ".join(name_of(one) for one in meant[:_SHOWN])
        raise InvalidRequest(f"workload {given}", f"several workloads match: {names}", "Give more of the id")
    return WorkloadHandle(workbench, meant[0])


def listed(workbench: Workbench) -> list[ListedWorkload]:
    """The project's workloads, newest first."""
    attributes, catalog = workbench.attributes, workbench.catalog
    place = f"{workbench.project}/{workloads.WORKLOADS}"
    names = _names(catalog, attributes.named("name"), place)
    return [
        ListedWorkload(
            name_of(one.collection),
            names.get(one.collection, ""),
            one.value,
            one.units,
            timestamp(one.created),
            one.collection,
        )
        for one in catalog.query(Query(EntityKind.COLLECTION, attributes.named(STATE), within=place, newest_first=True))
        if is_workload_id(name_of(one.collection))
    ]


def _names(catalog: ClientCatalog, attribute: str, place: str) -> dict[str, str]:
    """The names of the tasks or workloads that a collection holds, by their collections."""
    return {one.collection: one.value for one in catalog.query(Query(EntityKind.COLLECTION, attribute, within=place))}
