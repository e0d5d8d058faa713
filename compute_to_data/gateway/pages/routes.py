"""All pages."""

from __future__ import annotations

from fastapi import FastAPI

from compute_to_data.gateway.pages import (
    datasets,
    entering,
    new_task,
    projects,
    resources,
    static_files,
    task_files,
    tasks,
    workloads,
)


def include(app: FastAPI) -> None:
    """Add them to the application."""
    for part in (static_files, entering, tasks, task_files, new_task, projects, datasets, workloads, resources):
        app.include_router(part.router)
