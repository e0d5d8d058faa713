"""A person's two files: ``config.json`` (the zone and settings) and ``session.json`` (the project).

Both are JSON with mode 0600. Their place comes from an argument, else from ``C2D_CONFIG_FILE`` and
``C2D_SESSION_FILE``, else it is the platform's folder. Without a ``config.json``, the environment
file that ``iinit`` writes names the zone.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.configuration import Attributes, ZoneSettings
from compute_to_data.documents.json_text import MAXIMUM_BYTES, read_json
from compute_to_data.documents.schema import problems, summary
from compute_to_data.errors import ConfigurationError

APPLICATION = "compute-to-data"
CONFIG_VARIABLE = "C2D_CONFIG_FILE"
SESSION_VARIABLE = "C2D_SESSION_FILE"
OUTPUTS = ("pretty", "raw", "json")


@dataclass(frozen=True)
class Auth:
    """An identity provider with which ``c2d login`` signs in. ``gateway``: the only one that gets its tokens.
    ``address``: the provider's. ``callback``: where it leads the browser back to, on this computer; port 0 is any free
    one. ``after_success``: the page that the browser shows then, or ''."""

    gateway: str
    address: str
    client_id: str
    callback: str = "http://127.0.0.1:0/callback"
    after_success: str = ""
    scope: str = "openid profile"


@dataclass(frozen=True)
class Settings:
    """The content of ``config.json``. ``site``: the physical path of the site's configuration, or '';
    ``attributes`` and ``auth``: None when the file does not set them; ``log_file``: the physical path of the log of
    what commands write, or ''; ``source``: the file's path, or ''."""

    zone: ZoneSettings
    site: str = ""
    attributes: Attributes | None = None
    output: str = "pretty"
    source: str = ""
    auth: Auth | None = None
    log_file: str = ""


def load(config_file: str = "") -> Settings:
    """The person's settings. ConfigurationError when a named file does not exist, or when a file is
    wrong."""
    named = config_file or os.environ.get(CONFIG_VARIABLE, "")
    path = os.path.abspath(named or default_config_file())
    document = _read(path, "settings", missing_is_empty=not named)
    zone = dict(document.get("zone", {"kind": "irods"}))
    kind = zone.pop("kind")
    if kind == "irods":
        zone.setdefault("environment_file", irods_environment_file())
    attributes = document.get("attributes")
    return Settings(
        ZoneSettings(kind, zone),
        document.get("site", ""),
        None if attributes is None else Attributes(**attributes),
        document.get("output", "pretty"),
        path if os.path.exists(path) else "",
        Auth(**document["auth"]) if "auth" in document else None,
        _log_file(document.get("logging", {"enabled": False})),
    )


def _log_file(document: Mapping[str, Any]) -> str:
    if not document.get("enabled", True):
        return ""
    return str(document.get("file_location", "")) or os.path.join(_folder("state"), "c2d.log")


def load_session(session_file: str = "") -> dict[str, Any]:
    """The content of the session file; empty when there is no file yet."""
    return dict(_read(session_path(session_file), "session", missing_is_empty=True))


def session_path(session_file: str = "") -> str:
    """The physical path of ``session.json``."""
    named = session_file or os.environ.get(SESSION_VARIABLE, "")
    return os.path.abspath(named or os.path.join(_folder("state"), "session.json"))


def default_config_file() -> str:
    """The physical path of ``config.json`` when neither an argument nor a variable names another."""
    return os.path.join(_folder("config"), "config.json")


def _folder(kind: str, platform: str = sys.platform) -> str:
    """The platform's folder for a person's configuration ("config") or for a program's state ("state")."""
    home = os.path.expanduser("~")
    if platform == "darwin":
        return os.path.join(home, "Library", "Application Support", APPLICATION)
    if platform == "win32":
        variable, usual = ("APPDATA", "Roaming") if kind == "config" else ("LOCALAPPDATA", "Local")
        return os.path.join(os.environ.get(variable) or os.path.join(home, "AppData", usual), APPLICATION)
    variable, usual = ("XDG_CONFIG_HOME", ".config") if kind == "config" else ("XDG_STATE_HOME", ".local/state")
    named = os.environ.get(variable, "")
    return os.path.join(named if os.path.isabs(named) else os.path.join(home, usual), APPLICATION)


def document(path: str) -> dict[str, Any]:
    """The content of a settings file. ConfigurationError when it is wrong."""
    return dict(_read(path, "settings", missing_is_empty=False))


def irods_environment(path: str) -> dict[str, Any]:
    """The content of an environment file that ``iinit`` wrote; empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def iinit_zone() -> dict[str, Any] | None:
    """The settings of the zone that ``iinit`` logged in to; None without a login."""
    path = irods_environment_file()
    return {"kind": "irods", "environment_file": path} if os.path.exists(path) else None


def irods_environment_file() -> str:
    """The physical path of the environment file that ``iinit`` writes."""
    named = os.environ.get("IRODS_ENVIRONMENT_FILE", "")
    return os.path.abspath(named or os.path.expanduser("~/.irods/irods_environment.json"))


def has_irods_environment() -> bool:
    """Whether ``IRODS_ENVIRONMENT_FILE`` is set, or ``iinit`` left its file at the usual place."""
    return "IRODS_ENVIRONMENT_FILE" in os.environ or os.path.exists(irods_environment_file())


def _read(path: str, schema: str, *, missing_is_empty: bool) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            document = read_json(file.read(MAXIMUM_BYTES + 1), path, ConfigurationError)
    except FileNotFoundError:
        if missing_is_empty:
            return {}
        raise ConfigurationError(path, "does not exist", "Write it, or name another file") from None
    except OSError as error:
        raise ConfigurationError(path, f"cannot be read: {error.strerror}") from None
    found = problems(document, schema)
    if found:
        pointer, cause = summary(found)
        raise ConfigurationError(f"{path}#{pointer}" if pointer.startswith("/") else path, cause)
    return dict(document)


def write_private(path: str, document: Mapping[str, Any]) -> None:
    """Write a JSON file that only its owner may read. It is written whole or not at all."""
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", dir=folder)  # 0600
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2, ensure_ascii=False)
                file.write("\n")
            os.replace(draft, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            raise
    except OSError as error:
        raise ConfigurationError(path, f"cannot be written: {error.strerror}") from None
