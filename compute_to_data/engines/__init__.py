"""Engines, which run jobs. Each is imported only when the configuration names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compute_to_data.errors import ConfigurationError

if TYPE_CHECKING:
    from compute_to_data.configuration import EngineSettings
    from compute_to_data.ports import Engine

__all__ = ["open_engine"]

_KNOWN = ("docker", "process")


def open_engine(settings: EngineSettings, state_directory: str) -> Engine:
    """The engine that the configuration names. Call its ``check`` to see whether it answers.

    ``state_directory`` is the worker's. An engine keeps there what it must find again after a restart.
    ConfigurationError for an unknown engine or setting, or a package that is not installed.
    """
    if settings.name == "docker":
        try:
            from compute_to_data.engines.docker import DockerEngine
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "docker":
                raise
            remedy = "Install it: pip install 'compute-to-data[docker]'"
            raise ConfigurationError("/engine/name", "the engine docker needs the package docker", remedy) from error
        return DockerEngine(settings.settings, state_directory)
    if settings.name == "process":
        from compute_to_data.engines.process import ProcessEngine

        return ProcessEngine(settings.settings, state_directory)
    raise ConfigurationError(
        "/engine/name", f"there is no engine {settings.name!r}", f"use one of: {', '.join(_KNOWN)}"
    )
