"""An iRODS zone through python-irodsclient: the worker's and the command line's adapter.

A rule inside an agent has another one, which needs the standard library only.
"""

from __future__ import annotations

from compute_to_data.zones.irods.service import IrodsStorage
from compute_to_data.zones.irods.session import IrodsSession

__all__ = ["IrodsSession", "IrodsStorage"]
