"""Checks of the workers: their state directory, their environment file, and the worker of each resource."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from compute_to_data.configuration import Configuration
from compute_to_data.coordination import lock
from compute_to_data.doctor.findings import Finding, ok, problem, skipped
from compute_to_data.doctor.installation import Installation, read_refusal, write_refusal
from compute_to_data.model import EntityKind, Query, Resource
from compute_to_data.ports.zone import Storage
from compute_to_data.submission import selection


def state_directory(installation: Installation) -> Finding:
    """Check that only the workers' account can write into the state directory."""
    link, path = "state directory", installation.configuration.worker.state_directory
    account = installation.account
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if installation.is_embedded:
            return ok(link, f"{path} does not exist yet; a worker creates it when it starts")
        return problem(link, f"{path} does not exist", f"Create it: install -d -m 700 -o {account.name} {path}")
    except OSError as error:
        return skipped(link, f"{path} cannot be checked ({error.strerror}). Run the doctor as root")
    if status.st_uid != account.uid:
        return problem(link, f"{path} does not belong to {account.name}", f"Run: chown {account.name} {path}")
    if status.st_mode & 0o022:
        return problem(link, f"other accounts may write into {path}", f"Run: chmod 700 {path}")
    refusal = write_refusal(installation, path)
    if refusal:
        return problem(link, f"{account.name} cannot write into {path} ({refusal})", f"Run: chmod 700 {path}")
    return ok(link, f"only {account.name} can write into {path}")


def service_environment(installation: Installation) -> Finding:
    """Check that the workers' account can read its iRODS environment file."""
    link = "service environment"
    if installation.is_embedded:
        return skipped(link, "an embedded zone needs no environment file")
    path = str(installation.configuration.zone.settings["environment_file"])
    if not installation.account.is_usable:
        return skipped(link, f"only root or {installation.account.name} can check {path}")
    refusal = read_refusal(installation, path)
    if refusal:
        remedy = f"Run iinit as {installation.account.name}, or name another file in zone.environment_file"
        return problem(link, f"{installation.account.name} cannot read {path} ({refusal})", remedy)
    return ok(link, f"{installation.account.name} can read {path}")


def compute_resources(configuration: Configuration, storage: Storage) -> list[Resource]:
    """The storage resources with a role that the configuration defines."""
    attribute = configuration.attributes.role
    resources = {one.name: one for one in storage.catalog.resources() if one.is_storage}
    queries = [Query(EntityKind.RESOURCE, attribute, role) for role in configuration.roles]
    bearers = {name for query in queries for name in storage.catalog.find(query)}
    return [resources[name] for name in sorted(bearers & set(resources))]


def worker(installation: Installation, storage: Storage, resource: Resource) -> Finding:
    """Check a worker's heartbeat in the catalog and, for a resource of this host, its lock."""
    link, configuration = f"worker of {resource.name}", installation.configuration
    signed = selection.has_worker(storage.catalog, _without_demand(configuration), resource.name)
    remedy = _starting(installation, resource.name)
    if not resource.is_here:
        if signed:
            return ok(link, f"it runs on {resource.host}: its heartbeat in the catalog is recent")
        return problem(link, "its heartbeat in the catalog is old or missing", f"On {resource.host}, run: {remedy}")
    try:
        held = _holds_lock(configuration, storage.zone, resource.name)
    except PermissionError:
        return skipped(link, f"only root or {installation.account.name} can check its lock")
    if held and signed:
        return ok(link, "it runs: it holds its lock, and its heartbeat in the catalog is recent")
    if held:
        seen = "it runs, but its heartbeat in the catalog is old"
        return problem(link, seen, "Read its log: it may have lost the connection to the zone")
    if configuration.worker.on_demand:
        return ok(link, "it does not run; a submission starts it on demand")
    return problem(link, "it does not run", f"Start it: {remedy}")


def _starting(installation: Installation, resource: str) -> str:
    """The command that starts a worker."""
    if installation.is_embedded:
        source = installation.configuration.source
        return f"{sys.executable} -m compute_to_data.worker --configuration {source} --resource {resource}"
    if os.path.isdir("/run/systemd/system"):
        return f"systemctl enable --now compute-to-data-worker@{resource}"
    return f"{installation.server.prefix}/bin/compute-to-data-worker start {resource}"


def _without_demand(configuration: Configuration) -> Configuration:
    return replace(configuration, worker=replace(configuration.worker, on_demand=False))


def _holds_lock(configuration: Configuration, zone: str, resource: str) -> bool:
    if not os.path.isdir(configuration.worker.state_directory):
        return False
    return lock.ResourceLock(configuration, zone, resource).is_held()
