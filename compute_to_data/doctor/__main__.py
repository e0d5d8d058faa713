"""``python3 -m compute_to_data.doctor``: the examination, and how it is told."""

from __future__ import annotations

import argparse
import grp
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from compute_to_data import configuration as configuration_module
from compute_to_data import rulebase
from compute_to_data.configuration import Configuration
from compute_to_data.doctor import rules, tasks
from compute_to_data.doctor.findings import Account, Finding, Patient, Server, Verdict, ok, problem, skipped
from compute_to_data.engines import open_engine
from compute_to_data.errors import ComputeToDataError
from compute_to_data.ports import Engine, Storage
from compute_to_data.zones import open_storage

_MARKS = {Verdict.OK: "ok     ", Verdict.PROBLEM: "PROBLEM", Verdict.SKIPPED: "skipped"}


def examine(server: Server, configuration_file: str) -> Iterator[Finding]:
    """Every link, in the order in which a task meets them."""
    try:
        configuration = configuration_module.load(configuration_file)
    except ComputeToDataError as error:
        yield problem("configuration", str(error), "Mend the file; docs/configuration.md has every property")
        yield skipped("everything else", "depends on the configuration")
        return
    yield ok("configuration", f"{configuration_file} is valid")
    try:
        patient = Patient(server, configuration, _account(server, configuration))
    except KeyError as error:
        yield problem("service account", f"{error.args[0]}", "Is iRODS set up on this server?")
        return
    yield from _agent(patient)
    yield tasks.state_directory(patient)
    yield tasks.service_environment(patient)
    yield from _zone(patient)
    yield from _engine(patient)
    yield rules.delay_server(patient)


def _account(server: Server, configuration: Configuration) -> Account:
    """Whose worker it is: the iRODS service account, or for an embedded zone ourselves."""
    if configuration.zone.kind == "embedded":
        return Account.current()
    name = "irods"
    with suppress(OSError):
        for line in Path(server.irods_configuration, "service_account.config").read_text(encoding="utf-8").splitlines():
            if line.startswith("IRODS_SERVICE_ACCOUNT_NAME="):
                name = line.partition("=")[2].strip()
    return Account.named(name, *_starters_groups(server, configuration))


def _starters_groups(server: Server, configuration: Configuration) -> list[int]:
    """The unit and the program that starts a worker by hand put it into group docker; a worker on
    demand has the groups of the server's agents."""
    if configuration.worker.on_demand or not os.path.exists(f"{server.prefix}/bin/compute-to-data-worker"):
        return []
    with suppress(KeyError):
        return [grp.getgrnam("docker").gr_gid]
    return []


def _agent(patient: Patient) -> Iterator[Finding]:
    yield rules.rule_engines(patient)
    loaded = None
    has_core = os.path.exists(f"{patient.server.irods_configuration}/core.py")
    if not patient.is_embedded and has_core and patient.account.can_be_us:
        loaded = rules.load_core(patient, tuple(rulebase.__all__))
    yield from rules.core(patient, loaded)
    yield from rules.versions(patient, loaded)


def _zone(patient: Patient) -> Iterator[Finding]:
    try:
        storage = open_storage(patient.configuration.zone)
    except ComputeToDataError as error:
        yield problem("zone", f"{error.subject}: {error.cause}", error.remedy or "See that its server runs")
        yield skipped("roles, workers, vaults", "the zone does not answer")
        return
    try:
        yield from _resources(replace(patient, storage=storage), storage)
    except ComputeToDataError as error:
        yield problem("zone", str(error), "See that its server runs")
    finally:
        storage.close()


def _resources(patient: Patient, storage: Storage) -> Iterator[Finding]:
    account = storage.catalog.user
    yield ok("zone", f"{storage.zone} answers to {account}")
    yield from tasks.roles(patient, storage)
    for resource in tasks.compute_resources(patient.configuration, storage):
        yield tasks.worker(patient, storage, resource)
        yield tasks.vault(patient, resource)


def _engine(patient: Patient) -> Iterator[Finding]:
    settings = patient.configuration.engine
    try:
        opened: Engine = open_engine(settings, patient.configuration.worker.state_directory)
    except ComputeToDataError as error:
        remedy = error.remedy or "Mend engine in the configuration"
        if isinstance(error.__cause__, ModuleNotFoundError):
            remedy = f"Run the doctor of the worker's environment: {patient.server.prefix}/bin/compute-to-data-doctor"
        yield problem("engine", f"{error.subject}: {error.cause}", remedy)
        return
    found = list(tasks.engine(patient, opened))
    yield from found
    if found[0].verdict is Verdict.OK:
        yield from tasks.images(patient.configuration, opened)
    else:
        yield skipped("images", "the engine does not answer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 every link holds, 1 one does not."""
    parser = argparse.ArgumentParser(prog="compute_to_data.doctor", description="Check each link; say what to do.")
    configuration = configuration_module.site_file()
    parser.add_argument("--configuration", default=configuration, help=f"default: {configuration}")
    parser.add_argument("--irods-configuration", default=Server.irods_configuration, help="default: %(default)s")
    parser.add_argument("--prefix", default=Server.prefix, help="where it was installed; default: %(default)s")
    parser.add_argument("--python", default=Server.python, help="the agent's Python; default: %(default)s")
    parser.add_argument("--json", action="store_true", help="a list of objects instead of lines")
    options = parser.parse_args(arguments)
    server = Server(irods_configuration=options.irods_configuration, prefix=options.prefix, python=options.python)
    findings = []
    for finding in examine(server, options.configuration):
        findings.append(finding)
        if not options.json:
            _tell(finding)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return int(any(finding.verdict is Verdict.PROBLEM for finding in findings))


def _tell(finding: Finding) -> None:
    print(f"{_MARKS[finding.verdict]}  {finding.link}: {finding.seen.rstrip('.')}.", flush=True)
    if finding.remedy:
        print(f"         -> {finding.remedy.rstrip('.')}.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
