"""A whole zone in one directory: a catalog in SQLite, vaults in folders.

For a laptop, a demonstration and the tests. It has the rights, the replica states and the error
codes of an iRODS server (``docs/irods-behaviour.md``). Many threads and processes may use it at the
same time. It needs only the standard library.
"""

from __future__ import annotations

from compute_to_data.zones.embedded.zone import EmbeddedZone

__all__ = ["EmbeddedZone"]
