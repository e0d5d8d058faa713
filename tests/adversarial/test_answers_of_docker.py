"""What an image says about itself, or the daemon about it, must not fill the worker's memory or messages."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from support.real_docker import IMAGE, built_image

from compute_to_data.engines.docker import connection
from compute_to_data.engines.docker.engine import DockerEngine
from compute_to_data.errors import EngineError
from compute_to_data.ports.engine import Engine


@pytest.mark.docker
@pytest.mark.parametrize(
    "setting",
    [
        "LABEL huge=" + "x" * 60_000 + "\nLABEL huge2=" + "x" * 60_000,
        "ENV A=" + "x" * 50_000 + "\nENV B=" + "x" * 50_000,
    ],
    ids=["labels", "environment"],
)
def test_an_image_with_huge_settings_is_refused(docker_engine: Engine, setting: str) -> None:
    """Each container would inherit them, and each list of containers would hold them again."""
    with built_image("huge", f"FROM {IMAGE}\n{setting}\n") as name:
        with pytest.raises(EngineError, match="labels, environment and other settings take") as caught:
            docker_engine.identify(name)
        assert "xxxx" not in str(caught.value)
    docker_engine.identify(IMAGE)


class _Daemon(BaseHTTPRequestHandler):
    """Answers each request with the same document, however large."""

    document: bytes = b""
    status = 200

    def do_GET(self) -> None:
        version = json.dumps({"ApiVersion": "1.41", "MinAPIVersion": "1.12"}).encode()
        content = version if self.path.endswith("/version") else self.document
        self.send_response(200 if self.path.endswith("/version") else self.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def answering(document: bytes, status: int = 200) -> Iterator[DockerEngine]:
    """An engine whose daemon gives this answer."""
    handler = type("Daemon", (_Daemon,), {"document": document, "status": status})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    engine = DockerEngine({"socket": f"tcp://127.0.0.1:{server.server_port}"}, "/nonexistent")
    try:
        yield engine
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_huge_answer_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_BYTES", 100_000)
    huge = json.dumps({"Id": "sha256:" + "0" * 64, "Config": {"Labels": {"a": "x" * 200_000}}}).encode()
    with answering(huge) as engine, pytest.raises(EngineError, match="Docker answers too much") as caught:
        engine.identify(IMAGE)
    assert len(str(caught.value)) < 500


def test_a_list_of_images_that_is_too_long_is_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker serves on: it publishes no names."""
    monkeypatch.setattr(connection, "MOST_BYTES", 100_000)
    many = json.dumps([{"RepoTags": [f"image:{number}"], "Labels": {"a": "x" * 1000}} for number in range(200)])
    with answering(many.encode()) as engine:
        assert engine.images() is None


def test_a_long_error_is_shortened() -> None:
    with answering(json.dumps({"message": "no " + "x" * 1_000_000}).encode(), 500) as engine:
        with pytest.raises(EngineError) as caught:
            engine.identify(IMAGE)
        assert len(str(caught.value)) < 2000
