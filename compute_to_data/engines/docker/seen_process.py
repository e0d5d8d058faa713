"""A process of a job, as the kernel's files in /proc show it."""

from __future__ import annotations

import os

from compute_to_data.engines import guard_client
from compute_to_data.engines.job_ids import Account


class SeenProcess:
    """A process of a job. A later process with the same id is never taken for it. OSError when it is gone."""

    def __init__(self, number: int, account: Account) -> None:
        """``number``: its id on the host. ``account``: under which it runs."""
        self.number = number
        self._account = account
        self._place = guard_client.process(number, account)

    def close(self) -> None:
        """See it no longer."""
        if self._place >= 0:
            os.close(self._place)
            self._place = -1

    def text(self, name: str) -> str:
        """The content of one of its files."""
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._place)
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            return file.read()

    def optional_text(self, name: str) -> str:
        """The content of a file that not every kernel has."""
        try:
            return self.text(name)
        except FileNotFoundError:
            return ""

    def information(self, descriptor: int) -> str:
        """What the kernel says about one of its open files; '' when it has none."""
        try:
            with open(self._opened(f"fdinfo/{descriptor}", os.O_RDONLY), encoding="ascii") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def root(self) -> int:
        """A descriptor of its root directory."""
        return self._opened("root", os.O_RDONLY | os.O_DIRECTORY)

    def children(self) -> list[int]:
        """The ids of the processes that it has started and that run."""
        return [int(one) for one in self.text(f"task/{self.number}/children").split()]

    def _opened(self, name: str, flags: int) -> int:
        return guard_client.opened(f"/proc/{self.number}/{name}", self._account, flags)
