"""A private zone on this computer: the zone and its configuration in one folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compute_to_data import zones
from compute_to_data.configuration import EngineSettings, ZoneSettings
from compute_to_data.errors import AlreadyExists, ComputeToDataError, ConfigurationError, InvalidRequest, NotFound
from compute_to_data.model import Avu, Entity, EntityKind, User

if TYPE_CHECKING:
    from compute_to_data.zones.embedded import EmbeddedZone

ZONE = "tempZone"
RESOURCES = {"compute_resc": "CONTAINER", "dsp_resc": "SIGNAL_PROCESSING", "lts_resc": "LONG_TERM_STORAGE"}
_CONFIGURATION = "compute_to_data.json"
_ROLE = "COMPUTE_RESOURCE_ROLE"
_UNUSABLE = re.compile("[\\x00-\\x1f\\x7f\\ud800-\\udfff]")
HOST = "host"
"""The only image of a zone without Docker. It means this computer's programs, without isolation."""


def make_zone(
    directory: str, user: str, resources: Mapping[str, str], document: Mapping[str, Any]
) -> tuple[EmbeddedZone, str]:
    """Open the zone in ``directory``, or make it, and write its configuration.

    A new zone has demoResc and ``resources``, which map a resource's name to its role. ``document``
    is the configuration without the parts that follow from ``directory``. Returns the zone and the
    configuration's physical path.
    """
    embedded = zones.embedded_zones()
    os.makedirs(directory, mode=0o700, exist_ok=True)
    place = os.path.join(directory, "zone")
    known = os.path.exists(os.path.join(place, "zone.db"))
    zone = embedded(place) if known else _new(place, user, resources)
    path = os.path.join(directory, _CONFIGURATION)
    worker = {"state_directory": os.path.join(directory, "worker"), "on_demand": True, "idle_seconds": 5}
    whole = {"zone": {"kind": "embedded", "directory": place}, "worker": worker, **document}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(whole, file, indent=2)
    return zone, path


def _new(place: str, user: str, resources: Mapping[str, str]) -> EmbeddedZone:
    """Make a zone. After an error, as for a full disk or a name that iRODS does not allow, nothing of it is left.
    AlreadyExists when something else is there."""
    if os.path.isdir(place) and os.listdir(place):
        raise AlreadyExists(place, "holds files that are no zone", "Choose another folder")
    try:
        zone = zones.embedded_zones().create(place, zone=ZONE)
        try:
            zone.add_user(user)
            admin = zone.storage().catalog
            for resource, role in resources.items():
                zone.add_resource(resource)
                admin.annotate(Entity(EntityKind.RESOURCE, resource), add=[Avu(_ROLE, role)])
        except BaseException:
            zone.close()
            raise
    except AlreadyExists:  # another process has made one in this moment
        raise
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return zone


def create(directory: str, user: str, images: tuple[str, ...] = ()) -> tuple[dict[str, Any], str]:
    """Make a new zone for one person. Returns their settings, and why tasks run without a sandbox ('' with one).

    With Docker, tasks may use ``images``, by default any image that this computer's Docker holds.
    Without Docker, they use this computer's programs, without a sandbox, as the image ``host``.
    AlreadyExists when the folder holds a zone, InvalidRequest when it cannot be written.
    """
    directory = os.path.abspath(directory)
    if _UNUSABLE.search(directory):
        cause = "its path has a control character, or bytes that are no UTF-8, which no settings can name"
        raise InvalidRequest(directory, cause, "Choose another folder")
    zones.embedded_zones()  # before anything is made
    if os.path.exists(os.path.join(directory, "zone", "zone.db")):
        raise AlreadyExists(
            directory, "already holds a zone", f"Work in it with: c2d zone use {directory}. Or choose another folder"
        )
    try:
        document, why_not = _engine(directory, images)
        zone, site = make_zone(directory, user, RESOURCES, document)
    except OSError as error:
        cause = f"the zone cannot be written there: {error.strerror}"
        raise InvalidRequest(directory, cause, "Choose another folder") from None
    except sqlite3.Error as error:
        cause = f"the zone cannot be made there: {error}"
        raise InvalidRequest(directory, cause, "Choose another folder, with a shorter path") from None
    zone.close()
    place = {"kind": "embedded", "directory": os.path.join(directory, "zone"), "user": user}
    return {"zone": place, "site": site}, why_not


def known_user(settings: ZoneSettings, name: str) -> User:
    """The user of an embedded zone with this name (``name``, or ``name#zone``). NotFound when there is none;
    ConfigurationError when the settings lead to another kind of zone."""
    with _embedded(settings) as zone:
        try:
            return zone.session(User.parse(name, zone.name)).user
        except NotFound as error:
            remedy = f"To make this user: c2d zone password --new {name}"
            raise NotFound(error.subject, error.cause, remedy, code=error.code) from None


def new_user(settings: ZoneSettings, name: str) -> User:
    """A user of an embedded zone who is not there yet. AlreadyExists; InvalidRequest for a user of another zone;
    ConfigurationError as above."""
    with _embedded(settings) as zone:
        user = User.parse(name, zone.name)
        if user.zone != zone.name:
            raise InvalidRequest(str(user), f"would be a user of another zone than {zone.name}")
        try:
            zone.session(user)
        except NotFound:
            return user
        raise AlreadyExists(str(user), "is a user already", f"To change the password: c2d zone password {name}")


def add_user(settings: ZoneSettings, user: User, password: str) -> None:
    """Make a user of an embedded zone with a password. ZoneError for a name or a password that cannot be one; then
    nothing is made."""
    with _embedded(settings) as zone:
        zone.add_user(user.name, password=password)


def set_password(settings: ZoneSettings, user: User, password: str | None) -> bool:
    """Set the password with which a user of an embedded zone signs in over HTTP; None takes it away.
    Returns whether the user had one."""
    with _embedded(settings) as zone:
        return zone.set_password(user, password)


def _embedded(settings: ZoneSettings) -> EmbeddedZone:
    if settings.kind != "embedded":
        cause = "passwords of an iRODS zone's users are set in iRODS"
        raise ConfigurationError("c2d zone password", cause, "Use ipasswd, or iadmin moduser")
    return zones.embedded_zones()(str(settings.settings["directory"]))


def _engine(directory: str, images: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The configuration's ``engine`` and ``images``, and why the engine is not Docker ('' when it is)."""
    from compute_to_data.engines import open_engine

    try:
        open_engine(EngineSettings("docker"), "").check()
    except ComputeToDataError as error:
        tools = os.path.join(directory, HOST)
        os.makedirs(tools, mode=0o700, exist_ok=True)
        names = images or (HOST,)
        return {"engine": {"name": "process", "images": dict.fromkeys(names, tools)}, "images": list(names)}, str(error)
    # The zone and the engine belong to the same person, who may run every image that their Docker holds. Their jobs
    # need no ids of their own, for which not every computer is set up.
    allowed: list[Any] = list(images) or [{"pattern": "[^ ]+"}]
    return {"engine": {"name": "docker", "job_uids": None}, "images": allowed}, ""
