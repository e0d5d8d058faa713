"""Who one is, what the zone can run, and where."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from compute_to_data.client import site
from compute_to_data.client.task_status import queue
from compute_to_data.client.workbench import Workbench
from compute_to_data.gateway.api.common import workbench

router = APIRouter()


@router.get("/me", tags=["signing in"], summary="Who you are")
def me(bench: Workbench = Depends(workbench)) -> Any:
    """The user, the zone, the home collection, where results go, and the names of the site's AVUs."""
    return {"user": str(bench.user), "zone": bench.zone, "home": bench.home, "project": bench.project,
            "results": bench.results, "attributes": vars(bench.attributes)}  # fmt: skip


@router.get("/resources", tags=["resources"], summary="Where tasks can run, and what may run there")
def resources(bench: Workbench = Depends(workbench)) -> Any:
    """As `c2d resources --output json`."""
    return {
        "resources": [one.document() for one in site.resources(bench)],
        "images": site.images(bench),
        "limits": site.limits(bench),
    }


@router.get("/resources/{name}/queue", tags=["resources"], summary="The line of a resource")
def line(name: str, bench: Workbench = Depends(workbench)) -> Any:
    """As `c2d queue --output json`. Tasks that you may not see are only counted."""
    return queue.line_of(bench, name).document()
