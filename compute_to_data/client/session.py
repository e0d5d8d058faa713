"""A person's session with their zone: what everything else is done through."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from compute_to_data import zones
from compute_to_data.client import settings as settings_module
from compute_to_data.client.laptop_site import LaptopSite
from compute_to_data.client.settings import Settings
from compute_to_data.client.workbench import Workbench
from compute_to_data.configuration import Configuration
from compute_to_data.errors import AccessDenied, Code
from compute_to_data.ports import ClientCatalog

if TYPE_CHECKING:
    from compute_to_data.client.finding import Listed
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.client.workloads import ListedWorkload, WorkloadHandle

PROJECT_VARIABLE = "C2D_PROJECT"


def connect(config_file: str = "", session_file: str = "", *, project: str = "") -> Session:
    """Open a session with the zone that ``config.json`` names, or where ``iinit`` logged in.

    ``project``: the collection to work in, instead of the one that the session file (or
    ``C2D_PROJECT``) names. ConfigurationError for wrong settings, AccessDenied when nobody is
    logged in or the password is wrong, ZoneError when the zone cannot be reached.

    >>> with connect() as session:
    ...     print(session.user)
    alice#tempZone
    """
    settings = settings_module.load(config_file)
    if not settings.source and settings_module.nobody_ran_iinit():
        cause = f"there is neither {settings_module.default_config_file()} nor what iinit writes"
        remedy = "Log in with: iinit. Without an iRODS zone, make one of your own: c2d zone create DIR"
        raise AccessDenied("not logged in", cause, remedy, code=Code.CAT_INVALID_AUTHENTICATION)
    path = settings_module.session_path(session_file)
    remembered = str(settings_module.load_session(session_file).get("project", ""))
    chosen = project or os.environ.get(PROJECT_VARIABLE, "") or remembered
    return Session(zones.open_session(settings.zone), settings, path, chosen)


class Session(Workbench):
    """A person's session with their zone on their own computer, and what they do in it.

    ``catalog`` is theirs and is closed with the session; ``settings`` are their own settings,
    ``session_file`` is where :meth:`use_project` remembers the project.

    >>> with c2d.connect() as session:
    ...     print(session.user, session.project, session.absolute("a.txt"))
    ...     print(session.catalog.read(session.absolute("a.txt")))
    alice#tempZone /tempZone/home/alice /tempZone/home/alice/a.txt
    b'axbxc\\n'
    """

    def __init__(self, catalog: ClientCatalog, settings: Settings, session_file: str = "", project: str = "") -> None:
        self._laptop_site = LaptopSite(settings)
        super().__init__(catalog, self._laptop_site, project=project)
        self.settings = settings
        self._session_file = session_file
        self._given_back: list[Callable[[], None]] = []

    @property
    def site(self) -> Configuration | None:
        """The site's own configuration, where it can be read from here."""
        return self._laptop_site.file

    def use_project(self, collection: str) -> str:
        """Work in this collection from now on, here and in later sessions; returns its logical
        path. A relative path is below home; '' is no project. NotFound for an unknown one.

        >>> with c2d.connect() as session:
        ...     print(session.use_project(session.home), session.results)
        ...     print(session.use_project(""), session.results)
        /tempZone/home/alice /tempZone/home/alice/results
        /tempZone/home/alice /tempZone/home/alice/c2d_results
        """
        chosen = self.checked_project(self.absolute(collection)) if collection else ""
        remembered: dict[str, Any] = {**settings_module.load_session(self._session_file), "project": chosen}
        settings_module.write_private(self._session_file, remembered)
        self._project = chosen
        return chosen or self.home

    def submit(
        self,
        document: Any,
        *,
        resource: str = "",
        output_collection: str = "",
        image: str = "",
        task_id: str = "",
        reuse: bool = False,
    ) -> TaskHandle:
        """Submit a task: a document as in docs/task-format.md, or of another accepted format.

        ``resource`` and ``output_collection`` stand above what it says; ``image`` is for a format
        that names none. Without an output collection anywhere it is :attr:`results`. With ``reuse``,
        an identical earlier task of one's own is returned instead, if there is one. Refused
        (InvalidRequest) or the zone's error: then there is no task.

        >>> process = {"image": image, "exec": "sh", "argv": ["-c", "tr -d x < /inputs/a.txt > /outputs/b.txt"]}
        >>> with c2d.connect() as session:
        ...     inputs = [session.absolute("a.txt")]
        ...     task = session.submit({"role": "CONTAINER", "inputs": inputs, "process": process})
        ...     print(task.wait().state.value)
        ...     print(task.results()["b.txt"].lines())
        COMPLETED
        ['abc']
        """
        from compute_to_data.client import tasks

        return tasks.submit(
            self,
            document,
            resource=resource,
            output_collection=output_collection,
            image=image,
            task_id=task_id,
            reuse=reuse,
        )

    def task(self, task_id: str) -> TaskHandle:
        """The task of an id, of a unique beginning of one, or of its collection's logical path.
        NotFound; InvalidRequest when several are meant."""
        from compute_to_data.client import finding

        return finding.find(self, task_id)

    def tasks(self, *, limit: int | None = None, offset: int = 0, **chosen: Any) -> list[Listed]:
        """One's tasks, the newest first; ``chosen`` as the fields of :class:`finding.Filter`.

        >>> from compute_to_data.records.task import State
        >>> with c2d.connect() as session:
        ...     print([task.name for task in session.tasks(states=(State.RUNNING,), limit=10)])
        []
        """
        from compute_to_data.client import finding

        return finding.tasks(self, finding.Filter(**chosen), limit=limit, offset=offset)

    def start_workload(self, image: str, **asked: Any) -> WorkloadHandle:
        """Start a workload in the project: ``asked`` as :func:`compute_to_data.client.workloads.start` says."""
        from compute_to_data.client import workloads

        return workloads.start(self, image, **asked)

    def workload(self, workload: str) -> WorkloadHandle:
        """The project's workload of an id or a unique beginning of one, or any by its logical path."""
        from compute_to_data.client import workloads

        return workloads.find(self, workload)

    def workloads(self) -> list[ListedWorkload]:
        """The project's workloads, the newest first."""
        from compute_to_data.client import workloads

        return workloads.listed(self)

    def on_close(self, give_back: Callable[[], None]) -> None:
        """Have something else given back with the session."""
        self._given_back.append(give_back)

    def close(self) -> None:
        """Give back connections."""
        for give_back in (*self._given_back, self.catalog.close):
            give_back()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def find_as_administrator(session: Session, given: str) -> TaskHandle:
    """Anybody's task, in a session on behalf of its owner, closed with ``session``: as
    :func:`~compute_to_data.client.finding.find_anybodys`. AccessDenied for anybody but a rodsadmin."""
    from compute_to_data.client import finding

    storage = zones.open_administration(session.settings.zone)
    session.on_close(storage.close)
    return finding.find_anybodys(session, storage, given)
