"""All of ``/api/v1``."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from compute_to_data.gateway.api import datasets, places, secrets, tasks, workloads
from compute_to_data.gateway.api.common import PREFIX, known_parameters

router = APIRouter(prefix=PREFIX, dependencies=[Depends(known_parameters)])
for part in (places, tasks, datasets, workloads, secrets):
    router.include_router(part.router)
