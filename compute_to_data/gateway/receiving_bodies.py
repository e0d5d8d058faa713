"""Receives large bodies without h11's three copies of every piece.

While a body of a known length is under way, h11 has nothing to decide: what arrives is body up to that length. So a
piece that ends before the end of the body goes to the request as it is, and h11 only learns how much it was. The first
piece, the last one, and everything else go through h11.
"""

from __future__ import annotations

import h11
from h11._readers import ContentLengthReader
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from compute_to_data.gateway.sending_files import FileSendingProtocol

_LARGE = 1 << 14
"""Smaller pieces are not worth it."""


class BodyReceivingProtocol(FileSendingProtocol):
    """Uvicorn's connections, which also receive large bodies quickly."""

    def data_received(self, data: bytes) -> None:
        """Take the next bytes of a connection."""
        if len(data) < _LARGE or not self._is_only_body(data):
            super().data_received(data)
            return
        self._unset_keepalive_if_required()
        self.cycle.body += data
        if len(self.cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def _is_only_body(self, data: bytes) -> bool:
        """Whether these bytes are a part of a body, and not its end; then they count as read."""
        reader, conn = self.conn._reader, self.conn
        if not isinstance(reader, ContentLengthReader) or len(data) >= reader._remaining:
            return False
        is_under_way = conn.their_state is h11.SEND_BODY and conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY)
        if not is_under_way or conn.client_is_waiting_for_100_continue or conn._receive_buffer:
            return False
        reader._remaining -= len(data)
        return True
