"""Workloads as a person uses them: many short tasks of one image, in sandboxes kept warm."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compute_to_data.client import removing, standard_input, workload_tasks
from compute_to_data.client.given import Given, input_of, need_object, several, text_of
from compute_to_data.client.kinds import Kind, Named
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workload_tasks import ListedTask
from compute_to_data.errors import InvalidRequest, NotFound
from compute_to_data.inputs import naming
from compute_to_data.model import EntityKind, Query, name_of
from compute_to_data.plain_text import spaced
from compute_to_data.records.task import timestamp
from compute_to_data.records.workload import STATE, is_workload_id
from compute_to_data.submission import workloads

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.client.workload_download import Downloaded

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
        stdin: standard_input.StandardInput | None = None,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        walltime_seconds: float | None = None,
        secrets: Sequence[str] = (),
        task_id: str = "",
    ) -> TaskHandle:
        """Queue a task with this argument vector, standard input and secrets, which it reads as files.

        ``stdin``: the bytes, or a binary file, of which all that comes is read; or the path of a file of this computer.
        ``environment``: variables in addition to the workload's. ``name``: by default the command. ``task_id``: the id
        of the new task, by default a random one.

        Refused when the workload is stopped; AlreadyExists when it has a task of this id; InvalidRequest, or the zone's
        error.
        """
        workbench = self.workbench
        workloads.need_words(command)
        need_object(environment, "/environment")
        standard_input.need_bytes(stdin)
        path = "" if stdin is None else standard_input.put(workbench, self.collection, stdin)
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

    def tasks(self) -> list[ListedTask]:
        """The workload's tasks, newest first."""
        return workload_tasks.listed(self.workbench.catalog, self.workbench.attributes, self.collection)

    def current_tasks(self) -> list[ListedTask]:
        """The workload's tasks, oldest first. If it has a task for each file: only the newest one of each file."""
        return workload_tasks.current(self.tasks(), by_file=self._has_a_task_for_each_file)

    @property
    def _has_a_task_for_each_file(self) -> bool:
        return bool(self.describe().workload.each)

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
        from compute_to_data.client import workload_download

        catalog, by_file = self.workbench.catalog, self._has_a_task_for_each_file
        return workload_download.download(catalog, self.tasks(), by_file, directory, force=force, fetched=fetched)


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
    names = workload_tasks.names(catalog, attributes.named("name"), place)
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
