"""All pages."""

from __future__ import annotations

from fastapi import APIRouter

from compute_to_data.gateway.pages import (
    datasets,
    entering,
    new_task,
    resources,
    static_files,
    task_files,
    tasks,
    workloads,
)

router = APIRouter()
for part in (static_files, entering, tasks, task_files, new_task, datasets, workloads, resources):
    router.include_router(part.router)
