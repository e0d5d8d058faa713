"""The real Docker engine of this machine, and images that tests build in it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from compute_to_data.configuration import EngineSettings
from compute_to_data.engines import open_engine
from compute_to_data.errors import ConfigurationError, EngineError
from compute_to_data.job import Limits
from compute_to_data.ports.engine import Engine
from support.site import PATIENCE

ENGINE = os.environ.get("C2D_TEST_ENGINE", "docker")
"""The engine whose containers the tests run: ``podman`` only where tests/lab/test_podman.py starts them. The crash
points also know ``slurm`` and ``slurm-service`` (see ``slurm_service`` there)."""
IMAGE = "compute-to-data/base:bookworm"
STATE = os.path.join(tempfile.gettempdir(), f"compute-to-data-tests-{os.geteuid()}")
"""The state directory of engines that tests share."""
LIMITS = Limits(
    walltime_seconds=PATIENCE,
    memory_bytes=128 << 20,
    cpus=1.0,
    pids=64,
    output_bytes=8 << 20,
    output_files=100,
    tmp_bytes=8 << 20,
    log_bytes=1 << 16,
)
_PATHS: dict[str, dict[str, str]] = {}
"""What the engines of all tests have learnt about images: Podman may need a process for each path."""


def open_docker(state_directory: str = STATE, **settings: Any) -> Engine:
    """The engine that the tests run on, which waits as long for answers as they do."""
    if ENGINE == "podman":
        from compute_to_data.engines.podman import PodmanEngine

        return PodmanEngine({"timeout_seconds": PATIENCE, **settings}, state_directory, _PATHS)
    return open_engine(EngineSettings(ENGINE, settings), state_directory)


def need_docker() -> Engine:
    """The engine, which answers and has the base image. Skips without one, with the reason; in CI that
    is a failure, never a silent pass."""
    try:
        engine = open_engine(EngineSettings(ENGINE, {"timeout_seconds": PATIENCE}), STATE)
        engine.check()
        engine.identify(IMAGE)
    except (EngineError, ConfigurationError, ImportError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{error} (tests/support/docker-engine.sh starts one)")
    return engine


@contextlib.contextmanager
def containers() -> Iterator[Any]:
    """A client that lists, inspects and removes the engine's containers, as an administrator would."""
    if ENGINE == "podman":
        from compute_to_data.engines.podman.client import PodmanClient
        from compute_to_data.engines.podman.connection import Connection, default_address

        yield PodmanClient(Connection(default_address(), PATIENCE), os.path.join(STATE, "podman"))
        return
    import docker

    with contextlib.closing(docker.APIClient()) as client:
        yield client


def inspection(container: str) -> str:
    """All that the engine tells an administrator about a container, in the engine's own form."""
    with containers() as client:
        look = client._inspected if ENGINE == "podman" else client.inspect_container
        return json.dumps(look(container))


@contextlib.contextmanager
def built_image(name: str, dockerfile: str) -> Iterator[str]:
    """An image of a test's own, by the name it has while the test runs. Podman's stays: the host is a guest of the
    tests."""
    image = f"compute-to-data/test-{name}:{uuid.uuid4().hex[:12]}"
    build(image, dockerfile)
    try:
        yield image
    finally:
        if ENGINE != "podman":
            import docker

            with contextlib.closing(docker.APIClient()) as client:
                client.remove_image(image, force=True)


def build(image: str, dockerfile: str) -> None:
    """Let the engine build an image, which gets the name even if another one had it."""
    if ENGINE == "podman":
        _build_with_podman(image, dockerfile)
        return
    import docker

    with contextlib.closing(docker.APIClient()) as client:
        said = list(client.build(fileobj=io.BytesIO(dockerfile.encode()), tag=image, rm=True, decode=True))
        assert client.images(image), said
        assert not any("error" in one for one in said), said


def _build_with_podman(image: str, dockerfile: str) -> None:
    """Let this account's Podman build it."""
    from compute_to_data.engines.podman.connection import VERSION, _Connection, default_address

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile.encode())
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    connection = _Connection(default_address()[len("unix://") :], 600.0)
    url = f"{VERSION}/build?t=localhost/{image}&networkmode=none"
    connection.request("POST", url, packed.getvalue(), {"Content-Type": "application/x-tar"})
    said = connection.getresponse().read()
    connection.close()
    assert b'"error"' not in said, said[-2000:]
