"""One program for each file of a dataset: a workload that has a task for every file that matches a pattern."""

from __future__ import annotations

import functools
import hashlib
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from compute_to_data.catalog_tree import data_objects
from compute_to_data.client import workloads
from compute_to_data.client.given import Given
from compute_to_data.client.task_status.hold_ups import HoldUps
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workloads import WorkloadHandle
from compute_to_data.coordination.pauses import Pauses, WaitingPauses
from compute_to_data.documents import request
from compute_to_data.errors import AlreadyExists, ComputeToDataError, InvalidRequest, NotFound, Refused
from compute_to_data.plain_text import CONTROL
from compute_to_data.records.state import State
from compute_to_data.records.task import ARCHIVED, TaskRecord
from compute_to_data.records.waiting_bound import TooManyWait
from compute_to_data.records.workload import MOST_INSTANCES
from compute_to_data.submission import workloads as submission

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.ports.zone import ClientCatalog

MARK = "{}"
"""What stands for the file in a command."""
INPUT = "/input"
_SHOWN = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_LONGEST_NAME, _DIGITS = 255, 12
_IN_VAIN = (State.FAILED.value, State.CANCELLED.value)
_SUBMITTING_SECONDS = 5.0
_MOST_NUMBERS = 1000
"""How many ids are tried for a file's next task. Tasks that the list does not have, as archived ones, may have some."""


def matching(catalog: ClientCatalog, collection: str, pattern: str) -> list[str]:
    """The data objects below a collection that match a pattern, by their names relative to it, in order. See
    :func:`matched`."""
    start = len(collection) + 1
    return matched((one.logical_path[start:] for one in data_objects(catalog, collection)), pattern, collection)


def matched(given: Iterable[str], pattern: str, collection: str) -> list[str]:
    """Those names of files that match a pattern, in order. ``collection``: what holds them, for the error.

    A pattern without a slash is compared with the last part of a name, any other with the whole name, part by part;
    the part ``**`` stands for any number of parts. NotFound when nothing matches; it says what is there.
    """
    names = sorted(given)
    found = [name for name in names if _matches(name, pattern)]
    if found:
        return found
    if not names:
        raise NotFound(collection, "holds no files")
    kinds = Counter(f"*.{name.rpartition('.')[2]}" if "." in name.rpartition("/")[2] else name for name in names)
    there = ", ".join(f"{kind} ({count})" if count > 1 else kind for kind, count in kinds.most_common(_SHOWN))
    others = f" and others, {len(names)} files in all" if len(kinds) > _SHOWN else ""
    remedy = "Give another pattern, in quotes, so that your shell does not replace it"
    raise NotFound(f"--each {pattern}", f"no file of {collection} matches; it holds {there}{others}", remedy)


def _matches(name: str, pattern: str) -> bool:
    if "/" not in pattern:
        return fnmatchcase(name.rpartition("/")[2], pattern)
    return _parts_match(name.split("/"), pattern.strip("/").split("/"))


