"""The adapter for a zone behind a gateway (``c2d serve``), over HTTP. It needs urllib3 only, and no iRODS client."""

from __future__ import annotations

from compute_to_data.zones.gateway.session import GatewaySession
from compute_to_data.zones.gateway.wire import Wire

__all__ = ["GatewaySession", "Wire"]
