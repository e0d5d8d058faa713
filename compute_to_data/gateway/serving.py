"""Runs a gateway: its socket, TLS, and the address with the one-time token."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Callable

import uvicorn

from compute_to_data.errors import ConfigurationError
from compute_to_data.gateway.app import create_app
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.request_bounds import HEADER_BYTES, BoundedProtocol
from compute_to_data.gateway.settings import GatewaySettings, Listen

_KEEP_ALIVE_SECONDS = 15
_STOP_SECONDS = 5
"""How long answers under way may take when the gateway is asked to stop."""


class _Server(uvicorn.Server):
    """Calls ``ready`` once it listens."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(settings: GatewaySettings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. ``say`` receives the address, with the one-time token if there is one.

    ConfigurationError when it would listen beyond the loopback without TLS, or cannot listen there.
    """
    listen = settings.listen
    need_protection(listen)
    gateway = Gateway(settings)
    try:
        listening = _socket(listen)
    except BaseException:
        gateway.close()
        raise
    # From here on the server closes both.
    address = _address(listen, listening)
    token = ""
    if settings.user:
        token = gateway.people.one_time_token(gateway.people.named(settings.user))

    def ready() -> None:
        say(f"{address}/?token={token}" if token else address)

    _Server(_config(settings, gateway), ready).run(sockets=[listening])


def need_protection(listen: Listen) -> None:
    """ConfigurationError for an address beyond the loopback without TLS, unless the settings ask for that."""
    if listen.has_tls or listen.without_tls or _is_loopback(listen.address):
        return
    cause = f"{listen.address} is not a loopback address, and passwords would cross the network in plain"
    remedy = "Set certificate and key; or set without_tls to true where a proxy on a trusted network has TLS"
    raise ConfigurationError("/listen", cause, remedy)


def _is_loopback(address: str) -> bool:
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _socket(listen: Listen) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(listen.address, listen.port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(where[:2], family=family, backlog=2048)
    except OSError as error:
        cause = f"cannot listen there: {error.strerror or error}"
        raise ConfigurationError(f"{listen.address}:{listen.port}", cause, "Choose another port with --port") from None
    # Connections inherit it. An answer goes out as head and body: without this the body would wait until the client has
    # acknowledged the head, some 40 ms. asyncio sets it only for sockets that name their protocol.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _address(listen: Listen, listening: socket.socket) -> str:
    scheme = "https" if listen.has_tls else "http"
    host = f"[{listen.address}]" if ":" in listen.address else listen.address
    return f"{scheme}://{host}:{listening.getsockname()[1]}"


def _config(settings: GatewaySettings, gateway: Gateway) -> uvicorn.Config:
    listen = settings.listen
    _need_certificate(listen)
    return uvicorn.Config(
        create_app(gateway),
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it would hold the query, and so the one-time token
        server_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
        limit_concurrency=listen.connections,
        # Without proxies by name, uvicorn would believe any on this host.
        proxy_headers=bool(listen.proxies),
        forwarded_allow_ips=list(listen.proxies),
        ssl_certfile=listen.certificate or None,
        ssl_keyfile=listen.key or None,
    )


def _need_certificate(listen: Listen) -> None:
    if not listen.has_tls:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(listen.certificate, listen.key)
    except (OSError, ssl.SSLError) as error:
        missing = [one for one in (listen.certificate, listen.key) if not os.path.exists(one)]
        cause = f"there is no {missing[0]}" if missing else f"no certificate with its key: {error}"
        raise ConfigurationError("/listen/certificate", cause) from None


def log_to_stderr(debug: bool) -> None:
    """Send the log to standard error, where a service manager expects it."""
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, format=form)
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
