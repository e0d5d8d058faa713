"""A whole zone in one directory: a catalog in SQLite, vaults in folders.

For a laptop, a demonstration and the tests. It has the rights, the replica states and the error
codes of an iRODS server (``docs/irods-behaviour.md``), and is safe for many threads and
processes at once. Nothing but the standard library is needed.
"""

from __future__ import annotations

from compute_to_data.zones.embedded.zone import EmbeddedZone

__all__ = ["EmbeddedZone"]
