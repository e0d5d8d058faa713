"""``c2d resources | zone | doctor``: what a zone can run, and a private zone."""

from __future__ import annotations

import argparse
import os
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from compute_to_data.cli.command import Call, Commands
from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.serving import password_arguments, set_password
from compute_to_data.client.task_status.wording import duration

if TYPE_CHECKING:
    from compute_to_data.client.site import ComputeResource

_EVERY_NAME = ("[^ ]+", ".*", ".+", r"[\s\S]*")
"""Patterns that every name of an image matches."""


def register(commands: Commands) -> None:
    """Add this noun's commands."""
    commands.add("resources", _resources, "list where tasks can run, and what may run there", example="resources")
    zone = commands.group("zone", "make a private zone, and choose the zone to work in")
    zone.add(
        "create",
        _create,
        "create a zone in a folder, and work in it from now on",
        example="create ~/my-zone",
        arguments=_create_arguments,
    )
    zone.add(
        "use",
        _use,
        "work in another zone from now on",
        example="use my-zone",
        arguments=_use_arguments,
    )
    zone.add("list", _zones, "list the zones that you have worked in", example="list")
    zone.add(
        "password",
        set_password,
        "set a user's password in your embedded zone, for signing in at c2d serve",
        example="password alice",
        arguments=password_arguments,
    )
    commands.add(
        "doctor",
        _doctor,
        "check the zone in use, and on an iRODS server its installation",
        example="doctor",
        arguments=_doctor_arguments,
    )


def _resources(call: Call) -> int:
    from compute_to_data.client import site

    found = site.resources(call.session)
    document: dict[str, Any] = {
        "resources": [one.document() for one in found],
        "images": site.images(call.session),
        "limits": site.limits(call.session),
    }
    if call.out.form == "json":
        call.out.result(document)
        return 0
    comma = "," if call.out.form == "pretty" else ", "
    rows = [
        {
            **one.document(),
            "roles": comma.join(_role(one, role, call.out.form) for role in one.roles),
            "up": _yes(one.is_up),
            "worker": _yes(one.has_worker),
        }
        for one in found
    ]
    columns = {"resource": "RESOURCE", "roles": "ROLES", "up": "UP", "worker": "WORKER", "engine": "ENGINE"}
    columns["queued"] = "QUEUED"
    call.out.table(rows, columns, empty="No resource of this zone has a role.")
    if call.out.form == "pretty":
        for line in _explained(found, document):
            call.out.note(line)
    return 0


def _role(resource: ComputeResource, role: str, form: str) -> str:
    return f"{role}(no-image)" if form == "pretty" and role in resource.roles_without_image else role


def _explained(found: Sequence[ComputeResource], document: dict[str, Any]) -> Iterator[str]:
    """Below the table: which images there are, what roles lack, and the limits."""
    for role in sorted({role for one in found for role in one.roles_without_image}):
        yield f"{role} has no image of its own: a task names one, or the site's configuration sets /roles/{role}/image."
    yield ""
    for engine in sorted({one.engine for one in found if one.promises}):
        promises = next(one.promises for one in found if one.engine == engine)
        yield f"engine {engine}: " + "; ".join(f"{name.replace('_', ' ')} {words}" for name, words in promises.items())
    places: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        if one.images is not None:
            places.setdefault(one.images, []).append(one.resource)
    for images, resources in places.items():
        yield f"images on {', '.join(resources)}: {', '.join(images) or 'none'}"
    if not places:
        yield "images: " + (", ".join(_image(one) for one in document["images"]) or "none is allowed")
    for name, value in document["limits"].items():
        default, maximum = (_limit(name, one) for one in value.values())
        yield f"{name}: {default} by default, at most {maximum}"


def _limit(name: str, value: float | None) -> str:
    """A limit with its unit, as a person writes it."""
    from compute_to_data.client.task_status.wording import amount

    if value is None:
        return "any"
    if name.endswith("_bytes"):
        return f"{value / 2**30:.0f} GiB" if value and value % 2**30 == 0 else amount(value)
    return duration(value) if name.endswith("_seconds") else f"{value:.15g}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _image(rule: dict[str, Any]) -> str:
    pattern = rule.get("pattern")
    any_image = "any that the engine has" if pattern in _EVERY_NAME else f"any whose name matches {pattern}"
    name = str(rule.get("name") or any_image)
    return f"{name} (one content only)" if rule.get("digest") else name


def _create_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="the folder for the zone; it is created if necessary")
    parser.add_argument("--user", default="", help="your user name in the zone (default: your login name)")
    parser.add_argument(
        "--image",
        action="append",
        default=[],
        help="an image that tasks may use; repeat for more (default: all images that Docker holds here)",
    )
    parser.add_argument("--force", action="store_true", help="replace your existing settings")
    parser.set_defaults(needs_no_settings=True)


