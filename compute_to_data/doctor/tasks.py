"""The worker's side: its state directory, the zone, resources and their workers, engine, images, vaults."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace

from compute_to_data.configuration import Configuration, ImageRule
from compute_to_data.coordination import lock
from compute_to_data.doctor.findings import Account, Finding, Patient, ok, problem, python_as, skipped
from compute_to_data.errors import EngineError
from compute_to_data.job import Image
from compute_to_data.model import Entity, EntityKind, Query, Resource
from compute_to_data.ports import Engine, Storage
from compute_to_data.submission import selection

_PROBE = """
import os, sys
try:
    place = os.path.join(sys.argv[1], ".compute_to_data_probe_%d" % os.getpid())
    os.mkdir(place, 0o700)
    os.rmdir(place)
except OSError as error:
    print(error.strerror)
"""
_READ = """
import sys
try:
    open(sys.argv[1], "rb").read(1)
except OSError as error:
    print(error.strerror)
"""
_FILES_LOOKED_AT = 100


def state_directory(patient: Patient) -> Finding:
    """The worker's account has it for itself."""
    link, path = "state directory", patient.configuration.worker.state_directory
    account = patient.account
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if patient.is_embedded:
            return ok(link, f"{path} is made when a worker starts")
        return problem(link, f"{path} is missing", f"install -d -m 700 -o {account.name} {path}")
    except OSError as error:
        return skipped(link, f"{path} cannot be seen ({error.strerror}): run the doctor as root")
    if status.st_uid != account.uid:
        return problem(link, f"{path} does not belong to {account.name}", f"chown {account.name} {path}")
    if status.st_mode & 0o022:
        return problem(link, f"others may write into {path}", f"chmod 700 {path}")
    refusal = _refusal(patient, _PROBE, path)
    if refusal:
        return problem(link, f"{account.name} cannot write into {path} ({refusal})", f"chmod 700 {path}")
    return ok(link, f"{path} is {account.name}'s own")


def service_environment(patient: Patient) -> Finding:
    """The service account's environment file can be read by that account."""
    link = "service environment"
    if patient.is_embedded:
        return skipped(link, "an embedded zone needs no environment file")
    path = str(patient.configuration.zone.settings["environment_file"])
    if not patient.account.can_be_us:
        return skipped(link, f"only root or {patient.account.name} can see {path} as the worker does")
    refusal = _refusal(patient, _READ, path)
    if refusal:
        remedy = f"Run iinit as {patient.account.name}, or name another file in zone.environment_file"
        return problem(link, f"{patient.account.name} cannot read {path} ({refusal})", remedy)
    return ok(link, f"{patient.account.name} can read {path}")


def _refusal(patient: Patient, program: str, path: str) -> str:
    """Why the account cannot do something with a path, '' when it can."""
    done = python_as(patient, program, path)
    return done.stdout.strip() or (done.stderr.strip()[-200:] if done.returncode else "")


def roles(patient: Patient, storage: Storage) -> Iterator[Finding]:
    """Which resources bear which roles, and whether they can."""
    attribute = patient.configuration.attributes.role
    resources = {one.name: one for one in storage.catalog.resources()}
    seen = False
    for name in storage.catalog.find(Query(EntityKind.RESOURCE, attribute)):
        for avu in storage.catalog.avus(Entity(EntityKind.RESOURCE, name)):
            if avu.attribute == attribute:
                finding = _role(patient.configuration, resources[name], avu.value)
                seen = seen or avu.value in patient.configuration.roles
                yield finding
    if not seen:
        known = ", ".join(sorted(patient.configuration.roles))
        remedy = f"imeta add -R <resource> {attribute} <role>, with one of {known}"
        yield problem("roles", "no resource bears a role that the configuration knows", remedy)


def _role(configuration: Configuration, resource: Resource, role: str) -> Finding:
    link = f"role of {resource.name}"
    if role not in configuration.roles:
        return skipped(link, f"{role} is no role of the configuration, so no task runs there for it")
    if not resource.is_storage:
        attribute = configuration.attributes.role
        return problem(
            link, f"{resource.name} is a coordinating resource", f"imeta rm -R {resource.name} {attribute} {role}, "
            "and tag a storage resource below it")  # fmt: skip
    if not resource.is_up:
        return problem(link, f"{resource.name} is marked down", f"iadmin modresc {resource.name} status up")
    return ok(link, f"{role}, on {resource.host}")


def compute_resources(configuration: Configuration, storage: Storage) -> list[Resource]:
    """Storage resources that bear a role of the configuration."""
    attribute = configuration.attributes.role
    resources = {one.name: one for one in storage.catalog.resources() if one.is_storage}
    queries = [Query(EntityKind.RESOURCE, attribute, role) for role in configuration.roles]
    bearers = {name for query in queries for name in storage.catalog.find(query)}
    return [resources[name] for name in sorted(bearers & set(resources))]


def worker(patient: Patient, storage: Storage, resource: Resource) -> Finding:
    """The lock, where the resource is here, and the sign of life in the catalog."""
    link, configuration = f"worker of {resource.name}", patient.configuration
    signed = selection.has_worker(storage.catalog, _without_demand(configuration), resource.name)
    remedy = _starting(patient, resource.name)
    if not resource.is_here:
        if signed:
            return ok(link, f"its sign of life is fresh (on {resource.host})")
        return problem(link, "its sign of life is old or missing", f"On {resource.host}: {remedy}")
    try:
        held = _holds_lock(configuration, storage.zone, resource.name)
    except PermissionError:
        return skipped(link, f"only root or {patient.account.name} can see its lock")
    if held and signed:
        return ok(link, "it holds the lock of its resource, and its sign of life is fresh")
    if held:
        return problem(link, "it runs, but its sign of life is old", "Look into its log: it may have lost the zone")
    if configuration.worker.on_demand:
        return ok(link, "none runs; a submission starts one on demand")
    return problem(link, "none runs", remedy)


