"""A person's session with their zone, on their own computer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from compute_to_data import zones
from compute_to_data.client.gateway_site import GatewaySite, attributes_of
from compute_to_data.client.given import Given
from compute_to_data.client.signing_in import login
from compute_to_data.client.site_access import SiteAccess
from compute_to_data.client.this_computer import settings as settings_module
from compute_to_data.client.this_computer.laptop_site import LaptopSite
from compute_to_data.client.this_computer.settings import Settings
from compute_to_data.client.workbench import Workbench
from compute_to_data.configuration import Configuration
from compute_to_data.errors import AccessDenied, Code
from compute_to_data.ports.zone import ClientCatalog, Storage

if TYPE_CHECKING:
    from compute_to_data.client.finding import Listed
    from compute_to_data.client.task_status.queue import ResourceLine
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.client.workloads import ListedWorkload, WorkloadHandle

PROJECT_VARIABLE = "C2D_PROJECT"


def connect(config_file: str = "", session_file: str = "", *, project: str = "") -> Session:
    """Open a session with the zone that ``config.json`` names, or that ``iinit`` logged in to.

    ``project``: the collection to work in, instead of the one that ``C2D_PROJECT`` or the session
    file names. ConfigurationError for wrong settings, AccessDenied when the person is not logged in
    or the password is wrong, ZoneError when the zone cannot be reached.

    >>> with connect() as session:
    ...     print(session.user)
    alice#tempZone
    """
    settings = settings_module.load(config_file)
    if not settings.source and not settings_module.has_irods_environment():
        cause = f"found neither {settings_module.default_config_file()} nor the environment file that iinit writes"
        remedy = "Log in with: iinit. If you have no iRODS zone, make a private one: c2d zone create DIR"
        raise AccessDenied("not logged in", cause, remedy, code=Code.CAT_INVALID_AUTHENTICATION)
    path = settings_module.session_path(session_file)
    session = settings_module.load_session(session_file)
    chosen = project or os.environ.get(PROJECT_VARIABLE, "") or str(session.get("project", ""))
    zone = login.with_token(settings.zone, session) if settings.zone.kind == "gateway" else settings.zone
    return Session(zones.open_session(zone), settings, path, chosen)


class Session(Workbench):
    """A person's session with their zone on their own computer, and the operations in it.

    ``catalog`` acts with the person's rights and is closed with the session. ``settings`` are their
    own settings. ``session_file`` is where :meth:`use_project` remembers the project.

    >>> with c2d.connect() as session:
    ...     print(session.user, session.project, session.absolute("a.txt"))
    ...     print(session.catalog.read(session.absolute("a.txt"), 1000))
    alice#tempZone /tempZone/home/alice /tempZone/home/alice/a.txt
    b'axbxc\\n'
    """

    def __init__(self, catalog: ClientCatalog, settings: Settings, session_file: str = "", project: str = "") -> None:
        self._laptop_site = LaptopSite(settings)
        site: SiteAccess = self._laptop_site
        if settings.zone.kind == "gateway":
            site = GatewaySite(settings.attributes or attributes_of(catalog))
        super().__init__(catalog, site, project=project)
        self.settings = settings
        self._session_file = session_file
        self._given_back: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Session of {self.user}, in {self.named_project}>"

    @property
    def site(self) -> Configuration | None:
        """The site's configuration file, when this account can read it here; else None."""
        return self._laptop_site.file

    def use_project(self, collection: str) -> str:
        """Work in this collection from now on, also in later sessions; returns its logical path.
        A relative path is below home; '' means no project. NotFound when it does not exist.

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
        after: Given | Sequence[Given] | None = (),
        reuse: bool = False,
        priority: int | None = None,
    ) -> TaskHandle:
        """Submit a task: a document as in docs/task-format.md, or in another accepted format.

        ``resource`` and ``output_collection`` override the document; ``image`` is for formats that
        name no image. The default output collection is :attr:`results`. ``after``: a task, its id, or several,
        whose success this one waits for. With ``reuse``, an identical earlier task of the person is
        returned when there is one. ``priority``, -10 to 10, overrides the document: of the person's own queued
        tasks on a resource, those with the highest begin first. Refused, InvalidRequest or the zone's error; after
        an error there is no task.

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
        from compute_to_data.client.this_computer import local_inputs

        with local_inputs.hint(local_inputs.named_inputs(document)):
            return tasks.submit(
                self,
                document,
                resource=resource,
                output_collection=output_collection,
                image=image,
                task_id=task_id,
                after=after,
                reuse=reuse,
                priority=priority,
            )

    def task(self, task_id: Given) -> TaskHandle:
        """The task with this id, with an id that begins so, or with this logical path of its
        collection; or that of an entry of :meth:`tasks`. NotFound; InvalidRequest when several tasks match."""
        from compute_to_data.client import finding

        return finding.find(self, task_id)

    def tasks(
        self, *, limit: int | None = None, offset: int = 0, with_course: bool = True, **chosen: Any
    ) -> list[Listed]:
        """The person's tasks, newest first. ``chosen`` are fields of :class:`task_rows.Filter`, with states also by
        name; ``with_course`` as for :func:`finding.tasks`.

        >>> with c2d.connect() as session:
        ...     print([task.name for task in session.tasks(states="RUNNING", limit=10)])
        []
        """
        from compute_to_data.client import finding, task_rows

        if "states" in chosen:
            chosen["states"] = task_rows.states_named(chosen["states"])
        return finding.tasks(self, task_rows.Filter(**chosen), limit=limit, offset=offset, with_course=with_course)

    def queue(self, resource: str) -> ResourceLine:
        """The line of a compute resource: who has how many tasks there, waiting and running. Other users' tasks that
        the person may not see are only counted. Refused when there is no such resource.

        >>> with c2d.connect() as session:
        ...     line = session.queue("demoResc")
        ...     print(line.waiting, line.running, line.next)
        0 0 ()
        """
        from compute_to_data.client.task_status import queue

        return queue.line_of(self, resource)

    def start_workload(self, image: str, **asked: Any) -> WorkloadHandle:
        """Start a workload in the project. For ``asked`` see :func:`compute_to_data.client.workloads.start`."""
        from compute_to_data.client import workloads
        from compute_to_data.client.this_computer import local_inputs

        with local_inputs.hint(_texts(asked.get("input_dataset"))):
            return workloads.start(self, image, **asked)

    def map_files(
        self, image: str, command: Sequence[str], *, dataset: Given, each: str = "*", **asked: Any
    ) -> WorkloadHandle:
        """Run a command for each file of a dataset, in a workload; the tasks have the files' names.

        ``{}`` in the command stands for the file's path in the sandbox; without it, the path is the last word.
        ``each``: the pattern of the files' names. ``asked``: as for :meth:`start_workload`.

        >>> with c2d.connect() as session:
        ...     workload = session.map_files(image, ["echo", "{}"], dataset=session.home, each="a.txt")
        ...     print([task.name for task in workload.tasks()])
        ...     _ = workload.stop()
        ['a.txt']
        """
        from compute_to_data.client import mapping
        from compute_to_data.client.this_computer import local_inputs

        with local_inputs.hint(_texts(dataset)):
            return mapping.map_files(self, image, command, dataset=dataset, each=each, **asked)

    def workload(self, workload: Given) -> WorkloadHandle:
        """The project's workload with this id or an id that begins so, or any workload by its logical path."""
        from compute_to_data.client import workloads

        return workloads.find(self, workload)

    def workloads(self) -> list[ListedWorkload]:
        """The project's workloads, newest first."""
        from compute_to_data.client import workloads

        return workloads.listed(self)

    def on_close(self, give_back: Callable[[], None]) -> None:
        """Register a function to call when the session closes."""
        self._given_back.append(give_back)

    def close(self) -> None:
        """Close the session's connections."""
        for give_back in (*self._given_back, self.catalog.close):
            give_back()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _texts(given: object) -> list[str]:
    """What may be a path of this computer, for a hint."""
    return [os.fspath(given)] if isinstance(given, (str, os.PathLike)) else []


def find_as_administrator(session: Session, given: str) -> TaskHandle:
    """The task of any user, in a session on behalf of its owner, which closes with ``session``. See
    :func:`~compute_to_data.client.finding.find_for_administrator`. AccessDenied unless the person is a
    rodsadmin."""
    from compute_to_data.client import finding

    return finding.find_for_administrator(session, administration(session), given)


def administration(session: Session) -> Storage:
    """The zone with the rights of its service account, which closes with ``session``. AccessDenied unless the person
    is a rodsadmin."""
    storage = zones.open_administration(session.settings.zone)
    session.on_close(storage.close)
    return storage
