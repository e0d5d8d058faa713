"""The rule engines in ``server_config.json``. We always check them, and edit them only on request."""

from __future__ import annotations

import json
from typing import Any

from installer.layout import InstallError, Layout, replace_file
from installer.manifest import Manifest, checksum

PYTHON = "irods_rule_engine_plugin-python"
NATIVE = "irods_rule_engine_plugin-irods_rule_language"
STANZA = {"instance_name": f"{PYTHON}-instance", "plugin_name": PYTHON, "plugin_specific_configuration": {}}


def path(layout: Layout) -> str:
    """The path of the server's configuration."""
    return f"{layout.irods_configuration}/server_config.json"


def read(layout: Layout) -> dict[str, Any]:
    """The server's configuration. InstallError when it is not a JSON object, OSError when it cannot be read."""
    content = layout.on_disk(path(layout)).read_bytes()
    try:
        document = json.loads(content.decode())
    except ValueError as error:
        raise InstallError(f"{path(layout)} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InstallError(f"{path(layout)} is not a JSON object")
    return document


def _engines(document: dict[str, Any]) -> list[Any]:
    plugins = document.get("plugin_configuration", {})
    engines = plugins.get("rule_engines", []) if isinstance(plugins, dict) else []
    return engines if isinstance(engines, list) else []


def _plugins(document: dict[str, Any]) -> list[str]:
    return [str(one.get("plugin_name", "")) if isinstance(one, dict) else "" for one in _engines(document)]


def problem(document: dict[str, Any]) -> str:
    """What is wrong with the rule engines, as a sentence; '' when nothing is."""
    plugins = _plugins(document)
    if PYTHON not in plugins:
        return "the Python rule engine has no entry in plugin_configuration.rule_engines"
    if NATIVE not in plugins:
        return "the native rule engine, which writeLine and delay need, has no entry"
    if plugins.index(PYTHON) > plugins.index(NATIVE):
        return "the Python rule engine comes after the native one, which answers first"
    return ""


def edited(document: dict[str, Any]) -> str:
    """The document's text with the Python engine's entry before the native engine's."""
    engines = _engines(document)
    plugins = _plugins(document)
    if NATIVE not in plugins:
        raise InstallError("server_config.json has no native rule engine. Restore its entry by hand first")
    stanza = engines.pop(plugins.index(PYTHON)) if PYTHON in plugins else dict(STANZA)
    engines.insert(_plugins(document).index(NATIVE), stanza)
    return json.dumps(document, indent=4) + "\n"


def edit(layout: Layout, record: Manifest) -> None:
    """Edit the file. Keep its owner and mode, and a backup beside it."""
    place = layout.real(path(layout))
    before = place.read_bytes()
    after = edited(read(layout)).encode()
    status = place.stat()
    owner, mode = (status.st_uid, status.st_gid), status.st_mode & 0o777
    backup = f"{path(layout)}.before-compute-to-data"
    if not layout.on_disk(backup).exists():
        replace_file(layout.on_disk(backup), before, mode, owner, durable=True)
    replace_file(place, after, mode, owner, durable=True)
    record.server_config = {"backup": backup, "checksum": checksum(after)}
