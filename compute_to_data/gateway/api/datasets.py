"""Datasets: collections of inputs, each with an id."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from compute_to_data.client import browsing, datasets
from compute_to_data.client.local_folders.uploading import Moved
from compute_to_data.client.workbench import Workbench
from compute_to_data.errors import ComputeToDataError, InvalidRequest
from compute_to_data.gateway import uploads
from compute_to_data.gateway.api import content
from compute_to_data.gateway.api.common import created, workbench
from compute_to_data.model import name_of
from compute_to_data.records.manifest import FILES

router = APIRouter(prefix="/datasets", tags=["datasets"])
LONGEST_NAME = 255


def dataset(dataset_id: str, bench: Workbench = Depends(workbench)) -> str:
    """The collection of the dataset of the path. NotFound."""
    return datasets.find(bench, dataset_id.lstrip("/"))


@router.get("", summary="The datasets of the project, newest first")
def listed(bench: Workbench = Depends(workbench)) -> Any:
    """As `c2d dataset list --output json`."""
    return [vars(one) for one in datasets.listed(bench)]


UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}


@router.post("", status_code=201, summary="Upload files as a dataset", openapi_extra=UPLOAD)
async def upload(
    request: Request,
    bench: Workbench = Depends(workbench),
    name: str = Query(
        "", max_length=LONGEST_NAME, description="the dataset's name; by default that of the folder or file"
    ),
) -> JSONResponse:
    """A form with a part for each file, whose `filename` may have folders: `curl -F 'files=@a.csv;filename=d/a.csv'`.
    One folder becomes the dataset itself. 201 with `Location` and what was stored; nothing is stored until all has
    arrived."""
    await anyio.to_thread.run_sync(datasets.need_place, bench)

    def check(fields: Mapping[str, str]) -> None:
        if name and fields.get("name", name) != name:
            raise InvalidRequest("form field 'name'", "is another one than in the address", "Give one name")

    async with uploads.received(request, ("name",), check) as sent:
        check(sent.fields)  # those that came after the files
        made = await anyio.to_thread.run_sync(stored, bench, sent, name or sent.fields.get("name", ""))
    return created(f"datasets/{made.dataset}", {**vars(made), "ignored": list(made.ignored)})


def stored(bench: Workbench, sent: uploads.Sent, name: str) -> Moved:
    """Store what a form brought as a new dataset; nothing of it is left if that fails."""
    if not sent.files:
        raise InvalidRequest("the upload", "has no files", "Choose a folder, or some files")
    if len(name) > LONGEST_NAME or not (name or " ").isprintable():
        cause = f"expected at most {LONGEST_NAME} characters, none of them a control character"
        raise InvalidRequest("the dataset's name", cause)
    collection = datasets.find(bench, datasets.reserve(bench))
    try:
        return datasets.upload(bench, sent.paths, name=name, dataset=name_of(collection))
    except BaseException:
        with contextlib.suppress(ComputeToDataError):
            bench.catalog.remove(collection, recursive=True)
        raise


@router.get("/{dataset_id}", summary="A dataset, and the tasks and workloads that use it")
def described(collection: str = Depends(dataset), bench: Workbench = Depends(workbench)) -> Any:
    """As far as you can see them."""
    return datasets.describe(bench, collection).document()


@router.delete("/{dataset_id}", status_code=204, summary="Remove a dataset with all its files")
def remove(
    collection: str = Depends(dataset),
    bench: Workbench = Depends(workbench),
    force: bool = Query(False, description="also while a task uses it"),
) -> Response:
    """422 while an unfinished task, or a workload that accepts tasks, uses it."""
    datasets.remove(bench, collection, force=force)
    return Response(status_code=204)


@router.get("/{dataset_id}/files", summary="The files of a dataset")
def files(
    collection: str = Depends(dataset),
    bench: Workbench = Depends(workbench),
    path: str = Query("", max_length=1087, description="a folder, a file, or a pattern such as *.csv"),
    recursive: bool = Query(True, description="also what is in its folders"),
) -> Any:
    """With sizes and checksums."""
    found = browsing.members(bench.catalog, f"{collection}/{FILES}", path, recursive=recursive)
    return [one.document() for one in found]


@router.get(
    "/{dataset_id}/files/{path:path}",
    summary="The content of a file",
    response_class=Response,
    responses=content.ANSWERS,
)
async def file(
    request: Request, path: str, collection: str = Depends(dataset), bench: Workbench = Depends(workbench)
) -> Response:
    """The whole, or a part with the header `Range`."""
    return await content.data_object(request, bench.catalog, content.below(f"{collection}/{FILES}", path))
