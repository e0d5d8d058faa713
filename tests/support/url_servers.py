"""A real HTTPS server and a real S3 server, with certificates of an authority that a test makes."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

PLENTY = 1 << 20


@dataclass
class Requests:
    """What a server was asked: (method, path, headers in lower case), in order."""

    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def note(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.seen.append((handler.command, handler.path, headers))

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.seen]


Answer = Callable[["Handler"], None]


class HttpsServer:
    """An HTTPS server on a port of localhost. ``pages``: what it answers, by path. ``kept``: what was put there.

    ``released``: an answer may wait for it; the server's end sets it.
    """

    def __init__(self, authority: trustme.CA, *names: str) -> None:
        self.pages: dict[str, bytes | Answer] = {}
        self.kept: dict[str, bytes] = {}
        self.requests = Requests()
        self.released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.owner = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def url(self, path: str) -> str:
        return f"https://{self.host}{path}"

    def __enter__(self) -> HttpsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    owner: HttpsServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may go away in the middle."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def owner(self) -> HttpsServer:
        return self.server.owner

    def do_GET(self) -> None:
        self.owner.requests.note(self)
        page = self.owner.pages.get(self.path)
        if callable(page):
            page(self)
        elif page is None:
            self.answer(404, b"no such page")
        else:
            self.answer(200, page)

    def do_PUT(self) -> None:
        self.owner.requests.note(self)
        page = self.owner.pages.get(self.path)
        if callable(page):
            page(self)
            return
        self.owner.kept[self.path] = self.body()
        self.answer(201, b"")

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def begin(self, length: int | None, sent: bytes = b"", **headers: str) -> None:
        """Begin an answer that may promise another length than it has."""
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Tests look at ``requests``."""


def cut_off(handler: Handler) -> None:
    """Ten bytes of a thousand, and the connection ends."""
    handler.begin(1000, b"0123456789")


def endless(handler: Handler) -> None:
    """Sends as fast as it can, without a length."""
    handler.begin(None, Transfer_Encoding="chunked")
    with contextlib.suppress(OSError):
        while not handler.owner.released.is_set():
            handler.wfile.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def silent(handler: Handler) -> None:
    """Ten bytes of a thousand, and then nothing until the test lets it go."""
    handler.begin(1000, b"0123456789")
    handler.owner.released.wait()


def redirect(to: str, status: int = 302) -> Answer:
    """An answer that sends the client elsewhere."""

    def answer(handler: Handler) -> None:
        handler.answer(status, b"", Location=to)

    return answer


def s3_session() -> Any:
    """A session of botocore, for the tests themselves."""
    return need_s3().Session()


def need_s3() -> Any:
    """Skips where botocore cannot be installed beside the gateway's packages: with Python 3.9."""
    return pytest.importorskip("botocore.session")


@contextlib.contextmanager
def s3_server(authority: trustme.CA) -> Iterator[S3Server]:
    """moto's S3 server behind TLS."""
    need_s3()
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    seen: list[dict[str, str]] = []
    application = DomainDispatcherApplication(create_backend_app)

    def noting(environ: dict[str, Any], start_response: Any) -> Any:
        seen.append({name: str(value) for name, value in environ.items() if isinstance(value, str)})
        return application(environ, start_response)

    server = make_server("localhost", 0, noting, threaded=True, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield S3Server(server.server_port, seen)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class S3Server:
    """``seen``: the WSGI environments of its requests."""

    port: int
    seen: list[dict[str, str]]

    @property
    def endpoint(self) -> str:
        return f"https://localhost:{self.port}"


def authority_in(folder: Path) -> tuple[trustme.CA, str]:
    """A new authority, and the file with its certificate."""
    authority = trustme.CA()
    file = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return authority, str(file)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
