"""Checks of the zone that a person works in, with no more than the person's own rights and settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from compute_to_data.client import site
from compute_to_data.client.session import connect
from compute_to_data.client.this_computer import settings as settings_module
from compute_to_data.doctor.findings import Finding, ok, problem, skipped
from compute_to_data.errors import ComputeToDataError

if TYPE_CHECKING:
    from compute_to_data.client.session import Session
    from compute_to_data.client.site import ComputeResource


def examine(config_file: str, session_file: str, project: str = "") -> Iterator[Finding]:
    """Check every link between the person and a task that runs, in the order in which a task needs them."""
    try:
        settings = settings_module.load(config_file)
    except ComputeToDataError as error:
        yield _of_error("settings", error, "Correct the file; docs/configuration.md describes every property")
        return
    yield ok(
        "settings",
        f"{settings.source or 'the environment that iinit wrote'} names a zone of the kind {settings.zone.kind}",
    )
    try:
        with connect(config_file, session_file, project=project) as session:
            yield ok("zone", f"{session.zone} answers to {session.user}")
            yield from _project(session)
            yield from _resources(site.resources(session))
    except ComputeToDataError as error:
        yield _of_error("zone", error, "Check that its server runs, and log in with iinit")


def _of_error(link: str, error: ComputeToDataError, remedy: str) -> Finding:
    return problem(link, f"{error.subject}: {error.cause}", error.remedy or remedy)


def _project(session: Session) -> Iterator[Finding]:
    try:
        yield ok("project", session.project)
    except ComputeToDataError as error:
        yield _of_error("project", error, "Choose another: c2d project set PATH")


def _resources(found: Sequence[ComputeResource]) -> Iterator[Finding]:
    if not found:
        yield problem("resources", "no resource of this zone has a role", "Ask an administrator to set one up")
        return
    for one in found:
        yield _resource(one)
    if not any(one.is_up and one.has_worker for one in found):
        yield problem("workers", "no compute resource is up and has a live worker", "Ask an administrator to start one")


def _resource(one: ComputeResource) -> Finding:
    link, roles = one.resource, ", ".join(one.roles)
    if not one.is_up:
        return problem(link, f"{roles}, but it is marked down", "Use another resource, or ask an administrator")
    if not one.has_worker:
        return skipped(link, f"{roles}; no worker runs tasks there")
    images = "its worker does not say which images there are" if one.images is None else f"{len(one.images)} images"
    without = f"; a task must name an image for {', '.join(one.roles_without_image)}" if one.roles_without_image else ""
    return ok(link, f"{roles}; its worker can run tasks; {images}{without}")
