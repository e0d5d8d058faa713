"""All of ``/api/v1``."""

from __future__ import annotations

from fastapi import Depends, FastAPI

from compute_to_data.gateway.api import datasets, places, secrets, tasks, workloads
from compute_to_data.gateway.api.common import PREFIX, nothing_unknown


def include(app: FastAPI) -> None:
    """Add them to the application, each router by itself: FastAPI looks for a route again at each level of routers."""
    for part in (tasks, places, datasets, workloads, secrets):
        app.include_router(part.router, prefix=PREFIX, dependencies=[Depends(nothing_unknown)])
