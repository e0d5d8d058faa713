"""The page of projects: the collection that a person works in, others to choose, a new one."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from compute_to_data.bounds import MOST_MEMBERS, MOST_PERMISSIONS
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import ComputeToDataError, InvalidRequest
from compute_to_data.gateway.pages import chosen_project, rendering
from compute_to_data.gateway.pages.forms import Form, form
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.visitor import Visitor, visitor
from compute_to_data.gateway.problems import status_of
from compute_to_data.irods_names import check_in_zone
from compute_to_data.model import Collection, Permission

router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/projects")


@router.get("")
def listed(request: Request, known: Visitor = Depends(visitor)) -> Response:
    """The collections at home, as `c2d project list` has them, and who may do what in the current project."""
    return _page(request, known, 200)


def _page(
    request: Request, known: Visitor, status: int, *, choose: str = "", create: str = "", message: str = ""
) -> Response:
    bench = known.workbench
    members = bench.catalog.children(bench.home, MOST_MEMBERS)
    paths = [one.logical_path for one in members if isinstance(one, Collection)]
    current = bench.named_project
    beside = [current] if current not in (bench.home, *paths) else []
    people, problem = _people(bench)
    return rendering.page(
        request,
        "projects.html",
        known,
        status,
        home=bench.home,
        projects=[bench.home, *beside, *paths],
        current=current,
        results="" if problem else bench.results,
        people=[(str(one.user), one.access.name.lower().replace("_", " ")) for one in people],
        problem=problem,
        choose=choose,
        create=create,
        message=message,
    )


def _people(bench: Workbench) -> tuple[tuple[Permission, ...], str]:
    """The access list of the current project; or why it cannot be used any more."""
    try:
        return bench.catalog.permissions(bench.project, MOST_PERMISSIONS), ""
    except ComputeToDataError as error:
        return (), error.cause


@router.post("/choose")
def choose(request: Request, known: Visitor = Depends(visitor), sent: Form = Depends(form)) -> Response:
    """Work in a collection from now on. In the home collection, it is as without a project."""
    path = sent.one("path").strip()
    return _tried(request, known, path, known.workbench.checked_project, choose=path)


@router.post("/create")
def create(request: Request, known: Visitor = Depends(visitor), sent: Form = Depends(form)) -> Response:
    """Make a collection, and work there."""
    path = sent.one("path").strip()
    return _tried(request, known, path, known.person.catalog.create_collection, create=path)


def _tried(
    request: Request, known: Visitor, path: str, do: Callable[[str], object], *, choose: str = "", create: str = ""
) -> Response:
    bench = known.workbench
    try:
        if not path or len(path) > chosen_project.LONGEST:
            raise InvalidRequest("the collection", "has no name, or a longer one than a zone can have")
        collection = bench.absolute(path)
        check_in_zone(collection, bench.zone)
        do(collection)
    except ComputeToDataError as error:
        message = f"{error.subject}: {error.cause}."
        return _page(request, known, status_of(error), choose=choose, create=create, message=message)
    answer = RedirectResponse("/projects", 303)
    chosen = "" if collection == bench.home else collection
    chosen_project.keep(answer, request, str(known.person.user), chosen)
    return answer
