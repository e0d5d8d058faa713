"""How a connection to an iRODS server begins: its policy, its version, and TLS. This server then hangs up."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from irods.client_server_negotiation import FAILURE, REQUEST_NEGOTIATION, REQUIRE_SSL, USE_SSL
from irods.message import ClientServerNegotiation, Message, VersionResponse, iRODSMessage

INVALID_PARAMETER, SERVER_NEGOTIATION_ERROR = -130000, -1825000
"""What a server of 5.0 or 4.3 that requires TLS answers to a client that does not negotiate."""


class NegotiatingServer:
    """``heard``: for each connection how far it came: ``plain``, ``refused``, ``TLS`` or ``no TLS``."""

    def __init__(
        self, policy: str, certificate: Path | None = None, key: Path | None = None, refusal: int = INVALID_PARAMETER
    ) -> None:
        """``refusal``: the answer to a client that does not negotiate, where TLS is required."""
        self.policy = policy
        self._refusal = refusal
        self.heard: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate:
            self._context.load_cert_chain(certificate, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]

    @contextlib.contextmanager
    def answering(self) -> Iterator[NegotiatingServer]:
        thread = threading.Thread(target=self._serve)
        thread.start()
        try:
            yield self
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
            thread.join()
            self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, contextlib.suppress(ConnectionError):
                connection.settimeout(60)
                self.heard.append(self._begin(connection))

    def _begin(self, connection: socket.socket) -> str:
        if REQUEST_NEGOTIATION not in _received(connection):
            required = self.policy == REQUIRE_SSL
            _send(connection, "RODS_VERSION", _version(self._refusal if required else 0))
            return "refused" if required else "plain"
        _send(connection, "RODS_CS_NEG_T", ClientServerNegotiation(status=1, result=self.policy))
        answer = _received(connection)
        if FAILURE in answer:
            return "refused"
        _send(connection, "RODS_VERSION", _version(0))
        if USE_SSL not in answer:
            return "plain"
        try:
            with self._context.wrap_socket(connection, server_side=True) as encrypted:
                _head(encrypted)  # how the client encrypts parallel transfers
                _read(encrypted, _length(_head(encrypted)))  # and with which key
        except OSError:
            return "no TLS"
        return "TLS"


def _version(status: int) -> VersionResponse:
    return VersionResponse(status=status, relVersion="rods5.0.2", apiVersion="d", reconnPort=0, reconnAddr="", cookie=0)


def _send(connection: socket.socket, kind: str, message: Message) -> None:
    connection.sendall(iRODSMessage(msg_type=kind, msg=message).pack())


def _received(connection: socket.socket) -> str:
    return _read(connection, _length(_head(connection))).decode()


def _head(connection: socket.socket) -> str:
    return _read(connection, int.from_bytes(_read(connection, 4), "big")).decode()


def _length(head: str) -> int:
    found = re.search(r"<msgLen>(\d+)<", head)
    return int(found.group(1)) if found else 0


def _read(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise ConnectionResetError
        found += more
    return found
