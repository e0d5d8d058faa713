"""The zones that a person has worked in, so that they can go back to each.

``zones.json`` beside ``config.json`` has for each zone, by a name, the settings that lead to it and the project that
the person worked in. The zone in use is the one that ``config.json`` names, else the one that ``iinit`` logged in to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compute_to_data.client.this_computer import settings as settings_module
from compute_to_data.errors import ConfigurationError, InvalidRequest, NotFound
from compute_to_data.similar_names import nearest

_OF_ZONE = ("zone", "site", "attributes")
"""The properties of ``config.json`` that belong to a zone. The others are the person's in every zone."""


@dataclass(frozen=True)
class KnownZone:
    """A zone that a person has settings for. ``place``: the folder of an embedded zone, the environment file of an
    iRODS zone, or the address of a gateway. ``exists``: whether that place is still there."""

    name: str
    kind: str
    user: str
    place: str
    project: str
    in_use: bool
    exists: bool

    def document(self) -> dict[str, Any]:
        """The same as JSON (docs/reference/json.md)."""
        return dict(vars(self))


class KnownZones:
    """The registry in ``zones.json``, beside a person's ``config.json`` and ``session.json``."""

    def __init__(self, config_file: str = "", session_file: str = "") -> None:
        named = config_file or os.environ.get(settings_module.CONFIG_VARIABLE, "")
        self.config_path = os.path.abspath(named or settings_module.default_config_file())
        self._session_file = session_file
        self._path = os.path.join(os.path.dirname(self.config_path), "zones.json")

    def listed(self) -> list[KnownZone]:
        """All known zones by name, with the one in use."""
        entries, current = self._entries(), self._current()
        if current is not None:
            entries = _with(entries, current, self._project())
        login = settings_module.iinit_zone()
        if login is not None:
            entries = _with(entries, {"zone": login}, "")
        place = None if current is None else _place(current)
        return [_described(name, entry, place) for name, entry in sorted(entries.items())]

    def remember(self) -> None:
        """Keep the zone in use and its project, before other settings replace it."""
        current = self._current()
        if current is not None:
            self._write(_with(self._entries(), current, self._project()))

    def begin(self, chosen: Mapping[str, Any], project: str = "") -> None:
        """Work in the zone of these settings from now on. A wrong ``config.json`` becomes ``config.json.old``."""
        try:
            self.remember()
        except ConfigurationError:
            os.replace(self.config_path, f"{self.config_path}.old")
        own = {name: value for name, value in self._document().items() if name not in _OF_ZONE}
        self._write(_with(self._entries(), chosen, project))
        settings_module.write_private(self.config_path, {**own, **chosen})
        session = {"project": project} if project else {}
        settings_module.write_private(settings_module.session_path(self._session_file), session)

    def use(self, given: str, user: str = "") -> KnownZone:
        """Work from now on in a zone: by its name, the folder of an embedded zone, or the environment file of an iRODS
        zone. NotFound; InvalidRequest when it is not clear as which user."""
        known = {one.name: one for one in self.listed()}
        chosen, project = self._chosen(given, user, known)
        self.begin(chosen, project)
        return next(one for one in self.listed() if one.in_use)

    def _chosen(self, given: str, user: str, known: Mapping[str, KnownZone]) -> tuple[dict[str, Any], str]:
        by_place = {os.path.realpath(one.place): one for one in known.values()}
        found = known.get(given) or by_place.get(os.path.realpath(_zone_folder(given)))
        if found is not None and (not user or user == found.user):
            if not found.exists:
                raise NotFound(f"zone {found.name}", f"{found.place} is gone", "See the others: c2d zone list")
            entry = self._settings_of(found)
            return entry, found.project
        if os.path.isdir(given):
            return _embedded(_zone_folder(given), user), ""
        if os.path.isfile(given):
            return {"zone": {"kind": "irods", "environment_file": os.path.abspath(given)}}, ""
        raise NotFound(f"zone {given}", "is not known here", _remedy(given, list(known)))

    def _settings_of(self, zone: KnownZone) -> dict[str, Any]:
        entry = self._entries().get(zone.name)
        if entry is not None:
            return {name: entry[name] for name in _OF_ZONE if name in entry}
        current = self._current()
        if zone.in_use and current is not None:
            return current
        return {"zone": {"kind": "irods", "environment_file": zone.place}}

    def _document(self) -> dict[str, Any]:
        return settings_module.document(self.config_path) if os.path.exists(self.config_path) else {}

    def _current(self) -> dict[str, Any] | None:
        """The settings that lead to the zone in use; None without settings and without a login."""
        if os.path.exists(self.config_path):
            return {name: value for name, value in self._document().items() if name in _OF_ZONE}
        login = settings_module.iinit_zone()
        return None if login is None else {"zone": login}

    def _project(self) -> str:
        return str(settings_module.load_session(self._session_file).get("project", ""))

    def _entries(self) -> dict[str, dict[str, Any]]:
        try:
            with open(self._path, encoding="utf-8") as file:
                entries: dict[str, dict[str, Any]] = json.load(file)["zones"]
                return {str(name): dict(entry) for name, entry in entries.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            remedy = "Remove it. c2d zone use DIR then finds an embedded zone by its folder"
            raise ConfigurationError(self._path, "is not a list of zones that c2d wrote", remedy) from None

    def _write(self, entries: Mapping[str, Any]) -> None:
        settings_module.write_private(self._path, {"zones": dict(entries)})


def _with(entries: Mapping[str, Any], chosen: Mapping[str, Any], project: str) -> dict[str, dict[str, Any]]:
    """The entries, with one for these settings: under its name where it has one."""
    place = _place(chosen)
    name = next((name for name, entry in entries.items() if _place(entry) == place), "") or _new_name(chosen, entries)
    kept = {key: value for key, value in chosen.items() if key in _OF_ZONE}
    return {**entries, name: {**kept, **({"project": project} if project else {})}}


def _place(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    """What distinguishes a zone: its kind, its folder or environment file, and the user."""
    zone = dict(entry.get("zone") or {"kind": "irods"})
    if zone.get("kind") == "embedded":
        return "embedded", os.path.realpath(str(zone.get("directory", ""))), str(zone.get("user", ""))
    if zone.get("kind") == "gateway":
        return "gateway", str(zone.get("url", "")), ""
    file = zone.get("environment_file") or settings_module.irods_environment_file()
    return "irods", os.path.realpath(str(file)), ""


def _new_name(chosen: Mapping[str, Any], taken: Mapping[str, Any]) -> str:
    """A name after the folder, or after the zone that the environment file names; with a number if it is taken."""
    kind, place, _ = _place(chosen)
    if kind == "embedded":
        outer, last = os.path.split(place)
        name = (os.path.basename(outer) if last == "zone" else last) or "zone"
    elif kind == "gateway":
        name = place.partition("://")[2].replace("/", "-") or "gateway"
    else:
        name = str(settings_module.irods_environment(place).get("irods_zone_name", "")) or "irods"
    numbers = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(one for one in numbers if one not in taken)


def _described(name: str, entry: Mapping[str, Any], current: tuple[str, str, str] | None) -> KnownZone:
    kind, place, user = _place(entry)
    if kind == "irods":
        user = str(settings_module.irods_environment(place).get("irods_user_name", ""))
    marker = os.path.join(place, "zone.db") if kind == "embedded" else place
    in_use = _place(entry) == current
    exists = kind == "gateway" or os.path.exists(marker)
    return KnownZone(name, kind, user, place, str(entry.get("project", "")), in_use, exists)


def _zone_folder(given: str) -> str:
    """The folder that holds ``zone.db``: the one given, or ``zone`` below it."""
    below = os.path.join(os.path.abspath(given), "zone")
    return below if os.path.exists(os.path.join(below, "zone.db")) else os.path.abspath(given)


def _embedded(folder: str, user: str) -> dict[str, Any]:
    """The settings for an embedded zone that is not known here yet."""
    if not os.path.exists(os.path.join(folder, "zone.db")):
        raise NotFound(folder, "holds no zone", f"Make one there: c2d zone create {folder}")
    zone = {"kind": "embedded", "directory": folder, "user": user or _only_user(folder)}
    site = os.path.join(os.path.dirname(folder), "compute_to_data.json")
    return {"zone": zone, **({"site": site} if os.path.exists(site) else {})}


def _only_user(folder: str) -> str:
    """The user of the zone: the only one, or the one with the person's login name."""
    import getpass

    from compute_to_data import zones

    zone = zones.embedded_zones()(folder)
    try:
        users = [one.name if one.zone == zone.name else str(one) for one in zone.users()]
    finally:
        zone.close()
    if len(users) == 1:
        return users[0]
    if getpass.getuser() in users:
        return getpass.getuser()
    raise InvalidRequest(folder, f"has the users {', '.join(users)}", "Say which you are, with --user NAME")


def _remedy(given: str, known: list[str]) -> str:
    near = nearest(given, known)
    meant = f"Did you mean {near}? " if near else ""
    return f"{meant}Name one of c2d zone list, a folder that holds a zone, or an irods_environment.json"
