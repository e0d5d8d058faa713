"""The Podman engine, rootless: each job is a container of the worker's own account.

It shares all but the client with the Docker engine (``engines/docker/containers.py``): what a sandbox is, warm
sandboxes, secrets, the ids of jobs. ``sandbox.py`` writes a sandbox in the form of Podman's own REST interface, because
Podman's Docker-compatible interface drops limits without a word.
"""

from __future__ import annotations

from compute_to_data.engines.podman.engine import PodmanEngine

__all__ = ["PodmanEngine"]