def _create(call: Call) -> int:
    import getpass

    from compute_to_data.client.this_computer import laptop
    from compute_to_data.client.this_computer.known_zones import KnownZones
    from compute_to_data.errors import AlreadyExists

    options = call.options
    known = KnownZones(options.config_file, options.session_file)
    path = known.config_path
    if os.path.exists(path) and not options.force:
        remedy = "Make the zone and work in it with --force. c2d zone use leads back to the present one"
        raise AlreadyExists(path, "already holds settings", remedy)
    chosen, why_not = laptop.create(options.directory, options.user or getpass.getuser(), tuple(options.image))
    known.begin(chosen)
    call.out.note(f"settings written to {path}")
    if why_not:
        call.out.note(f"Tasks run UNSANDBOXED, as programs of this computer (image: {laptop.HOST}). {why_not}")
        call.out.note("To have sandboxes, start Docker first, and make another zone in another folder")
    call.out.result(
        {**chosen, "engine": "process" if why_not else "docker", "config_file": path}, chosen["zone"]["directory"]
    )
    return 0


def _use_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "zone",
        metavar="ZONE",
        help="a name that c2d zone list shows, the folder of a private zone, or an irods_environment.json",
    )
    parser.add_argument("--user", default="", help="your user name in a private zone that has several users")
    parser.set_defaults(needs_no_settings=True)


def _use(call: Call) -> int:
    from compute_to_data.client.this_computer.known_zones import KnownZones

    options = call.options
    used = KnownZones(options.config_file, options.session_file).use(options.zone, options.user)
    call.out.note(f"working in {used.name} ({used.place}) as {used.user}{_in_project(used.project)}")
    call.out.result(used.document(), used.name)
    return 0


def _in_project(project: str) -> str:
    return f", in {project}" if project else ""


def _zones(call: Call) -> int:
    from compute_to_data.client.this_computer.known_zones import KnownZones

    found = KnownZones(call.options.config_file, call.options.session_file).listed()
    rows = [
        {**one.document(), "in_use": _yes(one.in_use), "place": one.place if one.exists else f"{one.place} (gone)"}
        for one in found
    ]
    if call.out.form == "json":
        call.out.result([one.document() for one in found])
        return 0
    columns = {"name": "NAME", "in_use": "IN USE", "kind": "KIND", "user": "USER", "place": "PLACE"}
    call.out.table(rows, columns, empty="No zones yet. Make a private one: c2d zone create DIR. Or log in: iinit.")
    return 0


def _doctor_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--configuration", default="", metavar="FILE", help="the site configuration to check (default: the server's)"
    )
    parser.add_argument("--irods-configuration", default="", metavar="DIR", help=argparse.SUPPRESS)


def _doctor(call: Call) -> int:
    """Check the server that a named configuration belongs to, or the zone in use."""
    try:
        from compute_to_data.doctor.__main__ import main
        from compute_to_data.doctor.report import report
    except ModuleNotFoundError as error:
        from compute_to_data.errors import ConfigurationError

        cause = f"checks an iRODS server, and this computer has no Python module {error.name}"
        raise ConfigurationError("c2d doctor", cause, "Run it on the iRODS server") from error

    options = call.options
    is_json = call.out.form == "json"
    given = {"--configuration": options.configuration, "--irods-configuration": options.irods_configuration}
    configuration = "" if any(given.values()) else _configuration_in_use(options.config_file)
    if configuration is None:
        from compute_to_data.doctor import zone_in_use

        found = zone_in_use.examine(options.config_file, options.session_file, options.project)
        return _status(report(found, as_json=is_json))
    if configuration:
        given["--configuration"] = configuration
    words = [word for name, value in given.items() if value for word in (name, value)]
    return _status(main([*words, *(["--json"] if is_json else [])]))


def _status(doctors: int) -> int:
    """``c2d``'s own exit code for a doctor that failed itself; 3 means something else here."""
    from compute_to_data.doctor.report import UNKNOWN

    return int(ExitCode.UNREACHABLE) if doctors == UNKNOWN else doctors


def _configuration_in_use(config_file: str) -> str | None:
    """The configuration of the zone in use: of an embedded zone, or of the server that this computer is ('' for its
    usual place). None on a computer that has none, or with settings that cannot be read."""
    from compute_to_data import site_file
    from compute_to_data.client.this_computer import settings
    from compute_to_data.errors import ConfigurationError

    try:
        chosen = settings.load(config_file)
    except ConfigurationError:
        return None
    if chosen.site:
        return chosen.site
    is_server = chosen.zone.kind == "irods" and os.path.exists(site_file.path())
    return "" if is_server else None
