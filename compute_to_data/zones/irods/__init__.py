"""The adapter for an iRODS zone that workers and clients use, with python-irodsclient.

Rules inside an agent use another one, ``zones.rule_engine``, with the standard library only.
"""

from __future__ import annotations

from compute_to_data.zones.irods.service import IrodsStorage
from compute_to_data.zones.irods.session import IrodsSession

__all__ = ["IrodsSession", "IrodsStorage"]
