"""The engines that can run a job on its node, by name: their settings on the worker's host, and the engine itself on
the node. Only the node needs the engine. Each is imported only where it is used, because a node may import it for each
job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compute_to_data.errors import ConfigurationError

if TYPE_CHECKING:
    from compute_to_data.engines.docker.settings import DockerSettings
    from compute_to_data.ports.engine import Engine

KNOWN = ("docker", "podman")


def read(sandbox: Mapping[str, Any]) -> DockerSettings:
    """The checked settings of a sandbox. ConfigurationError with the JSON pointer."""
    from compute_to_data.engines.docker import settings as docker_settings
    from compute_to_data.engines.podman import settings as podman_settings

    reads = podman_settings.read if _name(sandbox) == "podman" else docker_settings.read
    try:
        return reads(_settings(sandbox))
    except ConfigurationError as error:
        place = error.subject.replace("/engine/settings", "/engine/settings/sandbox", 1)
        raise ConfigurationError(place, error.cause, error.remedy) from error


def open_engine(sandbox: Mapping[str, Any], state_directory: str, known_paths: dict[str, dict[str, str]]) -> Engine:
    """The engine of a node. ``known_paths``: see :class:`ImagePaths`."""
    if _name(sandbox) == "podman":
        from compute_to_data.engines.podman import PodmanEngine

        return PodmanEngine(_settings(sandbox), state_directory, known_paths)
    from compute_to_data.engines.docker import DockerEngine

    return DockerEngine(_settings(sandbox), state_directory, known_paths)


def _name(sandbox: Mapping[str, Any]) -> str:
    return str(sandbox.get("name", KNOWN[0]))


def _settings(sandbox: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in sandbox.items() if key != "name"}
