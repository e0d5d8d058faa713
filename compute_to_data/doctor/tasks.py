"""Checks of the workers' side: state directory, resources, workers, engine, images and vaults."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import replace

from compute_to_data.configuration import Configuration, ImageRule
from compute_to_data.coordination import lock
from compute_to_data.doctor.findings import Account, Finding, Installation, ok, problem, python_as, skipped
from compute_to_data.errors import EngineError
from compute_to_data.job import Image
from compute_to_data.model import EntityKind, Query, Resource
from compute_to_data.ports.engine import Engine
from compute_to_data.ports.zone import Storage
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
_NAMES_SHOWN = 5


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
    refusal = _refusal(installation, _PROBE, path)
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
    refusal = _refusal(installation, _READ, path)
    if refusal:
        remedy = f"Run iinit as {installation.account.name}, or name another file in zone.environment_file"
        return problem(link, f"{installation.account.name} cannot read {path} ({refusal})", remedy)
    return ok(link, f"{installation.account.name} can read {path}")


def _refusal(installation: Installation, program: str, path: str) -> str:
    """Why the account cannot do with a path what the program tries; '' when it can."""
    done = python_as(installation, program, path)
    return done.stdout.strip() or (done.stderr.strip()[-200:] if done.returncode else "")


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


def engine(installation: Installation, opened: Engine) -> Iterator[Finding]:
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
    if not allowed(status, account, stat.S_IWOTH):
        remedy = "Start workers with systemctl or compute-to-data-worker, which add the group docker"
        if installation.configuration.worker.on_demand:
            remedy = f"For workers on demand: usermod -aG docker {account.name}, and restart iRODS. Or: {remedy}"
        yield problem("engine", f"{account.name} may not use {path}", remedy)


def allowed(status: os.stat_result, account: Account, for_others: int) -> bool:
    """Whether a file's mode admits an account. ``for_others`` is the permission as a bit for others;
    the bits of owner and group follow from it."""
    if account.uid == 0:
        return True
    if status.st_uid == account.uid:
        return bool(status.st_mode & for_others << 6)
    if status.st_gid in {account.gid, *account.groups}:
        return bool(status.st_mode & for_others << 3)
    return bool(status.st_mode & for_others)


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


def vault(installation: Installation, resource: Resource) -> Finding:
    """Check that the workers' account can write into the vault, and that sandboxes can read its files."""
    link, path = f"vault of {resource.name}", resource.vault
    if not resource.is_here:
        return skipped(link, f"it is on {resource.host}. Run the doctor there, too")
    if not installation.account.is_usable:
        return skipped(link, f"only root or {installation.account.name} can check it")
    if not os.path.isdir(path):
        remedy = f"Create it: install -d -m 750 -o {installation.account.name} {path}"
        return problem(link, f"{path} does not exist", remedy)
    refusal = _refusal(installation, _PROBE, path)
    if refusal:
        remedy = f"Run: chown {installation.account.name} {path}, and list it in the workers' unit (ReadWritePaths)"
        return problem(link, f"{installation.account.name} cannot write into {path} ({refusal})", remedy)
    unreadable = _unreadable(path, installation)
    if unreadable:
        remedy = "Run the worker as the owner of the files, or let everybody read them"
        return problem(link, f"tasks cannot read {unreadable}", remedy)
    return ok(link, f"{installation.account.name} can write into {path}, and tasks can read it")


def vault_on_nodes(opened: Engine, resource: Resource) -> Finding:
    """Check that a job on a node can write and read in the vault, and that this host sees what it wrote."""
    link = f"vault of {resource.name} on a node"
    try:
        opened.check_directory(resource.vault)
    except EngineError as error:
        remedy = error.remedy or f"Mount the vault under {resource.vault} on all nodes, with the same accounts"
        return problem(link, f"{error.subject}: {error.cause}", remedy)
    return ok(link, f"a probe wrote and read a file in {resource.vault}")


def _tasks_can_read(status: os.stat_result, installation: Installation) -> bool:
    """Whether jobs can read a file of a vault. Jobs with ids of their own can, if the worker can give them access: as
    the file's owner, or as root."""
    account, engine = installation.account, installation.configuration.engine
    if engine.name in ("docker", "podman") and engine.settings.get("job_uids", "") is not None:
        return account.uid in (0, status.st_uid) or bool(status.st_mode & stat.S_IROTH)
    if account.uid == 0 and engine.name in ("docker", "slurm"):
        settings = engine.settings if engine.name == "docker" else engine.settings.get("sandbox", {})
        uid, gid = int(settings.get("uid", 65534)), int(settings.get("gid", 65534))
        account = Account(str(uid), uid, gid)
    return allowed(status, account, stat.S_IROTH)


def _unreadable(path: str, installation: Installation) -> str:
    """The first file in a vault, of some that it looks at, that jobs cannot read; '' without one."""
    looked = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and not _tasks_can_read(status, installation):
                return os.path.join(folder, name)
            looked += 1
        if looked >= _FILES_LOOKED_AT:
            break
    return ""
