"""Compute to data for iRODS: run tasks on the storage resource that holds their data.

    import compute_to_data as c2d

    with c2d.connect() as session:
        task = session.submit({...})
        task.wait()

Importing this package loads only the standard library and takes almost no time, because an iRODS
agent imports it for every connection. The names above are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # as typing.TYPE_CHECKING, without the time that importing typing takes
    from typing import Any

    from compute_to_data.client.python_functions.functions import as_task
    from compute_to_data.client.session import Session, connect
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.client.workloads import WorkloadHandle
    from compute_to_data.errors import ComputeToDataError, TaskFailed

__all__ = [
    "ComputeToDataError",
    "Session",
    "TaskFailed",
    "TaskHandle",
    "WorkloadHandle",
    "__version__",
    "as_task",
    "connect",
]

__version__ = "0.1.0"

_MODULE_OF = {
    "ComputeToDataError": "errors",
    "Session": "client.session",
    "TaskFailed": "errors",
    "TaskHandle": "client.tasks",
    "WorkloadHandle": "client.workloads",
    "as_task": "client.python_functions.functions",
    "connect": "client.session",
}


_MODULES = ("client", "errors")
"""Modules that a user may name without importing them: ``c2d.client.datasets``, ``c2d.errors``."""


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
