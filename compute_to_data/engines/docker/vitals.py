"""Reads the state of a running container from the kernel, without the daemon or any process inside."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from compute_to_data.engines.docker.memory_groups import CGROUPS, count_of_kills
from compute_to_data.errors import EngineError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 64
_STATUS_LINES = ("Name", "Umask", "TracerPid", "FDSize", "Threads", "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed")


class Vitals:
    """A container's processes, memory and scratch space, seen from the host.

    EngineError when this host does not show them, for example if the worker runs in a container.
    """

    def __init__(self, first: int, container: str) -> None:
        """``first``: the process id, on the host, of the first process of ``container`` (its id)."""
        self._root = -1
        try:
            # Kept open, so that a later process with the same id cannot be mistaken for this one.
            self._root = os.open(f"/proc/{first}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            groups = _groups(first)
            if container not in str(groups["pids"]):
                raise ValueError(f"process {first} is not in {container}")
            self._pids = groups["pids"] / "pids.current"
            self._events = next(
                file
                for file in (groups["memory"] / "memory.events", groups["memory"] / "memory.oom_control")
                if file.exists()
            )
            below = self._children(first)
            self._runner = below[0] if below else first  # without an init, the runner is the first process
            self.baseline = self.processes()
            self._original = self._attributes_of_runner()
        except (OSError, KeyError, ValueError, StopIteration) as error:
            self.close()
            raise EngineError(
                "warm sandboxes", f"this host does not show what runs in a container ({error!r})"
            ) from error

    def close(self) -> None:
        """Close the container's file system."""
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def processes(self) -> int:
        """How many processes and threads the container has, from the kernel's counter."""
        return int(self._pids.read_text())

    def runs_a_task(self) -> bool:
        """Whether the runner has a child process. False when the runner is gone or ends meanwhile."""
        try:
            return bool(self._children(self._runner))
        except (FileNotFoundError, ProcessLookupError):
            return False

    def as_it_was(self) -> bool:
        """Whether only the runner is left, with its original limits, priority, processors, signals and number of
        descriptors. A task may change these for any process of its uid, and later tasks would inherit them."""
        alone = self.processes() == self.baseline and not self.runs_a_task()
        return alone and self._attributes_of_runner() == self._original

    def _attributes_of_runner(self) -> tuple[str, ...]:
        place = Path(f"/proc/{self._runner}")
        statistics = (place / "stat").read_text().rpartition(")")[2].split()
        status = [line for line in (place / "status").read_text().splitlines() if line.startswith(_STATUS_LINES)]
        return (
            *(statistics[number] for number in (15, 16, 38)),  # priority, nice value, policy
            (place / "limits").read_text(),
            (place / "oom_score_adj").read_text(),
            *status,
        )

    def killed_for_memory(self) -> int:
        """How many processes of the container the kernel has killed for lack of memory."""
        return count_of_kills(self._events)

    def empty(self, directories: Iterable[str]) -> None:
        """Remove the content of directories of the container. OSError when that fails.

        Follows no symbolic link on the way to a directory or below it: from here, a link in the image would
        lead into the host's file system.
        """
        for directory in directories:
            descriptor = os.dup(self._root)
            try:
                for part in directory.strip("/").split("/"):
                    below = os.open(part, _DIRECTORY, dir_fd=descriptor)
                    os.close(descriptor)
                    descriptor = below
                _remove_below(descriptor, _DEEPEST)
            finally:
                os.close(descriptor)

    def _children(self, process: int) -> list[int]:
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _remove_below(directory: int, deepest: int) -> None:
    if deepest == 0:
        raise OSError(f"more than {_DEEPEST} directories deep")
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        below = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            _remove_below(below, deepest - 1)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=directory)


def _groups(process: int) -> dict[str, Path]:
    """The directories of a process's control groups, for cgroup v1 and v2."""
    found: dict[str, Path] = {}
    for line in Path(f"/proc/{process}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:
            found.update({name: CGROUPS / name / path.lstrip("/") for name in controllers.split(",")})
        else:
            for name in ("pids", "memory"):
                found.setdefault(name, CGROUPS / path.lstrip("/"))
    return found
