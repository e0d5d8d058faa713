"""The pages of datasets: the list with a place to drop files, and one dataset with its files."""

from __future__ import annotations

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from compute_to_data.client import browsing, datasets
from compute_to_data.client.browsing import FILE
from compute_to_data.gateway.api.datasets import stored
from compute_to_data.gateway.pages import archive, content, previews, rendering
from compute_to_data.gateway.pages.forms import Form, form, proven_upload
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.visitor import Visitor, visitor
from compute_to_data.model import name_of
from compute_to_data.records.manifest import FILES

router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/datasets")


def dataset(dataset_id: str, known: Visitor = Depends(visitor)) -> str:
    """The collection of the dataset of the path. NotFound."""
    return datasets.find(known.workbench, dataset_id.lstrip("/"))


@router.get("")
def listed(request: Request, known: Visitor = Depends(visitor)) -> Response:
    """Newest first."""
    return rendering.page(request, "datasets.html", known, datasets=datasets.listed(known.workbench))


@router.post("")
async def upload(request: Request, known: Visitor = Depends(visitor)) -> Response:
    """The form for a browser without JavaScript."""
    await anyio.to_thread.run_sync(datasets.need_place, known.workbench)
    async with proven_upload(request, "name") as sent:
        made = await anyio.to_thread.run_sync(stored, known.workbench, sent, sent.fields.get("name", "").strip()[:255])
    return RedirectResponse(f"/datasets/{made.dataset}{f'?ignored={len(made.ignored)}' if made.ignored else ''}", 303)


@router.get("/{dataset_id}")
def one(
    request: Request,
    collection: str = Depends(dataset),
    known: Visitor = Depends(visitor),
    path: str = Query("", max_length=1087),
    ignored: int = Query(0, ge=0, le=1 << 53, description="how much an upload has left out just now"),
) -> Response:
    """A dataset, or one of its folders."""
    found = datasets.describe(known.workbench, collection)
    members = browsing.members(known.person.catalog, f"{collection}/{FILES}", path)
    return rendering.page(
        request,
        "dataset.html",
        known,
        dataset=found.listed,
        tasks=[(name_of(task), state) for task, state in found.tasks.items()],
        workloads=[name_of(one) for one in found.workloads],
        is_used=bool(found.unfinished),
        folders=[one for one in members if one.kind != FILE],
        files=[one for one in members if one.kind == FILE],
        folder=path.strip("/"),
        ignored=ignored,
    )


@router.post("/{dataset_id}/remove")
def remove(
    collection: str = Depends(dataset), known: Visitor = Depends(visitor), sent: Form = Depends(form)
) -> Response:
    """With all its files. Refused while a task uses it."""
    datasets.remove(known.workbench, collection)
    return RedirectResponse("/datasets", 303)


@router.get("/{dataset_id}/zip")
def zipped(collection: str = Depends(dataset), known: Visitor = Depends(visitor)) -> Response:
    """All files."""
    return archive.response(known.person.catalog, f"{collection}/{FILES}", name_of(collection))


@router.get("/{dataset_id}/show/{path:path}")
async def show(
    request: Request, path: str, collection: str = Depends(dataset), known: Visitor = Depends(visitor)
) -> Response:
    """A picture or a report."""
    return await content.shown(request, known.person.catalog, f"{collection}/{FILES}", path)


@router.get("/{dataset_id}/files/{path:path}")
def file_page(
    request: Request, path: str, collection: str = Depends(dataset), known: Visitor = Depends(visitor)
) -> Response:
    """A file, as far as a page can show it."""
    file = previews.file(known.person.catalog, f"{collection}/{FILES}", path)
    name = name_of(collection)
    return rendering.page(
        request,
        "file.html",
        known,
        of=("Dataset", f"/datasets/{name}", name),
        show=f"/datasets/{name}/show",
        fetch=f"/api/v1/datasets/{name}/files",
        preview=previews.beginning(file),
        checksum=file.checksum,
    )