def _starting(patient: Patient, resource: str) -> str:
    """The words that start a worker there."""
    if patient.is_embedded:
        source = patient.configuration.source
        return f"{sys.executable} -m compute_to_data.worker --configuration {source} --resource {resource}"
    if os.path.isdir("/run/systemd/system"):
        return f"systemctl enable --now compute-to-data-worker@{resource}"
    return f"{patient.server.prefix}/bin/compute-to-data-worker start {resource}"


def _without_demand(configuration: Configuration) -> Configuration:
    return replace(configuration, worker=replace(configuration.worker, on_demand=False))


def _holds_lock(configuration: Configuration, zone: str, resource: str) -> bool:
    if not os.path.isdir(configuration.worker.state_directory):
        return False
    return lock.ResourceLock(configuration, zone, resource).is_held()


def engine(patient: Patient, opened: Engine) -> Iterator[Finding]:
    """It answers, with the limits that the sandbox needs, and the worker's account may ask it."""
    link = "engine"
    try:
        opened.check()
    except EngineError as error:
        yield problem(link, f"{error.subject}: {error.cause}", error.remedy or "Start it, and see that it is allowed")
        return
    if not opened.sandboxed:
        yield ok(link, f"{opened.name} answers; it isolates NOTHING and is for trying out")
        return
    yield ok(link, f"{opened.name} answers and can keep the sandbox's limits")
    yield from _socket(patient)


def _socket(patient: Patient) -> Iterator[Finding]:
    settings = patient.configuration.engine.settings
    address = str(settings.get("socket", "")) or os.environ.get("DOCKER_HOST", "") or "/var/run/docker.sock"
    path = address[len("unix://") :] if address.startswith("unix://") else address
    try:
        status = os.stat(path)
    except OSError:
        return  # not a socket of this host
    account = patient.account
    if not allowed(status, account, stat.S_IWOTH):
        remedy = "Start workers by their unit or by hand, which adds the group docker"
        if patient.configuration.worker.on_demand:
            remedy = f"For workers on demand: usermod -aG docker {account.name}, and restart iRODS; or: {remedy}"
        yield problem("engine", f"{account.name} may not use {path}", remedy)


def allowed(status: os.stat_result, account: Account, for_others: int) -> bool:
    """Whether a mode's owner, group or other bits (given as those for others) admit an account."""
    if account.uid == 0:
        return True
    if status.st_uid == account.uid:
        return bool(status.st_mode & for_others << 6)
    if status.st_gid in {account.gid, *account.groups}:
        return bool(status.st_mode & for_others << 3)
    return bool(status.st_mode & for_others)


def images(configuration: Configuration, opened: Engine) -> Iterator[Finding]:
    """Every allowed image by name: held, and of the content that is named."""
    if not configuration.images:
        yield problem("images", "none is allowed, so no task can run", "Name some in images of the configuration")
    for rule in configuration.images:
        if rule.pattern:
            yield ok(f"images like {rule.pattern}", "are allowed; which of them this host holds is not looked at")
            continue
        link = f"image {rule.name}"
        try:
            yield _image(rule, opened.identify(rule.name), link)
        except EngineError as error:
            yield problem(link, error.cause, error.remedy)


def _image(rule: ImageRule, held: Image, link: str) -> Finding:
    if rule.admits(held):
        return ok(link, f"is here ({held.digest[:19]})" + ("" if rule.digest else "; no digest is named for it"))
    remedy = f"docker pull the content that the configuration names, {rule.digest[:19]}, or name this one there"
    return problem(link, f"is {held.digest[:19]} here: the name was given to other content", remedy)


def vault(patient: Patient, resource: Resource) -> Finding:
    """The worker's account can make a task's directory in it, and a sandbox can read its files."""
    link, path = f"vault of {resource.name}", resource.vault
    if not resource.is_here:
        return skipped(link, f"it is on {resource.host}: run the doctor there, too")
    if not patient.account.can_be_us:
        return skipped(link, f"only root or {patient.account.name} can see it as the worker does")
    if not os.path.isdir(path):
        return problem(link, f"{path} is not there yet", f"install -d -m 750 -o {patient.account.name} {path}")
    refusal = _refusal(patient, _PROBE, path)
    if refusal:
        remedy = f"chown it to {patient.account.name}, and name it in the worker's unit (ReadWritePaths)"
        return problem(link, f"{patient.account.name} cannot write into {path} ({refusal})", remedy)
    sandbox = _sandbox_account(patient)
    unreadable = _unreadable(path, sandbox)
    if unreadable:
        remedy = f"Let {sandbox.name} read it: run the worker as the files' owner, or set uid and gid of the engine"
        return problem(link, f"a task (uid {sandbox.uid}) cannot read {unreadable}", remedy)
    return ok(link, f"{path} can be written by {patient.account.name} and read by tasks")


def _sandbox_account(patient: Patient) -> Account:
    """Jobs run as the worker's account, and never as root."""
    if patient.account.uid != 0 or patient.configuration.engine.name != "docker":
        return patient.account
    settings = patient.configuration.engine.settings
    uid, gid = int(settings.get("uid", 65534)), int(settings.get("gid", 65534))
    return Account(str(uid), uid, gid)


def _unreadable(path: str, account: Account) -> str:
    """The first of a few files in a vault whose mode keeps an account out; '' when there is none."""
    looked = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and not allowed(status, account, stat.S_IROTH):
                return os.path.join(folder, name)
            looked += 1
        if looked >= _FILES_LOOKED_AT:
            break
    return ""
