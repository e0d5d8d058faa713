"""Checks of vaults: that workers can write into them, and that jobs can read their files."""

from __future__ import annotations

import os
import stat

from compute_to_data.doctor.findings import Finding, ok, problem, skipped
from compute_to_data.doctor.installation import Account, Installation, write_refusal
from compute_to_data.errors import EngineError
from compute_to_data.model import Resource
from compute_to_data.ports.engine import Engine

_FILES_LOOKED_AT = 100


def access(installation: Installation, resource: Resource) -> Finding:
    """Check that the workers' account can write into the vault, and that sandboxes can read its files."""
    link, path = f"vault of {resource.name}", resource.vault
    if not resource.is_here:
        return skipped(link, f"it is on {resource.host}. Run the doctor there, too")
    if not installation.account.is_usable:
        return skipped(link, f"only root or {installation.account.name} can check it")
    if not os.path.isdir(path):
        remedy = f"Create it: install -d -m 750 -o {installation.account.name} {path}"
        return problem(link, f"{path} does not exist", remedy)
    refusal = write_refusal(installation, path)
    if refusal:
        remedy = f"Run: chown {installation.account.name} {path}, and list it in the workers' unit (ReadWritePaths)"
        return problem(link, f"{installation.account.name} cannot write into {path} ({refusal})", remedy)
    unreadable = _unreadable(path, installation)
    if unreadable:
        remedy = "Run the worker as the owner of the files, or let everybody read them"
        return problem(link, f"tasks cannot read {unreadable}", remedy)
    return ok(link, f"{installation.account.name} can write into {path}, and tasks can read it")


def on_nodes(opened: Engine, resource: Resource) -> Finding:
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
    return account.may(stat.S_IROTH, status)


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
