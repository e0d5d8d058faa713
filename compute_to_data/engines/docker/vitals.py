"""What the kernel says about a running container, without asking the daemon or anybody inside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from compute_to_data.errors import EngineError

_CGROUPS = Path("/sys/fs/cgroup")
_MANNER = ("Name", "Umask", "TracerPid", "FDSize", "Threads", "SigBlk", "SigIgn", "SigCgt", "Cpus_allowed")


class Vitals:
    """A container's processes, memory and scratch space, seen from the host.

    EngineError where this host does not show them: a worker in a container of its own, say.
    """

    def __init__(self, first: int) -> None:
        """``first``: the process id, on the host, of the container's first process."""
        self._first = first
        try:
            groups = _groups(first)
            self._pids = groups["pids"] / "pids.current"
            self._memory = groups["memory"]
            self._events = next(
                file for file in (self._memory / "memory.events", self._memory / "memory.oom_control") if file.exists()
            )
            below = self._children(first)
            self._runner = below[0] if below else first  # without an init, the runner is the first
            self.baseline = self.processes()
            self._manner = self._manner_of_runner()
        except (OSError, KeyError, ValueError, StopIteration) as error:
            raise EngineError(
                "warm sandboxes", f"this host does not show what runs in a container ({error!r})"
            ) from error

    def processes(self) -> int:
        """How many processes and threads there are in the container, by the kernel's own count."""
        return int(self._pids.read_text())

    def runs_a_task(self) -> bool:
        """Whether the runner has a child. One that is gone has none."""
        try:
            return bool(self._children(self._runner))
        except FileNotFoundError:
            return False

    def as_it_was(self) -> bool:
        """Whether only the runner is left, in the manner it had in the beginning: its limits,
        priority, processors, signals and descriptors' number; a task may change those of any
        process of its own uid, and later tasks would inherit them."""
        alone = self.processes() == self.baseline and not self.runs_a_task()
        return alone and self._manner_of_runner() == self._manner

    def _manner_of_runner(self) -> tuple[str, ...]:
        place = Path(f"/proc/{self._runner}")
        statistics = (place / "stat").read_text().rpartition(")")[2].split()
        status = [line for line in (place / "status").read_text().splitlines() if line.startswith(_MANNER)]
        return (
            *(statistics[number] for number in (15, 16, 38)),  # priority, nice value, policy
            (place / "limits").read_text(),
            (place / "oom_score_adj").read_text(),
            *status,
        )

    def killed_for_memory(self) -> int:
        """How many processes of the container the kernel has ended for want of memory."""
        for line in self._events.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return 0

    def empty(self, directories: Iterable[str]) -> None:
        """Remove whatever lies in directories of the container; OSError where that fails.

        No process of a task runs meanwhile, the directories are mount points, and no symbolic
        link in them is followed.
        """
        for directory in directories:
            place = f"/proc/{self._first}/root{directory}"
            for name in os.listdir(place):
                entry = os.path.join(place, name)
                if os.path.isdir(entry) and not os.path.islink(entry):
                    shutil.rmtree(entry)
                else:
                    os.unlink(entry)

    def _children(self, process: int) -> list[int]:
        return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _groups(process: int) -> dict[str, Path]:
    """Where a process's control groups lie, for both versions of them."""
    found: dict[str, Path] = {}
    for line in Path(f"/proc/{process}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:
            found.update({name: _CGROUPS / name / path.lstrip("/") for name in controllers.split(",")})
        else:
            for name in ("pids", "memory"):
                found.setdefault(name, _CGROUPS / path.lstrip("/"))
    return found
