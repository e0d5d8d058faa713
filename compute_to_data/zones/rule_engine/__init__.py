"""The zone as a rule sees it, from inside an iRODS agent: standard library and the plugin's own
modules only.

An agent submits, waits and reports. It never moves data (a plugin holds one lock for the whole
rule, and a transfer from Python can wait for it for ever) and cannot register files for an
ordinary user: the worker does both.
"""

from __future__ import annotations

from compute_to_data.zones.rule_engine.agent import Agent
from compute_to_data.zones.rule_engine.catalog import AgentCatalog

__all__ = ["Agent", "AgentCatalog"]
