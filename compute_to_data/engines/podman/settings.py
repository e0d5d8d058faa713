"""The settings of the Podman engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.engines.docker import settings as docker_settings
from compute_to_data.engines.docker.settings import DockerSettings
from compute_to_data.errors import ConfigurationError

_ROOTS = ("uid", "gid", "init", "project_quotas")
"""Settings of the Docker engine that this one does not have: jobs never run under another account's ids, and always
have a first process of ours. Project quotas were not tried with it."""


def read(given: Mapping[str, Any]) -> DockerSettings:
    """The checked settings: those of Docker that concern Podman, too. ConfigurationError with the JSON pointer."""
    for key in _ROOTS:
        if key in given:
            raise ConfigurationError(f"/engine/settings/{key}", "the podman engine has no such setting")
    return docker_settings.read(given, "podman")
