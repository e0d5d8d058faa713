"""Engines, which run jobs. Each is imported only when the configuration names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compute_to_data.errors import ConfigurationError

if TYPE_CHECKING:
    from compute_to_data.configuration import EngineSettings
    from compute_to_data.ports.engine import Engine

__all__ = ["open_engine", "prepare_worker"]

_KNOWN = ("docker", "podman", "slurm", "process")


_SUBMITTED = 200


def open_engine(settings: EngineSettings, state_directory: str, submitted: int = _SUBMITTED) -> Engine:
    """The engine that the configuration names. Call its ``check`` to see whether it answers.

    ``state_directory`` is the worker's. An engine keeps there what it must find again after a restart.
    ``submitted``: the most jobs of this worker that an engine with its own queue gets.
    ConfigurationError for an unknown engine or setting, or a package that is not installed.
    """
    if settings.name in ("docker", "podman", "slurm"):
        try:
            from compute_to_data.engines.docker import DockerEngine
            from compute_to_data.engines.podman import PodmanEngine
            from compute_to_data.engines.slurm.engine import SlurmEngine
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] != "docker":
                raise
            remedy = "Install it from a checkout: pip install '.[docker]'"
            cause = f"the engine {settings.name} needs the package docker"
            raise ConfigurationError("/engine/name", cause, remedy) from error
        if settings.name == "slurm":
            return SlurmEngine(settings.settings, state_directory, submitted)
        if settings.name == "podman":
            return PodmanEngine(settings.settings, state_directory)
        return DockerEngine(settings.settings, state_directory)
    if settings.name == "process":
        from compute_to_data.engines.process import ProcessEngine

        return ProcessEngine(settings.settings, state_directory)
    raise ConfigurationError(
        "/engine/name", f"there is no engine {settings.name!r}", f"use one of: {', '.join(_KNOWN)}"
    )


def prepare_worker(settings: EngineSettings) -> None:
    """Give this process what a worker needs to run jobs under ids of their own. Call it once, before the process has
    other threads. ConfigurationError for a wrong setting; EngineError, after which the process must end, when the host
    does not allow it."""
    if settings.name in ("docker", "podman"):
        from compute_to_data.engines.docker import settings as docker_settings

        docker_settings.prepare_worker(docker_settings.read(settings.settings, settings.name))
