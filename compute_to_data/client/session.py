"""A person's session with their zone: what everything else is done through."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from compute_to_data import configuration as configuration_module
from compute_to_data import offer, zones
from compute_to_data.client import settings as settings_module
from compute_to_data.client.settings import Settings
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.errors import AccessDenied, Code, InvalidRequest, NotFound, Refused
from compute_to_data.model import Collection, EntityKind, User, zone_of
from compute_to_data.ports import ClientCatalog

if TYPE_CHECKING:
    from compute_to_data.client.finding import Listed
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.client.workloads import ListedWorkload, WorkloadHandle

PROJECT_VARIABLE = "C2D_PROJECT"
SITE_CONFIGURATION = "/etc/irods/compute_to_data.json"


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


class Session:
    """``catalog`` is the person's own session with the zone, ``settings`` their own settings.

    >>> with c2d.connect() as session:
    ...     print(session.user, session.project, session.absolute("a.txt"))
    ...     print(session.catalog.read(session.absolute("a.txt")))
    alice#tempZone /tempZone/home/alice /tempZone/home/alice/a.txt
    b'axbxc\\n'
    """

    def __init__(self, catalog: ClientCatalog, settings: Settings, session_file: str = "", project: str = "") -> None:
        self.catalog = catalog
        self.settings = settings
        self._session_file = session_file
        self._project = project
        self._given_back: list[Callable[[], None]] = []

    @property
    def user(self) -> User:
        """Whose session it is."""
        return self.catalog.user

    @property
    def home(self) -> str:
        """The person's home collection: ``irods_home`` where their environment names one."""
        return self.catalog.home

    @property
    def zone(self) -> str:
        """The zone they work in, which need not be the one they are from."""
        return zone_of(self.home)

    @cached_property
    def site(self) -> Configuration | None:
        """The site's own configuration, where it can be read from here."""
        if self.settings.site:
            return configuration_module.load(self.settings.site)
        if self.settings.zone.kind == "irods" and os.access(SITE_CONFIGURATION, os.R_OK):
            return configuration_module.load(SITE_CONFIGURATION)
        return None

    @cached_property
    def configuration(self) -> Configuration:
        """What the site allows: images, roles, limits. The file that the person's settings name,
        else what the zone's workers offer, else, on a server, its own file.

        Refused when no worker says what it would run.
        """
        if self.settings.site and self.site is not None:
            return self.site
        try:
            return offer.read(self.catalog, self.attributes)
        except Refused as error:
            if self.site is not None:
                return self.site  # a submission may start a worker there
            raise self._nobody_offers(error) from None

    def _nobody_offers(self, error: Refused) -> Refused:
        found = self.catalog.find(EntityKind.RESOURCE, self.attributes.role)
        if not found:
            return Refused(
                f"zone {self.zone}", "has no compute resource", "An administrator makes one: docs/administrators.md"
            )
        cause = f"no worker of {', '.join(sorted(found))} says what it would run"
        return Refused(f"zone {self.zone}", cause, error.remedy)

    @property
    def attributes(self) -> Attributes:
        """The names of AVUs: what the person's settings say, else the site, else the usual ones."""
        if self.settings.attributes is not None:
            return self.settings.attributes
        return self.site.attributes if self.site is not None else Attributes()

    @property
    def project(self) -> str:
        """The collection to work in: the one chosen, which must be there, else home.

        NotFound when it is gone, or hidden from this user.
        """
        if not self._project:
            return self.home
        return self._checked(self.absolute(self._project))

    def use_project(self, collection: str) -> str:
        """Work in this collection from now on, here and in later sessions; returns its logical
        path. A relative path is below home; '' is no project. NotFound for an unknown one.

        >>> with c2d.connect() as session:
        ...     print(session.use_project(session.home), session.results)
        ...     print(session.use_project(""), session.results)
        /tempZone/home/alice /tempZone/home/alice/results
        /tempZone/home/alice /tempZone/home/alice/c2d_results
        """
        chosen = self._checked(self.absolute(collection)) if collection else ""
        remembered: dict[str, Any] = {**settings_module.load_session(self._session_file), "project": chosen}
        settings_module.write_private(self._session_file, remembered)
        self._project = chosen
        return chosen or self.home

    def _checked(self, collection: str) -> str:
        try:
            found = self.catalog.stat(collection)
        except NotFound as error:
            cause, remedy = "there is no such collection, or you may not read it", "Choose one: c2d project set PATH"
            raise NotFound(f"project {collection}", cause, remedy, code=error.code) from None
        if not isinstance(found, Collection):
            raise InvalidRequest(f"project {collection}", "is a data object, and a project is a collection")
        return collection

    @property
    def results(self) -> str:
        """Where results go when nobody says: ``results`` of the project, else ``c2d_results`` at home."""
        return f"{self.project}/results" if self._project else f"{self.home}/c2d_results"

    def absolute(self, path: str) -> str:
        """A logical path; a relative one is meant from home, as ``iput`` means it after ``icd``."""
        return (path if path.startswith("/") else f"{self.home}/{path}").rstrip("/") or "/"

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

        >>> from compute_to_data.record import State
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
