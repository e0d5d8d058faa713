"""The zone as a rule sees it from inside an iRODS agent.

This package uses only the standard library and the plugin's own modules. An agent submits tasks,
waits and reports. It never moves data, because the plugin holds one lock for the whole rule, and a
transfer from Python can wait for that lock forever. It cannot register files for an ordinary user
either. The worker does both.
"""

from __future__ import annotations

from compute_to_data.zones.rule_engine.agent import Agent
from compute_to_data.zones.rule_engine.catalog import AgentCatalog

__all__ = ["Agent", "AgentCatalog"]
