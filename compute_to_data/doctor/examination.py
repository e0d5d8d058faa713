"""Runs the checks of an installation, in the order in which a task needs what they check."""

from __future__ import annotations

import grp
import os
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from compute_to_data import engine_promises, rulebase, site_file
from compute_to_data.configuration import Configuration
from compute_to_data.doctor import engine, host, report, roles, rules, vaults, workers
from compute_to_data.doctor.findings import Finding, Verdict, ok, problem, skipped
from compute_to_data.doctor.installation import Account, Installation, Server
from compute_to_data.engine_promises import Promise
from compute_to_data.engines import open_engine
from compute_to_data.errors import ComputeToDataError, ConfigurationError
from compute_to_data.model import Resource
from compute_to_data.ports.engine import Engine
from compute_to_data.ports.zone import Storage
from compute_to_data.zones import open_storage


def examine(server: Server, configuration_file: str) -> Iterator[Finding]:
    """Check every link, in the order in which a task needs them."""
    try:
        configuration = site_file.load(configuration_file)
    except ComputeToDataError as error:
        yield problem("configuration", str(error), "Correct the file; docs/configuration.md describes every property")
        yield skipped("everything else", "it depends on the configuration")
        return
    yield _configuration(configuration_file)
    try:
        installation = Installation(server, configuration, _account(server, configuration))
    except KeyError as error:
        yield problem("service account", f"{error.args[0]}", "Set up iRODS on this server first")
        return
    for checks in (_agent, _account_files, _zone, _engine, _urls, _host, _delays):
        yield from _guarded(checks, installation)


def _configuration(path: str) -> Finding:
    """Check that not everybody can write the configuration, which names what the workers' account runs."""
    file = os.path.realpath(path)
    for place in (file, os.path.dirname(file)):
        mode = os.stat(place).st_mode
        if mode & stat.S_IWOTH and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
            seen = f"every account of this host may write {place}, and so choose what workers run"
            return problem("configuration", seen, f"chmod o-w {shlex.quote(place)}")
    return ok("configuration", f"{path} is valid")


def _guarded(checks: Callable[[Installation], Iterator[Finding]], installation: Installation) -> Iterator[Finding]:
    """Findings of some checks. A fault of the doctor's own in one of them keeps no other checks from being made."""
    try:
        yield from checks(installation)
    except Exception as error:  # noqa: BLE001 - the boundary between two groups of checks
        yield report.failure(error)


def _account(server: Server, configuration: Configuration) -> Account:
    """The account of the workers: the iRODS service account, or our own for an embedded zone."""
    if configuration.zone.kind == "embedded":
        return Account.current()
    name = "irods"
    with suppress(OSError):
        file = Path(server.irods_configuration, "service_account.config")
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("IRODS_SERVICE_ACCOUNT_NAME="):
                name = line.partition("=")[2].strip()
    return Account.named(name, *_worker_groups(server, configuration))


def _worker_groups(server: Server, configuration: Configuration) -> list[int]:
    """The groups that a worker gets in addition. The systemd unit and compute-to-data-worker add the
    group docker. A worker on demand has only the groups of the server's agents."""
    if configuration.worker.on_demand or not os.path.exists(f"{server.prefix}/bin/compute-to-data-worker"):
        return []
    with suppress(KeyError):
        return [grp.getgrnam("docker").gr_gid]
    return []


def _agent(installation: Installation) -> Iterator[Finding]:
    yield rules.rule_engines(installation)
    loaded = None
    has_core = os.path.exists(f"{installation.server.irods_configuration}/core.py")
    if not installation.is_embedded and has_core and installation.account.is_usable:
        loaded = rules.load_core(installation, tuple(rulebase.__all__))
    yield from rules.core(installation, loaded)
    yield from rules.versions(installation, loaded)


def _account_files(installation: Installation) -> Iterator[Finding]:
    yield workers.state_directory(installation)
    yield workers.service_environment(installation)


def _delays(installation: Installation) -> Iterator[Finding]:
    yield rules.delay_server(installation)


def _zone(installation: Installation) -> Iterator[Finding]:
    try:
        storage = open_storage(installation.configuration.zone)
    except ComputeToDataError as error:
        yield problem("zone", f"{error.subject}: {error.cause}", error.remedy or "Check that its server runs")
        yield skipped("roles, workers, vaults", "the zone does not answer")
        return
    try:
        yield from _resources(replace(installation, storage=storage), storage)
    except ComputeToDataError as error:
        yield problem("zone", str(error), "Check that its server runs")
    finally:
        storage.close()


def _resources(installation: Installation, storage: Storage) -> Iterator[Finding]:
    account = storage.catalog.user
    yield ok("zone", f"{storage.zone} answers to {account}")
    yield from roles.roles(installation, storage)
    for resource in workers.compute_resources(installation.configuration, storage):
        yield workers.worker(installation, storage, resource)
        yield vaults.access(installation, resource)
        if not installation.is_embedded:
            yield host.access_lists(resource)
            yield host.memory(resource)
        yield from host.project_quotas(installation, resource)
        if resource.is_here:
            yield from _on_nodes(installation, resource)


def _on_nodes(installation: Installation, resource: Resource) -> Iterator[Finding]:
    """Check the vault from a node, if the engine may run jobs on other hosts."""
    settings = installation.configuration.engine
    queue = engine_promises.of(settings.name).get(Promise.QUEUE)
    if queue is not None and queue.is_held:
        with suppress(ConfigurationError):  # the check of the engine says that
            yield vaults.on_nodes(open_engine(settings, ""), resource)


def _engine(installation: Installation) -> Iterator[Finding]:
    if installation.configuration.engine.name != "podman":
        yield from _open_engine(installation)
        return
    with installation.account.acting():  # each account has a Podman of its own
        found = list(_open_engine(installation))
    yield from found


def _open_engine(installation: Installation) -> Iterator[Finding]:
    settings = installation.configuration.engine
    try:
        opened: Engine = open_engine(settings, installation.configuration.worker.state_directory)
    except ComputeToDataError as error:
        remedy = error.remedy or "Correct `engine` in the configuration"
        if isinstance(error.__cause__, ModuleNotFoundError):
            remedy = (
                f"Run the doctor from the workers' environment: {installation.server.prefix}/bin/compute-to-data-doctor"
            )
        yield problem("engine", f"{error.subject}: {error.cause}", remedy)
        return
    found = list(engine.answers(installation, opened))
    yield from found
    if found[0].verdict is Verdict.OK:
        yield from engine.images(installation.configuration, opened)
        yield from engine.images_of_roles(installation.configuration, opened)
    else:
        yield skipped("images", "the engine does not answer")


def _urls(installation: Installation) -> Iterator[Finding]:
    """Check what connections to the URLs that tasks may name need."""
    access = installation.configuration.urls
    if not (access.hosts or access.buckets):
        return
    try:
        from compute_to_data.urls import connections

        connections.authorities(access)
    except ModuleNotFoundError as error:
        yield problem("urls", f"a package is missing here ({error.name})", "Install the packages of the extra `urls`")
    except ConfigurationError as error:
        yield problem("urls", f"{error.subject}: {error.cause}", error.remedy)


def _host(installation: Installation) -> Iterator[Finding]:
    if installation.is_embedded:
        yield skipped("weights and ids of jobs", "with an embedded zone, jobs share the host with its user only")
        return
    yield from host.ids_of_jobs(installation)
    yield from host.weights()
