"""Checks of the host: what keeps jobs and workers from using up what others on this host need."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from compute_to_data.doctor.findings import Finding, ok, problem, skipped
from compute_to_data.doctor.installation import Installation
from compute_to_data.engines import guard_connection, job_ids, output_quotas
from compute_to_data.engines import project_quotas as quotas_of_the_kernel
from compute_to_data.model import Resource

CGROUPS = Path("/sys/fs/cgroup")
JOBS, SERVICES = "c2d.slice", "system.slice"
GUARD = "compute-to-data-guard.service"
_MIB = 1024 * 1024


def memory(resource: Resource) -> Finding:
    """Check, in the kernel's own files, that the memory of a resource's worker is bounded."""
    link, unit = f"memory of the worker of {resource.name}", f"compute-to-data-worker@{resource.name}.service"
    if not resource.is_here:
        return skipped(link, f"it is on {resource.host}. Run the doctor there, too")
    if not os.path.isdir("/run/systemd/system"):
        return skipped(link, "without systemd, nothing bounds it")
    shown = _systemctl("show", "--property=ControlGroup,MemoryMax", unit)
    group = shown.get("ControlGroup", "")
    if not group:
        return skipped(link, f"{unit} does not run")
    bound = _read(CGROUPS / group.lstrip("/") / "memory.max") or shown.get("MemoryMax", "")
    if not bound.isdigit():
        remedy = "Run packaging/install install, which writes the unit, and restart the worker"
        return problem(link, f"{unit} has no MemoryMax, so a fault in it can take the host's memory", remedy)
    used = _read(CGROUPS / group.lstrip("/") / "memory.current")
    now = f", of which it uses {int(used) // _MIB} MiB" if used.isdigit() else ""
    return ok(link, f"at most {int(bound) // _MIB} MiB{now}")


def _systemctl(*arguments: str) -> dict[str, str]:
    """The properties that ``systemctl show`` prints; {} when it fails."""
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return dict(line.partition("=")[::2] for line in done.stdout.splitlines())


def _read(path: Path) -> str:
    """What a file of the kernel says; '' when there is none."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def weights(groups: Path = CGROUPS, devices: Path = Path("/sys/block")) -> Iterator[Finding]:
    """Check that jobs get less of the processors and the disk than services, while both want them."""
    if not (groups / "cgroup.controllers").exists():
        yield skipped(
            "weight of jobs", "with control groups of version 1, a job weighs what `engine` in the configuration says"
        )
        return
    if not (groups / JOBS).is_dir():
        yield skipped("weight of jobs", f"no job has run since the host started, so {JOBS} does not exist yet")
        return
    yield _weight(groups, "weight of jobs: processors", "cpu.weight")
    yield _disk_weight(groups, devices)


def _disk_weight(groups: Path, devices: Path) -> Finding:
    link = "weight of jobs: disk"
    if any("[bfq]" in _read(one) for one in devices.glob("*/queue/scheduler")):
        return _weight(groups, link, "io.bfq.weight")
    if "enable=1" in _read(groups / "io.cost.qos"):
        return _weight(groups, link, "io.weight")
    seen = "no disk of this host has the scheduler bfq or io.cost, so none follows weights"
    remedy = "If jobs slow the iRODS server's disk down, choose the scheduler bfq in /sys/block/<disk>/queue/scheduler"
    return replace(skipped(link, seen), remedy=remedy)


def _weight(groups: Path, link: str, name: str) -> Finding:
    jobs, services = (_weight_in(groups / slice / name) for slice in (JOBS, SERVICES))
    seen = f"all jobs together weigh {jobs}, and all services {services}"
    if 0 < jobs < services:
        return ok(link, seen)
    return problem(link, seen, f"Run packaging/install install, which writes {JOBS}; then systemctl daemon-reload")


def _weight_in(path: Path) -> int:
    """``100``, or ``default 100`` in the first line, as a number; 0 when the kernel has no such file."""
    word = _read(path).partition("\n")[0].rpartition(" ")[2]
    return int(word) if word.isdigit() else 0


def ids_of_jobs(installation: Installation, etc: Path = Path("/etc")) -> Iterator[Finding]:
    """Check that there is an id for each job that may run at the same time."""
    link, account, worker = "ids of jobs", installation.account, installation.configuration.worker
    engine = installation.configuration.engine
    setting = engine.settings.get("job_uids", "")
    if engine.name not in ("docker", "podman"):
        yield skipped(link, f"jobs of the engine {engine.name} have none")
    elif setting is None:
        seen = '`"job_uids": null` in the configuration: jobs can use up what the kernel grants to each other'
        yield replace(skipped(link, seen), remedy="Remove job_uids from `engine`, unless this host cannot do without")
    elif setting:
        yield _enough(link, "the configuration", job_ids.read(setting).count, worker.slots, "Make job_uids larger")
    elif account.uid == 0:
        yield skipped(link, "a worker of root needs no subordinate ids")
    else:
        for what, path in zip(("uids", "gids"), job_ids.FILES):
            place = os.path.join(etc, os.path.basename(path))
            count = sum(count for _, count in job_ids.ranges(place, account.name, account.uid))
            remedy = f"Run packaging/install install, or: usermod --add-sub{what} FIRST-LAST {account.name}"
            yield _enough(f"{link}: {what}", path, count, worker.slots, remedy)
    if engine.name in ("docker", "podman") and setting is not None and account.uid:
        yield _namespaces()
        yield _helper(worker.on_demand, os.path.isdir("/run/systemd/system"))


