"""Checks of the engine: that it answers, and that it holds the images that the configuration names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from compute_to_data.configuration import Configuration, ImageRule
from compute_to_data.doctor.findings import Finding, ok, problem
from compute_to_data.doctor.installation import Installation
from compute_to_data.errors import EngineError
from compute_to_data.job import Image
from compute_to_data.ports.engine import Engine

_NAMES_SHOWN = 5


def answers(installation: Installation, opened: Engine) -> Iterator[Finding]:
    """Check that the engine answers, can enforce the sandbox's limits, and admits the workers' account."""
    link = "engine"
    try:
        opened.check()
    except EngineError as error:
        remedy = error.remedy or "Start the engine, and check that the workers' account may use it"
        yield problem(link, f"{error.subject}: {error.cause}", remedy)
        return
    if not opened.sandboxed:
        yield ok(link, f"{opened.name} answers. It isolates NOTHING; use it only to try things out")
        return
    yield ok(link, f"{opened.name} answers, and can enforce the sandbox's limits")
    if opened.name == "docker":
        yield from _socket(installation)


def _socket(installation: Installation) -> Iterator[Finding]:
    settings = installation.configuration.engine.settings
    address = str(settings.get("socket", "")) or os.environ.get("DOCKER_HOST", "") or "/var/run/docker.sock"
    path = address[len("unix://") :] if address.startswith("unix://") else address
    try:
        status = os.stat(path)
    except OSError:
        return  # the engine has no socket on this host
    account = installation.account
    if not account.may(stat.S_IWOTH, status):
        remedy = "Start workers with systemctl or compute-to-data-worker, which add the group docker"
        if installation.configuration.worker.on_demand:
            remedy = f"For workers on demand: usermod -aG docker {account.name}, and restart iRODS. Or: {remedy}"
        yield problem("engine", f"{account.name} may not use {path}", remedy)


def images(configuration: Configuration, opened: Engine) -> Iterator[Finding]:
    """Check that the engine holds every image that the configuration names, with the digest it names."""
    if not configuration.images:
        remedy = "List the allowed images in `images` of the configuration"
        yield problem("images", "the configuration allows no image, so no task can run", remedy)
    for rule in configuration.images:
        if rule.pattern:
            yield _like(rule, opened)
            continue
        link = f"image {rule.name}"
        try:
            yield _image(rule, opened.identify(rule.name), link)
        except EngineError as error:
            yield problem(link, error.cause, error.remedy)


def images_of_roles(configuration: Configuration, opened: Engine) -> Iterator[Finding]:
    """Problems with the images of roles that only a pattern allows: that the engine does not hold them."""
    exact = {rule.name for rule in configuration.images if not rule.pattern}
    for name, role in configuration.roles.items():
        image = role.settings.get("image")
        if not isinstance(image, str) or image in exact or configuration.allows(image) is None:
            continue
        try:
            opened.identify(image)
        except EngineError as error:
            yield problem(f"image {image} of the role {name}", error.cause, error.remedy)


def _like(rule: ImageRule, opened: Engine) -> Finding:
    """How many of the images that a pattern allows are here."""
    link = f"images like {rule.pattern}"
    try:
        held = opened.images()
    except EngineError as error:
        return problem(link, error.cause, error.remedy)
    if held is None:
        return ok(link, "are allowed; the engine does not list its images")
    fitting = [name for name in held if "@" not in name and rule.covers(name)]
    if not fitting:
        return problem(link, "are allowed, but the engine holds none", "Pull or build one on this host")
    more = f" and {len(fitting) - _NAMES_SHOWN} more" if len(fitting) > _NAMES_SHOWN else ""
    return ok(link, f"are allowed; here are {', '.join(fitting[:_NAMES_SHOWN])}{more}")


def _image(rule: ImageRule, held: Image, link: str) -> Finding:
    if rule.admits(held):
        return ok(
            link, f"is here ({held.digest[:19]})" + ("" if rule.digest else "; the configuration names no digest")
        )
    remedy = f"Pull the image with the digest {rule.digest[:19]}, or change the digest in the configuration"
    return problem(link, f"has the digest {held.digest[:19]} here, not the one in the configuration", remedy)
