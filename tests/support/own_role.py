"""A role of a site's own, as CONTRIBUTING.md says to write one."""

from __future__ import annotations

from compute_to_data.job import Exit, Logs
from compute_to_data.model import Access, Avu
from compute_to_data.pipeline.hooks import RequiredAccess, Retention
from compute_to_data.roles.container import Container
from compute_to_data.task import Task


class TidyContainer(Container):
    """Gives back the room its inputs took, asks for more access than it must, and says so."""

    def required_access(self, task: Task) -> RequiredAccess:
        return RequiredAccess(inputs=Access.MODIFY_OBJECT)

    def retention(self, task: Task) -> Retention:
        return Retention.TRIM

    def annotations(self, task: Task, exit: Exit) -> tuple[Avu, ...]:
        return (Avu("tidied", str(self.settings["by"])),)

    def explanation(self, exit: Exit, logs: Logs) -> str:
        return f"it said {logs.stdout.decode().strip()}"