def project_quotas(installation: Installation, resource: Resource) -> Iterator[Finding]:
    """Check that the kernel holds outputs in a vault to their limits, if the configuration wants that."""
    link, engine = f"project quotas of the vault of {resource.name}", installation.configuration.engine
    if engine.name != "docker" or not engine.settings.get("project_quotas"):
        return
    if not resource.is_here:
        yield skipped(link, f"it is on {resource.host}. Run the doctor there, too")
        return
    try:
        descriptor = os.open(resource.vault, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        yield skipped(link, f"{resource.vault} cannot be opened ({error.strerror})")
        return
    try:
        held = quotas_of_the_kernel.are_held(descriptor)
    finally:
        os.close(descriptor)
    if held:
        yield ok(link, f"the file system of {resource.vault} holds them")
    else:
        seen = f"{resource.vault}: its file system holds no project quotas, so each task fails"
        yield problem(link, seen, output_quotas.REMEDY)
    if installation.account.uid:
        yield _quota_guard()


def _quota_guard() -> Finding:
    link = "project quotas: quota guard"
    if output_quotas.answers():
        return ok(link, f"{output_quotas.UNIT} answers")
    seen = f"{output_quotas.UNIT} does not answer, so no job begins"
    return problem(link, seen, f"Run: systemctl enable --now {output_quotas.UNIT}")


def _enough(link: str, place: str, count: int, slots: int, remedy: str) -> Finding:
    if count < slots:
        return problem(link, f"{place} gives jobs {count or 'no'} ids, fewer than the {slots} slots", remedy)
    return ok(link, f"{place} gives jobs {count} ids")


def _namespaces(settings: Path = Path("/proc/sys")) -> Finding:
    link = "ids of jobs: user namespaces"
    wrong = [
        (name, wanted)
        for name, wanted, refused in (
            ("user/max_user_namespaces", "15000", "0"),
            ("kernel/unprivileged_userns_clone", "1", "0"),  # Debian's own kernels
            ("kernel/apparmor_restrict_unprivileged_userns", "0", "1"),  # Ubuntu's
        )
        if _read(settings / name) == refused
    ]
    if wrong:
        seen = " and ".join(f"{name.replace('/', '.')} forbids them" for name, _ in wrong)
        remedy = " ".join(f"{name.replace('/', '.')}={wanted}" for name, wanted in wrong)
        return problem(link, f"{seen}, so workers do not start", f'Run: sysctl -w {remedy}. Or set "job_uids": null')
    return ok(link, "the kernel allows them")


def _helper(on_demand: bool, has_systemd: bool) -> Finding:
    link = "ids of jobs: guard"
    if guard_connection.answers():
        return ok(link, f"{GUARD} answers")
    if has_systemd:
        seen = f"{GUARD} does not answer, so workers do not start"
        return problem(link, seen, f"Run: systemctl enable --now {GUARD}")
    if not on_demand:
        return skipped(link, "without systemd, compute-to-data-worker does without it when root runs it")
    if shutil.which("newuidmap") is None:
        remedy = "Install it (Debian: apt-get install uidmap, Red Hat: shadow-utils-subid)"
        return problem(link, "without systemd, workers on demand need newuidmap, which is not installed", remedy)
    return ok(link, "without systemd, workers on demand use newuidmap, and have no warm sandboxes")


def access_lists(resource: Resource) -> Finding:
    """Check that a vault's file system can hold POSIX access lists, with which a job's own uid may read its inputs."""
    link = f"access lists of the vault of {resource.name}"
    if not resource.is_here:
        return skipped(link, f"it is on {resource.host}. Run the doctor there, too")
    try:
        os.getxattr(resource.vault, "system.posix_acl_access")
    except FileNotFoundError:
        return skipped(link, f"{resource.vault} does not exist")
    except OSError as error:
        if error.errno != errno.ENODATA:  # there is no access list yet, but there can be
            remedy = "Put the vault on XFS or ext4, mounted with ACLs"
            return problem(link, f"{resource.vault} cannot hold POSIX access lists ({error.strerror})", remedy)
    return ok(link, f"{resource.vault} can hold POSIX access lists")