def _parts_match(name: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_parts_match(name[start:], pattern[1:]) for start in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _parts_match(name[1:], pattern[1:])


def command_for(command: Sequence[str], name: str, mark: str = MARK) -> list[str]:
    """The command for one file: its path in the sandbox in the place of each ``mark``, else at the end."""
    path = f"{INPUT}/{name}"
    if any(mark in word for word in command):
        return [word.replace(mark, path) for word in command]
    return [*command, path]


def task_name(file: str) -> str:
    """The name of the task for a file: the file's. Of a long one the beginning with a digest, and of one with control
    characters, which no task can have, without these and with a digest."""
    plain = CONTROL.sub("_", file)
    if plain == file and len(file) <= _LONGEST_NAME:
        return file
    digest = hashlib.sha256(file.encode()).hexdigest()[:_DIGITS]
    return f"{plain[: _LONGEST_NAME - _DIGITS - 3]}...{digest}"


def start(workbench: Workbench, image: str, dataset: Given, each: str, **asked: Any) -> WorkloadHandle:
    """Start a workload for the files of a dataset; :func:`submit` adds the tasks. ``asked`` and errors: as for
    :func:`compute_to_data.client.workloads.start`. By default, the worker alone limits how many tasks run."""
    asked["instances"] = asked.get("instances") or MOST_INSTANCES
    return workloads.start(workbench, image, input_dataset=dataset, each=each, **asked)


def submit(
    workload: WorkloadHandle,
    files: Sequence[str],
    command: Sequence[str],
    *,
    mark: str = MARK,
    on_note: Callable[[str], None] = lambda text: None,
    **asked: Any,
) -> Iterator[TaskHandle]:
    """Submit a task for each file that has none yet, or only failed or cancelled ones, and yield it. Where as many of
    the user's tasks wait as the site allows, it goes on when some of them have begun; ``on_note`` receives why it
    waits. ``asked`` and errors: as for :meth:`WorkloadHandle.create_task`."""
    room = _Room(workload, on_note)
    tasks = workload.tasks()
    present = {task.name for task in tasks if task.state not in _IN_VAIN}
    earlier = Counter(task.name for task in tasks)
    ids = frozenset(task.task_id for task in tasks)
    for file in files:
        name = task_name(file)
        if name in present:
            continue
        create = functools.partial(workload.create_task, command_for(command, file, mark), name=name, **asked)
        task = room.created(functools.partial(_only_one, workload, name, earlier[name], ids, create))
        if task is not None:
            yield task


def _only_one(
    workload: WorkloadHandle, name: str, number: int, known: Collection[str], create: Callable[..., TaskHandle]
) -> TaskHandle | None:
    """Create the task for a file, after ``number`` earlier ones; None when another call that maps the same files at
    this moment does. Both calls choose the same id for it, which the zone takes only once. ``known``: ids that are
    taken."""
    for nth in range(number, number + _MOST_NUMBERS):
        task_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{workload.collection}/{nth}/{name}"))
        if task_id in known:
            continue
        try:
            return create(task_id=task_id)
        except AlreadyExists:
            if nth == number + _MOST_NUMBERS - 1:
                raise
            if _is_submitted(workload, task_id):
                return None
    return None


def _is_submitted(workload: WorkloadHandle, task_id: str) -> bool:
    """Whether another call has submitted a task of this id, or does so within some seconds. One that was killed never
    does."""
    workbench, pauses = workload.workbench, Pauses(_FIRST_PAUSE, _LONGEST_PAUSE)
    record = TaskRecord(workbench.catalog, workbench.attributes, f"{workload.collection}/{task_id}", "")
    ends = time.monotonic() + _SUBMITTING_SECONDS
    while True:
        try:
            if record.state() is not None:
                return True
            if ARCHIVED in record.facts(ARCHIVED) or time.monotonic() >= ends:
                return False
        except NotFound:
            return False
        pauses.pause()


class _Room:
    """Waits until the site lets one more task of the user wait."""

    def __init__(self, workload: WorkloadHandle, on_note: Callable[[str], None]) -> None:
        self._workload = workload
        self._on_note = on_note
        self._hold_ups = HoldUps(workload.workbench)
        self._resource = ""

    def created(self, create: Callable[[], TaskHandle | None]) -> TaskHandle | None:
        """What ``create`` returns, as soon as there is room for the task."""
        pauses = WaitingPauses(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                return create()
            except TooManyWait as error:
                self._say_why(error)
            pauses.pause()

    def _say_why(self, error: TooManyWait) -> None:
        """Say once that there is no room, and whenever the worker cannot begin a task; call the worker, which may
        have been killed."""
        if not self._resource:
            self._resource = self._workload.describe().workload.resource
            self._on_note(f"{error.subject} {error.cause}. The others are submitted as some of these begin")
        for task in self._workload.tasks()[:1]:
            TaskHandle(self._workload.workbench, task.collection).call_worker()
        if why := self._hold_ups.news(self._resource):
            self._on_note(why)


def discarded(workload: WorkloadHandle) -> bool:
    """Remove a new workload if none of its tasks was accepted; returns whether it is gone."""
    try:
        if workload.tasks():
            return False
        workload.stop()
        workload.remove()
    except ComputeToDataError:
        return False
    return True


def continued(workbench: Workbench, given: str, image: str, dataset: str, each: str, **asked: Any) -> WorkloadHandle:
    """The workload of an earlier map, which accepts tasks again. ``asked``: as for :func:`start`; what is left out, or
    empty, stays as it is. Refused when that one mapped something else, or otherwise."""
    workload = workloads.find(workbench, given)
    found = workload.describe().workload
    there = {**vars(found), "limits": request.limits_document(found.limits)}
    wanted = {name: value for name, value in asked.items() if value}
    if "limits" in wanted:
        wanted["limits"] = request.limits_document(request.limits(wanted["limits"]))
    needed = {"image": image, "dataset": workloads.collection_of(workbench, dataset), "each": each}
    for name, value in {**needed, **wanted}.items():
        if there[name] != value:
            cause = f"has the {name} {_listed(there[name])}, and this call names {_listed(value)}"
            raise Refused(f"workload {workload.id}", cause, "Give the same command again, or leave out --workload")
    submission.restart(workbench.catalog, workbench.attributes, workload.collection)
    return workload


def _listed(value: Any) -> str:
    """A value of a workload in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={one}" for name, one in value.items()) or "(none)"
    return str(value) or "(none)"


def map_files(
    workbench: Workbench,
    image: str,
    command: Sequence[str],
    *,
    dataset: Given,
    each: str = "*",
    submitted: Callable[[TaskHandle], None] = lambda task: None,
    environment: Mapping[str, str] | None = None,
    **asked: Any,
) -> WorkloadHandle:
    """Start a workload with a task for each matching file. See :meth:`Session.map_files`."""
    submission.need_words(command)
    if not command:
        raise InvalidRequest("command", "names no program", "Give a list of words, such as ['wc', '-l', '{}']")
    files = matching(workbench.catalog, workloads.collection_of(workbench, dataset), each)
    workload = start(workbench, image, dataset, each, environment=environment, **asked)
    try:
        for task in submit(workload, files, command):
            submitted(task)
    except ComputeToDataError:
        discarded(workload)
        raise
    return workload
