"""Checks of the roles: who has them, whether workers can load their classes, and what they need in the zone."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from compute_to_data.configuration import Configuration
from compute_to_data.doctor.findings import Finding, ok, problem, skipped
from compute_to_data.doctor.installation import Installation, run_as
from compute_to_data.model import Entity, EntityKind, Query, Resource
from compute_to_data.ports.zone import Storage

_LOAD_ROLE = """
import sys
from compute_to_data import site_file
from compute_to_data.errors import ComputeToDataError
from compute_to_data.roles import role_named
fault = ""
try:
    role_named(site_file.load(sys.argv[1]), sys.argv[2])
except ComputeToDataError as error:
    fault = error.cause
print("", "fault:" + fault, sep="\\n")  # the module may have printed, too
"""
_PRODUCT = "compute_to_data.roles."


def roles(installation: Installation, storage: Storage) -> Iterator[Finding]:
    """Check the roles of the zone's resources."""
    attribute = installation.configuration.attributes.role
    resources = {one.name: one for one in storage.catalog.resources()}
    seen: set[str] = set()
    for name in storage.catalog.find(Query(EntityKind.RESOURCE, attribute)):
        for avu in storage.catalog.avus(Entity(EntityKind.RESOURCE, name), attribute):
            finding = _role(installation.configuration, resources[name], avu.value)
            seen |= {avu.value} & installation.configuration.roles.keys()
            yield finding
    for role in sorted(seen):
        yield from _needs(installation, storage, role)
    if not seen:
        known = ", ".join(sorted(installation.configuration.roles))
        remedy = f"Give a resource a role: imeta add -R <resource> {attribute} <role>, where <role> is one of {known}"
        yield problem("roles", "no resource has a role that the configuration defines", remedy)


def _role(configuration: Configuration, resource: Resource, role: str) -> Finding:
    link = f"role of {resource.name}"
    if role not in configuration.roles:
        return skipped(link, f"the configuration does not define {role}, so no task with this role runs there")
    if not resource.is_storage:
        attribute = configuration.attributes.role
        remove = f"imeta rm -R {resource.name} {attribute} {role}"
        remedy = f"Remove the role, and give it to a storage resource below this one: {remove}"
        return problem(link, f"{resource.name} is a coordinating resource, which cannot run tasks", remedy)
    if not resource.is_up:
        remedy = f"When its host is back: iadmin modresc {resource.name} status up"
        return problem(link, f"{resource.name} is marked down", remedy)
    return ok(link, f"{role}, on {resource.host}")


def _needs(installation: Installation, storage: Storage, role: str) -> Iterator[Finding]:
    """Problems with what a role that a resource has needs: its class, its image, a resource that receives its
    results."""
    configuration = installation.configuration
    described, link = configuration.roles[role], f"role {role}"
    fault = _class_fault(installation, role)
    if fault:
        yield problem(link, fault, "Until it loads, each task with this role fails; install it where the worker runs")
    image = described.settings.get("image")
    if isinstance(image, str) and image and configuration.allows(image) is None:
        seen = f"its image {image} is not in `images` of the configuration, so its own program cannot run"
        yield problem(link, seen, "Add the image to `images`")
    receiver, attribute = described.settings.get("results_to"), configuration.attributes.role
    if isinstance(receiver, str) and receiver:
        bearers = {*storage.catalog.find(Query(EntityKind.RESOURCE, attribute, receiver))}
        up = [one for one in storage.catalog.resources() if one.name in bearers and one.is_up]
        if not up:
            seen = f"its results go to a resource with the role {receiver}, and none that is up has it: each task fails"
            yield problem(link, seen, f"Give a resource this role: imeta add -R <resource> {attribute} {receiver}")


def _class_fault(installation: Installation, role: str) -> str:
    """Why workers cannot load the class of a site's own role; '' when they can, or when this process cannot tell. The
    class may be anybody's code: it is loaded in a new process, as the workers' account."""
    described = installation.configuration.roles[role]
    if described.implementation.startswith(_PRODUCT) or not installation.account.is_usable:
        return ""
    command = [sys.executable, "-c", _LOAD_ROLE, installation.configuration.source, role]
    done = run_as(installation.account, command)
    _, mark, fault = done.stdout.rpartition("\nfault:")
    if mark:
        return fault.strip()
    return (done.stderr.strip().splitlines() or [f"its class ends the process that loads it ({done.returncode})"])[-1]
