"""The real Docker engine of this machine, and images that tests build in it."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Iterator

import pytest

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import open_engine
from compute_to_data.errors import ConfigurationError, EngineError
from compute_to_data.job import Limits
from compute_to_data.ports import Engine

IMAGE = "compute-to-data/base:bookworm"
LIMITS = Limits(
    walltime_seconds=60.0,
    memory_bytes=128 << 20,
    cpus=1.0,
    pids=64,
    output_bytes=8 << 20,
    output_files=100,
    tmp_bytes=8 << 20,
    log_bytes=1 << 16,
)


def need_docker() -> Engine:
    """The engine, which answers and has the base image. Skips without one, with the reason; in CI that
    is a failure, never a silent pass."""
    try:
        engine = open_engine(EngineSettings("docker"), "/nonexistent")
        engine.check()
        engine.identify(IMAGE)
    except (EngineError, ConfigurationError, ImportError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error} (tests/support/docker-engine.sh starts one)")
    return engine


@contextlib.contextmanager
def built_image(name: str, dockerfile: str) -> Iterator[str]:
    """An image of a test's own, by the name it has while the test runs."""
    import docker

    image = f"compute-to-data/test-{name}:{uuid.uuid4().hex[:12]}"
    with contextlib.closing(docker.APIClient()) as client:
        said = list(client.build(fileobj=io.BytesIO(dockerfile.encode()), tag=image, rm=True, decode=True))
        assert client.images(image), said
        yield image
        client.remove_image(image, force=True)
