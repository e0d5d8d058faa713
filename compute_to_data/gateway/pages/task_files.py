"""The files of a task at their own addresses: a page for each, its content for that page, and all as an archive."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from compute_to_data.client.tasks import TaskHandle
from compute_to_data.gateway.pages import archive, content, previews, rendering
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.tasks import task
from compute_to_data.gateway.pages.visitor import Visitor, visitor

router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/tasks/{task_id}")


@router.get("/zip")
def zipped(found: TaskHandle = Depends(task)) -> Response:
    """All files of the task, as ``c2d fetch`` gets them."""
    _ = found.state
    return archive.response(found.catalog, found.collection, found.id)


@router.get("/show/{path:path}")
async def show(request: Request, path: str, found: TaskHandle = Depends(task)) -> Response:
    """A picture or a report."""
    return await content.shown(request, found.catalog, found.collection, path)


@router.get("/files/{path:path}")
def file_page(
    request: Request, path: str, found: TaskHandle = Depends(task), known: Visitor = Depends(visitor)
) -> Response:
    """A file, as far as a page can show it."""
    file = previews.file(found.catalog, found.collection, path)
    return rendering.page(
        request,
        "file.html",
        known,
        of=("Task", f"/tasks/{found.id}", found.id[:8]),
        show=f"/tasks/{found.id}/show",
        fetch=f"/api/v1/tasks/{found.id}/results",
        preview=previews.beginning(file),
        checksum=file.checksum,
    )
