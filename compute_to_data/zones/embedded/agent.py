"""Calls rules for the embedded zone as an iRODS agent calls them.

A rule gets a list of strings, a ``callback`` and a ``rei``. Here the callback can only write lines.
The rei holds what a rule in iRODS gets through the callback: a session of the client user, and the
site's configuration. ``irule`` does what ``irule -F FILE`` does, for a rule file whose ``main`` calls
one rule with string literals.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from compute_to_data.configuration import Configuration
from compute_to_data.errors import InvalidRequest
from compute_to_data.model import User
from compute_to_data.ports.zone import Catalog
from compute_to_data.zones.embedded.zone import EmbeddedZone

_CALL = re.compile(r"main\s*\{\s*(?:\*\w+\s*=\s*)?(\w+)\s*\(([^()]*)\)\s*;?\s*\}", re.DOTALL)
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Callback:
    """The only microservice that this product's rules need."""

    def __init__(self, write: Callable[[str, str], object]) -> None:
        self._write = write

    def writeLine(self, where: str, text: str) -> dict[str, Any]:
        """Write a line to the rule's caller (``stdout``) or to the log (``serverLog``)."""
        self._write(where, text)
        return {"code": 0, "status": True, "arguments": [where, text]}


class RuleExecutionInfo:
    """The embedded zone's ``rei``: the client user, the zone and the configuration."""

    def __init__(self, zone: EmbeddedZone, user: User, configuration: Configuration) -> None:
        self._zone = zone
        self._user = user
        self._configuration = configuration

    def compute_to_data_session(self) -> tuple[Catalog, Configuration]:
        """What a rule works with: the client user's own session, and the configuration."""
        return self._zone.session(self._user), self._configuration


def _to_terminal(where: str, text: str) -> None:
    print(text, file=sys.stderr if where == "serverLog" else sys.stdout, flush=True)


def irule(
    core: ModuleType,
    rule_file: Path,
    rei: RuleExecutionInfo,
    write: Callable[[str, str], object] = _to_terminal,
) -> int:
    """Call the rule that a rule file's ``main`` calls, as the client user; returns its result.

    InvalidRequest when the file has another structure, or when ``core`` does not export the rule.
    """
    found = _CALL.search(rule_file.read_text(encoding="utf-8"))
    if found is None:
        raise InvalidRequest(str(rule_file), 'found no main { rule("...", ...) } with string literals')
    name, text = found.groups()
    if name not in core.__all__:
        raise InvalidRequest(str(rule_file), f"calls {name}, which core.py does not export")
    arguments = [re.sub(r"\\(.)", r"\1", literal) for literal in _LITERAL.findall(text)]
    code: int = getattr(core, name)(arguments, Callback(write), rei)
    return code
