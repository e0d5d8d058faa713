"""What the job writes: shown while it runs to users who follow the task, and kept when it has ended.

The engine writes the job's log, a file beside the outputs (see ``log_file``). When a user follows the task, the
worker registers this file once, as a data object of the task's owner, and does nothing more: a server reads the file
where it is, so each byte is visible at once. When the job has ended, the worker makes one file of each stream from
the log, and removes the log.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from compute_to_data import log_file
from compute_to_data.errors import Code, ComputeToDataError, EngineError, NotFound
from compute_to_data.job import Logs
from compute_to_data.model import DataObject, Registration
from compute_to_data.pipeline.execution import Execution
from compute_to_data.pipeline.vault import outputs
from compute_to_data.task import EARLIER_LIVE_NAMES, LIVE_LOG_NAME, LOG_NAMES, TIMES_NAME

log = logging.getLogger(__name__)

_AFTER_ERROR = 5.0
"""Seconds until the next try when the log could not be registered."""
_TAIL = 1 << 16
"""How many last bytes of each stream the worker keeps in memory, to explain a failure."""
_BLOCK = 1 << 20
MOST_APART = 64
"""More than the steps of a program that run in containers of their own."""
_SAME_TIME = 1.0
"""Output that came within this many seconds needs no file with times."""


class LiveLog:
    """Shows the log of one job that this worker watches. Errors here never fail the task."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._is_shown = self._has_warned = False

    def show(self) -> float:
        """Register the log if a user follows the task. Returns the seconds until the next try."""
        if not self._execution.followed or self._is_shown:
            return math.inf
        try:
            self._register()
        except (ComputeToDataError, OSError) as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("task %s: the worker cannot show its log: %s", self._execution.record.task_id, error)
            return _AFTER_ERROR
        self._is_shown = True
        return math.inf

    def _register(self) -> None:
        execution = self._execution
        _unregister(execution)  # an earlier attempt may have registered it
        execution.journal.save(replace(execution.checkpoint, live=True))
        path = f"{execution.record.collection}/{LIVE_LOG_NAME}"
        size = log_file.Layout(execution.job.limits.log_bytes).size
        file = Registration(path, execution.log_file, size, "")
        execution.record.catalog.register(execution.context.resource.name, [file])


def hide(execution: Execution) -> None:
    """Remove the log from the catalog. Users who have it open can read it to its end. The worker still makes files
    from it: until the task's end, it may have to make them again."""
    _unregister(execution)
    for name in EARLIER_LIVE_NAMES:
        delete(os.path.join(execution.private, name))
    if execution.checkpoint.live:
        execution.journal.save(replace(execution.checkpoint, live=False))


def _unregister(execution: Execution) -> None:
    """Unregister the log if it may be registered. Data objects of the owner with that name stay."""
    if not execution.checkpoint.live:
        return
    catalog, collection = execution.record.catalog, execution.record.collection
    files = {LIVE_LOG_NAME: execution.log_file}
    files.update({name: os.path.join(execution.private, name) for name in EARLIER_LIVE_NAMES})
    for name, physical_path in files.items():
        try:
            found = catalog.stat(f"{collection}/{name}")
        except NotFound:
            continue
        if isinstance(found, DataObject) and any(one.physical_path == physical_path for one in found.replicas):
            catalog.unregister([found.logical_path])


# After the job's end


def collect(execution: Execution) -> None:
    """Read the last bytes of each stream from the log."""
    with contextlib.suppress(FileNotFoundError), _reading(execution) as reader:
        header = reader.header()
        execution.logs = Logs(*(log_file.tail(reader, header, stream, _TAIL) for stream in (0, 1)))


def kept_logs(execution: Execution) -> Logs:
    """The last bytes of the files that an interrupted attempt made of each stream."""
    return Logs(*(_end_of(os.path.join(execution.private, name)) for name in LOG_NAMES))


