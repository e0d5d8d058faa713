"""Secrets: written here, and never read back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import JSONResponse, Response

from compute_to_data.client import secrets
from compute_to_data.client.workbench import Workbench
from compute_to_data.gateway import request_bounds
from compute_to_data.gateway.api.common import CONTENT, created, workbench
from compute_to_data.records.secret import LONGEST

router = APIRouter(prefix="/secrets", tags=["secrets"])


@router.get("", summary="The names of your secrets")
def listed(bench: Workbench = Depends(workbench)) -> Any:
    """Without their values."""
    return [asdict(one) for one in secrets.listed(bench)]


@router.get("/{name}", summary="Where a secret is stored, and who may read it")
def described(name: str, bench: Workbench = Depends(workbench)) -> Any:
    """Without its value."""
    return asdict(secrets.describe(bench, name))


@router.put("/{name}", status_code=201, summary="Store a secret", openapi_extra=CONTENT)
async def store(
    request: Request,
    name: str,
    bench: Workbench = Depends(workbench),
    force: bool = Query(False, description="replace the secret with this name"),
) -> JSONResponse:
    """The body is its value, of at most 64 KiB. 409 when there is one, unless `force`."""
    secrets.path_of(bench, name)  # refuse a bad name before the value is read
    value = await request_bounds.body(request, LONGEST)

    def stored() -> dict[str, Any]:
        return asdict(secrets.create(bench, name, value, force=force))

    return created(f"secrets/{name}", await anyio.to_thread.run_sync(stored))


@router.delete("/{name}", status_code=204, summary="Delete a secret")
def delete(name: str, bench: Workbench = Depends(workbench)) -> Response:
    """With all its replicas."""
    secrets.delete(bench, name)
    return Response(status_code=204)
