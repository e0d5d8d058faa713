"""Reads the state of a running container from the kernel, without the daemon or any process inside."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from compute_to_data.engines import guard_client
from compute_to_data.engines.docker import attributes, warm_runner
from compute_to_data.engines.docker.memory_groups import CGROUPS, count_of_kills
from compute_to_data.engines.docker.seen_process import SeenProcess
from compute_to_data.errors import EngineError


class Vitals:
    """A container's processes, memory and scratch space, seen from the host.

    EngineError when this host does not show them, for example if the worker runs in a container.
    """

    def __init__(self, first: int, container: str, account: tuple[int, int]) -> None:
        """``first``: the process id, on the host, of the first process of ``container`` (its id), which runs as
        ``account`` (uid, gid)."""
        self._root = -1
        self._line: list[SeenProcess] = []
        try:
            self._line.append(SeenProcess(first, account))
            while below := self._runner.children():  # each init has one child; the runner has none yet
                self._line.append(SeenProcess(below[0], account))
            self._root = self._runner.root()
            groups = _groups(self._runner)
            if container not in str(groups["pids"]):
                raise ValueError(f"process {self._runner.number} is not in {container}")
            self._pids = groups["pids"] / "pids.current"
            self._events = next(
                file
                for file in (groups["memory"] / "memory.events", groups["memory"] / "memory.oom_control")
                if file.exists()
            )
            self.baseline = self.processes()
            self._original = self._state()
        except (OSError, KeyError, ValueError, StopIteration) as error:
            self.close()
            raise EngineError(
                "warm sandboxes", f"this host does not show what runs in a container ({error!r})"
            ) from error

    @property
    def _runner(self) -> SeenProcess:
        """The process that starts tasks, below the inits."""
        return self._line[-1]

    def close(self) -> None:
        """Close the container's file system, and see its processes no longer."""
        for one in self._line:
            one.close()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def processes(self) -> int:
        """How many processes and threads the container has, from the kernel's counter."""
        return int(self._pids.read_text())

    def runs_a_task(self) -> bool:
        """Whether the runner has a child process. False when the runner is gone or ends meanwhile."""
        try:
            return bool(self._runner.children())
        except (FileNotFoundError, ProcessLookupError):
            return False

    def as_it_was(self) -> bool:
        """Whether only the runner and the inits above it are left, with all that their descendants inherit, and no
        socket. A task may change this for any process of its uid, and later tasks would find it."""
        return self.processes() == self.baseline and not self.runs_a_task() and self._state() == self._original

    def _state(self) -> tuple[object, ...]:
        return (
            *(attributes.of_process(process) for process in self._line),
            attributes.of_runner(self._runner, warm_runner.DESCRIPTORS),
            attributes.sockets(self._runner),
        )

    def killed_for_memory(self) -> int:
        """How many processes of the container the kernel has killed for lack of memory."""
        return count_of_kills(self._events)

    def empty(self, directories: Iterable[str]) -> None:
        """Remove the content of directories of the container. OSError when that fails.

        Follows no symbolic link on the way to a directory or below it: from here, a link in the image would
        lead into the host's file system.
        """
        guard_client.do("empty", *directories, descriptors=[self._root])


def _groups(process: SeenProcess) -> dict[str, Path]:
    """The directories of a process's control groups, for cgroup v1 and v2."""
    found: dict[str, Path] = {}
    for line in process.text("cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:
            found.update({name: CGROUPS / name / path.lstrip("/") for name in controllers.split(",")})
        else:
            for name in ("pids", "memory"):
                found.setdefault(name, CGROUPS / path.lstrip("/"))
    return found
