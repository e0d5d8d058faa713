"""The Docker engine. Each job is a container; ``sandbox.py`` has all settings of its isolation."""

from __future__ import annotations

from compute_to_data.engines.docker.engine import DockerEngine

__all__ = ["DockerEngine"]
