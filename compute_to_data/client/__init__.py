"""The Python API for people who run tasks. The command ``c2d`` uses it, too.

``compute_to_data.connect()`` opens a :class:`~compute_to_data.client.session.Session`, which acts
with the person's own rights in the zone. Functions that do not depend on the person's computer take
a :class:`~compute_to_data.client.workbench.Workbench`. A program for many users opens one workbench
for each user.

The modules below need no import of their own: ``c2d.client.datasets.upload(session, "measurements")``.
"""

from __future__ import annotations

from typing import Any

_MODULES = (
    "datasets",
    "downloading",
    "fetching",
    "finding",
    "logs",
    "results",
    "secrets",
    "site",
    "tasks",
    "workloads",
)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