def _end_of(physical_path: str) -> bytes:
    try:
        with open(physical_path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            return file.read(_TAIL)
    except FileNotFoundError:
        return b""


def log_files(execution: Execution) -> list[Registration]:
    """Make one file of each stream from the log, unless the stream is empty, and one that says when it came.

    If the log is gone, an interrupted attempt has made them. They stay when the task fails.
    EngineError when the worker cannot write them.
    """
    made = execution.log_files
    if made is None or not all(os.path.exists(one.physical_path) for one in made):  # undoing may have removed them
        try:
            execution.log_files = _made(execution)
        except FileNotFoundError:
            execution.log_files = _of_parts(execution) if execution.checkpoint.ended else _made_before(execution)
    return execution.log_files or []


def _made(execution: Execution) -> list[Registration]:
    """The files, made from the log. FileNotFoundError when there is no log."""
    files = []
    with _reading(execution) as reader:
        header = reader.header()
        for stream, name in enumerate(LOG_NAMES):
            part = log_file.kept(reader, header, stream)
            if part.missing:
                execution.missing_log_bytes[log_file.STREAMS[stream]] = part.missing
            if part.end or _parts(execution, name):
                blocks = chain(_content_of(_parts(execution, name)), log_file.remains(reader, header, part))
                files.append(_write(execution, name, blocks))
        marks = [] if execution.checkpoint.ended else reader.marks(header)
        if marks and marks[-1][0] - marks[0][0] > _SAME_TIME:
            lines = "".join(f"{when:.3f} {out} {err}\n" for when, (out, err) in marks)
            files.append(_write(execution, TIMES_NAME, [lines.encode()]))
    return files


def keep_part(execution: Execution) -> tuple[int, int]:
    """Make a file of each stream from the log of a step in a container of its own, after which another one runs.
    Returns their sizes in bytes."""
    number, sizes = len(execution.checkpoint.ended), [0, 0]
    with contextlib.suppress(FileNotFoundError), _reading(execution) as reader:
        header = reader.header()
        for stream, name in enumerate(LOG_NAMES):
            part = log_file.kept(reader, header, stream)
            missing, which = part.missing, log_file.STREAMS[stream]
            if missing:
                execution.missing_log_bytes[which] = execution.missing_log_bytes.get(which, 0) + missing
            if part.end:
                kept = _write(execution, _part_name(number, name), log_file.remains(reader, header, part))
                sizes[stream] = kept.size
    return sizes[0], sizes[1]


def forget_log(execution: Execution) -> None:
    """Remove the log of a step of which :func:`keep_part` has made files."""
    hide(execution)
    delete(execution.log_file)


def discard_parts(execution: Execution) -> None:
    """Delete the files of :func:`keep_part`."""
    for number in range(MOST_APART):
        for name in LOG_NAMES:
            delete(os.path.join(execution.private, _part_name(number, name)))


def _part_name(number: int, name: str) -> str:
    return f"PART.{number}.{name}"


def _parts(execution: Execution, name: str) -> list[str]:
    """The physical paths of what earlier steps wrote to a stream."""
    numbers = range(len(execution.checkpoint.ended))
    paths = (os.path.join(execution.private, _part_name(number, name)) for number in numbers)
    return [path for path in paths if os.path.exists(path)]


def _content_of(physical_paths: Iterable[str]) -> Iterator[bytes]:
    for path in physical_paths:
        with open(path, "rb") as file:
            yield from iter(functools.partial(file.read, _BLOCK), b"")


def _of_parts(execution: Execution) -> list[Registration]:
    """The files of a task of whose current step there is no log."""
    named = [(name, _parts(execution, name)) for name in LOG_NAMES]
    made = [_write(execution, name, _content_of(parts)) for name, parts in named if parts]
    return made or _made_before(execution)


def _made_before(execution: Execution) -> list[Registration]:
    """The files of an interrupted attempt. If the results have moved, their content is in ``execution.logs``."""
    files = []
    contents = (execution.logs.stdout, execution.logs.stderr, b"")
    for name, content in zip((*LOG_NAMES, TIMES_NAME), contents):
        physical_path = os.path.join(execution.private, name)
        if os.path.exists(physical_path):
            size, digest = 0, hashlib.sha256()
            with open(physical_path, "rb") as file:
                for block in iter(functools.partial(file.read, _BLOCK), b""):
                    size += len(block)
                    digest.update(block)
            files.append(_registration(execution, name, size, outputs.checksum_text(digest.digest())))
        elif content:
            files.append(_write(execution, name, [content]))
    return files


def _write(execution: Execution, name: str, blocks: Iterable[bytes]) -> Registration:
    """Write a file beside the outputs directory, where no job can write. It appears only when it is complete."""
    physical_path = os.path.join(execution.private, name)
    draft, size, digest = f"{physical_path}.draft", 0, hashlib.sha256()
    try:
        os.makedirs(execution.private, mode=0o755, exist_ok=True)
        with open(draft, "wb") as file:
            for block in blocks:
                size += len(block)
                digest.update(block)
                file.write(block)
        os.replace(draft, physical_path)
    except (OSError, log_file.NotALog) as error:
        with contextlib.suppress(OSError):
            delete(draft)
        vault = f"the vault of resource {execution.context.resource.name}"
        cause = f"the worker cannot write {name} there ({getattr(error, 'strerror', error)})"
        raise EngineError(vault, cause, "An administrator makes room", code=Code.UNIX_FILE_OPEN_ERR) from error
    return _registration(execution, name, size, outputs.checksum_text(digest.digest()))


def _registration(execution: Execution, name: str, size: int, checksum: str) -> Registration:
    physical_path = os.path.join(execution.private, name)
    return Registration(f"{execution.record.collection}/{name}", physical_path, size, checksum)


@contextlib.contextmanager
def _reading(execution: Execution) -> Iterator[log_file.LogReader]:
    """Read the log. FileNotFoundError when there is none, or when its owner has damaged it."""
    with log_file.opened(execution.log_file) as reader:
        try:
            yield reader
        except log_file.NotALog as error:
            raise FileNotFoundError(execution.log_file) from error


def discard_files(execution: Execution) -> None:
    """Delete the files of a job that was lost: the task submits another one."""
    for name in (*LOG_NAMES, TIMES_NAME):
        delete(os.path.join(execution.private, name))


def delete(physical_path: str) -> None:
    """Delete a file that the worker wrote; do nothing when it is not there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(physical_path)
