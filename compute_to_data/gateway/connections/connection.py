"""One client's connection: its requests one after the other, each answered before the next one begins.

Nothing here blocks a thread: a slow client costs a connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from compute_to_data.gateway import request_bounds, sending_files
from compute_to_data.gateway.connections import straight
from compute_to_data.gateway.connections.exchange import Exchange
from compute_to_data.gateway.connections.reader import Head, Reader, Unreadable

log = logging.getLogger(__name__)
_MOST_AHEAD = 32
"""Requests that a client may send before it has the answer to the one under way."""
_MOST_DISCARDED = 8 << 20
"""Bytes of a body that arrive after the answer, before the connection is closed."""
_BAD = b"Invalid HTTP request received."
_BUSY = b"Service Unavailable"


class Connection(asyncio.Protocol):
    """What uvicorn makes for each connection. Also the :class:`~.exchange.Line` of its exchanges, and the
    :class:`~.reader.Receiver` of its reader."""

    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self._config = config
        self._app: ASGIApp = config.loaded_app
        self._server = server_state
        self._app_state = app_state
        self.reader = Reader(self)
        self._arriving: Exchange | None = None  # whose request is not whole
        self._under_way: Exchange | None = None
        self._ahead: deque[Exchange] = deque()
        self._kept = bytearray()  # what came while a whole request was under way
        self._discarded = 0
        self._is_over = False  # nothing more is read
        self._timer: asyncio.TimerHandle | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._addresses: dict[str, Any] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._server.connections.add(self)  # type: ignore[arg-type]  # any that has shutdown()
        self._addresses = {
            "server": _address(transport.get_extra_info("sockname")),
            "client": _address(transport.get_extra_info("peername")),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        }
        self._close_after(request_bounds.HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who answer."""
        self._server.connections.discard(self)
        self._is_over = True
        self._stop_timer()
        for one in (self._under_way, *self._ahead):
            if one is not None:
                one.lose()
        self._ahead.clear()
        self._may_write.set()

    def pause_writing(self) -> None:
        """The client does not take what was sent."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._may_write.set()

    def shutdown(self) -> None:
        """The server ends: close the connection when the answer under way is complete."""
        if self._under_way is None:
            self.transport.close()
        else:
            self._ahead.clear()
            self._under_way.keeps_alive = False

    # Bytes of the client

    def data_received(self, data: bytes) -> None:
        """Read requests out of it, unless one is under way of which all has arrived."""
        if self._is_over:
            return
        if self._under_way is not None and self._arriving is None:
            self._kept += data
            if len(self._kept) > request_bounds.HEADER_BYTES:
                self.transport.pause_reading()
            return
        if self._under_way is None and self._is_idle:
            self._close_after(request_bounds.HEADER_SECONDS)
        self._feed(data)

    @property
    def _is_idle(self) -> bool:
        return not self.reader.idle_bytes and self._arriving is None

    def _feed(self, data: bytes) -> None:
        try:
            self.reader.feed(data)
            if self.reader.idle_bytes > request_bounds.HEADER_BYTES + len(data):
                raise Unreadable("too large a head")
        except Unreadable:
            self._refuse()

    def _refuse(self) -> None:
        """No request can be read after this."""
        self._is_over = True
        if self._ahead and not self._ahead[-1].is_whole:
            self._ahead.pop()
        last = self._ahead[-1] if self._ahead else self._under_way
        if last is not None and last.is_whole:
            last.keeps_alive = False  # those before it are answered still
            return
        if last is not None:
            last.lose()
        if last is None or not last.is_begun:
            self._answer_at_once(400, b"Bad Request", _BAD)
        self.transport.close()

    def _answer_at_once(self, status: int, phrase: bytes, text: bytes) -> None:
        lines = [b"HTTP/1.1 %d %b" % (status, phrase)]
        lines += [name + b": " + value for name, value in self._server.default_headers]
        lines += [b"content-type: text/plain; charset=utf-8", b"content-length: %d" % len(text), b"connection: close"]
        self.transport.write(b"\r\n".join([*lines, b"", text]))

    # The reader's findings

    def on_head(self, head: Head) -> None:
        """A request: answer it now, or after those before it."""
        if len(self._ahead) >= _MOST_AHEAD:
            raise Unreadable("too many requests at once")
        expects = head.version == "1.1" and any(
            name == b"expect" and value.lower() == b"100-continue" for name, value in head.headers
        )
        exchange = Exchange(self, self._scope(head), head.keeps_alive, self._server.default_headers, expects)
        sending_files.offer(self, exchange)
        straight.offer(self, exchange, head)
        self._arriving, self._discarded = exchange, 0
        if self._under_way is None:
            self._begin(exchange)
        else:
            self._ahead.append(exchange)

    def on_content(self, content: bytes) -> None:
        """A part of a body. What comes after the answer is discarded, up to a bound."""
        if self._arriving is None or self._arriving.is_lost:
            return
        if self._arriving.is_answered:
            self._discarded += len(content)
            if self._discarded > _MOST_DISCARDED:
                self._is_over = True
                self.transport.close()
            return
        self._arriving.add(content)

    def on_end(self) -> None:
        """The request is whole."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            arriving.end()

    def _scope(self, head: Head) -> Scope:
        path, _, query = head.target.partition(b"?")
        text = path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": head.version,
            "method": head.method,
            **self._addresses,
            "root_path": self._config.root_path,
            "path": self._config.root_path + (unquote(text) if "%" in text else text),
            "raw_path": self._config.root_path.encode("ascii") + path,
            "query_string": query,
            "headers": head.headers,
            "state": self._app_state.copy(),
            "extensions": {},
        }

    # Answers

    def _begin(self, exchange: Exchange) -> None:
        self._under_way = exchange
        self._stop_timer()
        most = self._config.limit_concurrency
        is_full = most is not None and (len(self._server.connections) >= most or len(self._server.tasks) >= most)
        task = self.loop.create_task(exchange.run(_busy if is_full else self._app))
        task.add_done_callback(self._server.tasks.discard)
        self._server.tasks.add(task)

    def write(self, content: bytes) -> None:
        """As :class:`~.exchange.Line` says, like the methods below."""
        self.transport.write(content)

    async def can_take(self) -> None:
        """Wait until the client takes more."""
        if not self._may_write.is_set():
            await self._may_write.wait()

    async def all_is_sent(self) -> None:
        """Wait until the client has taken all that was sent."""
        low, high = self.transport.get_write_buffer_limits()
        self.transport.set_write_buffer_limits(0)
        try:
            await self.can_take()
        finally:
            self.transport.set_write_buffer_limits(high, low)

    def read_on(self, wanted: bool) -> None:
        """Read the connection, or leave what comes to the kernel."""
        if self.transport.is_closing() or self._is_over:
            return
        if not wanted:
            self.transport.pause_reading()
        elif len(self._kept) <= request_bounds.HEADER_BYTES:
            self.transport.resume_reading()

    def break_off(self) -> None:
        """Close the connection; the client sees that the answer is not complete."""
        self._is_over = True
        self.transport.close()

    def answered(self, exchange: Exchange) -> None:
        """Go on with the next request, if the connection is used for more."""
        self._server.total_requests += 1
        self._under_way = None
        if not exchange.keeps_alive or (self._is_over and not self._ahead):
            self._is_over = True
            self.transport.close()
            return
        if self._ahead:
            self._begin(self._ahead.popleft())
        else:
            self._close_after(self._config.timeout_keep_alive if self._is_idle else request_bounds.HEADER_SECONDS)
            kept, self._kept = bytes(self._kept), bytearray()
            self.read_on(True)
            if kept:
                self.data_received(kept)

    # Time

    def _close_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._under_way is None:
            self._is_over = True
            self.transport.close()


def _address(found: Any) -> tuple[str, int] | None:
    return (str(found[0]), int(found[1])) if isinstance(found, (tuple, list)) else None


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    """The application of a server that has no place for one more request."""
    length = str(len(_BUSY)).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _BUSY})
