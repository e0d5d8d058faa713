"""The Docker engine: each job is one container, and its whole sandbox is in ``sandbox.py``."""

from __future__ import annotations

from compute_to_data.engines.docker.engine import DockerEngine

__all__ = ["DockerEngine"]
