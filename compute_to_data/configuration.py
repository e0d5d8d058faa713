"""The site's configuration: attribute names, roles, images, limits.

:mod:`compute_to_data.site_file` reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.errors import Refused
from compute_to_data.job import Image, Limits
from compute_to_data.task import RequestedLimits
from compute_to_data.urls.access import UrlAccess

MAXIMUM_IMAGE_CHARACTERS = 256
"""Longer image names match no rule, because matching a pattern takes longer the longer the name is."""


@dataclass(frozen=True)
class Attributes:
    """The names of the AVUs that this product reads and writes."""

    role: str = "COMPUTE_RESOURCE_ROLE"
    claim: str = "irods::compute_to_data_task"
    prefix: str = "irods::compute_to_data"

    @property
    def state(self) -> str:
        """The attribute of a task's state: value = state, units = compute resource. These AVUs are the queue."""
        return f"{self.prefix}::state"

    def named(self, name: str) -> str:
        """The attribute of another fact about a task: ``named('exit_status')``."""
        return f"{self.prefix}::{name}"


@dataclass(frozen=True)
class ImageRule:
    """One allowed image: an exact ``name`` or a ``pattern`` that the whole name must match,
    and optionally the only ``digest`` that may run under it."""

    name: str = ""
    pattern: str = ""
    digest: str = ""

    def covers(self, image_name: str) -> bool:
        """Whether the rule is about images of this name. A pattern must match the whole name."""
        if not 0 < len(image_name) <= MAXIMUM_IMAGE_CHARACTERS or not image_name.isprintable():
            return False
        if self.name:
            return image_name == self.name
        return re.fullmatch(self.pattern, image_name) is not None

    def admits(self, image: Image) -> bool:
        """Whether the image may run, by its name and its content."""
        return self.covers(image.name) and (not self.digest or self.digest in {image.digest, *image.aliases})


@dataclass(frozen=True)
class RoleSettings:
    """How the site defines a role: its class (``module:Class``) and the settings of that class."""

    implementation: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineSettings:
    """Which engine runs jobs, and the settings of that engine."""

    name: str = "docker"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ZoneSettings:
    """Which zone: ``embedded`` (with a directory) or ``irods`` (with an environment file)."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PerUser:
    """What one user may have on a resource at a time; None: no bound.

    ``running``: tasks that have begun and not ended. ``waiting``: tasks that have not begun. ``staged_bytes``: bytes
    of inputs that were replicated to the resource for tasks that have not ended.
    """

    running: int | None = None
    waiting: int | None = None
    staged_bytes: int | None = None


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker works.

    ``slots``: how many tasks of a resource run at the same time. ``submitted``: how many jobs an engine with its
    own queue gets at a time; then the slots only say how many tasks begin or end at the same time. ``attempts``: how
    often the worker starts a task whose job keeps getting lost, before the task fails. ``state_directory``: holds
    locks and wake-up pipes. ``on_demand``: a submission may start a worker, which exits after
    ``idle_seconds`` without work. ``command``: starts a worker, and gets the worker's arguments
    (empty: the current Python). ``per_user``: bounds for each user.
    ``vault_reserve_bytes``: free space that jobs leave in the vault; None: see ``pipeline/vault/vault_room.py``.
    ``staged_days``: after how many days without use the worker trims a replica that staging made; 0: never.
    """

    slots: int = 2
    attempts: int = 3
    state_directory: str = "/var/lib/irods/compute_to_data"
    on_demand: bool = False
    idle_seconds: float = 30.0
    poll_seconds: float = 2.0
    stop_grace_seconds: float = 10.0
    staged_days: float = 30.0
    command: tuple[str, ...] = ()
    per_user: PerUser = PerUser()
    vault_reserve_bytes: int | None = None
    submitted: int = 200


@dataclass(frozen=True)
class FailedTasks:
    """What a site keeps of the outputs of a task that failed or was cancelled.

    ``keep``: False keeps nothing. ``bytes`` and ``files``: the most that is kept of one task, besides the limits
    that the task had while it ran; None for these limits alone.
    """

    keep: bool = True
    bytes: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class Configuration:
    """Everything that a site decides. No default limit is above its maximum. ``applications``: the images that process
    definitions may name by an application."""

    zone: ZoneSettings
    images: tuple[ImageRule, ...]
    roles: Mapping[str, RoleSettings]
    default_limits: Limits
    maximum_limits: Limits
    attributes: Attributes = Attributes()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    failed_tasks: FailedTasks = FailedTasks()
    applications: Mapping[str, str] = field(default_factory=dict)
    urls: UrlAccess = field(default_factory=UrlAccess)
    source: str = ""

    def allows(self, image_name: str) -> ImageRule | None:
        """The first rule about images of this name, or None when no image of this name may run.

        :meth:`permit` also checks the content that an engine holds under the name.
        """
        return next((rule for rule in self.images if rule.covers(image_name)), None)

    def permit(self, image: Image) -> None:
        """Refused unless a rule admits this name with this content."""
        if any(rule.admits(image) for rule in self.images):
            return
        subject = f"image {words.quoted(image.name)}"
        allowed = [rule.digest for rule in self.images if rule.covers(image.name)]
        if not allowed:
            raise Refused(
                subject,
                "is not in this site's list of allowed images",
                "Ask the administrator to add it to `images` in the configuration",
            )
        raise Refused(
            subject,
            f"is {_abbreviated(image.digest)} here, but under that name this site allows only "
            f"{words.alternatives(map(_abbreviated, allowed))}: the name was given to other content",
            "Have the engine pull the allowed digest again, or ask the administrator to allow the new one",
        )

    def effective_limits(self, requested: RequestedLimits, timeout: float | None) -> Limits:
        """The limits of a task: those it asks for, and the site's default for the others.

        ``timeout`` is the timeout of its process, in seconds; the shorter of it and the walltime
        applies. Refused, with the JSON pointer as the subject, when the task asks for more than the
        site's maximum.
        """
        asked = {name: value for name, value in vars(requested).items() if value is not None}
        for name, value in asked.items():
            self._check_asked(f"/limits/{name}", name, value)
        if timeout is not None:
            self._check_asked("/process/timeout", "walltime_seconds", timeout)
            asked["walltime_seconds"] = min(timeout, asked.get("walltime_seconds", timeout))
        return replace(self.default_limits, **asked)

    def limits_of_failed(self, requested: RequestedLimits) -> tuple[int, int]:
        """The most bytes and the most files that are kept of a task that failed."""
        maximum, settings = self.maximum_limits, self.failed_tasks
        asked = requested.output_bytes or self.default_limits.output_bytes
        most_bytes = min(asked, maximum.output_bytes)
        files = min(self.default_limits.output_files, maximum.output_files)
        return (
            most_bytes if settings.bytes is None else min(most_bytes, settings.bytes),
            files if settings.files is None else min(files, settings.files),
        )

    def _check_asked(self, pointer: str, name: str, value: float) -> None:
        maximum = getattr(self.maximum_limits, name)
        if value > maximum:
            most = _with_unit(name, maximum)
            cause = f"asks for {_with_unit(name, value)}, but this site's maximum of {name} is {most}"
            raise Refused(pointer, cause, f"Ask for at most {most}")


def _with_unit(limit: str, value: float) -> str:
    """The value of a limit, with the unit that the limit's name ends with."""
    unit = limit.rpartition("_")[2]
    return f"{value:.15g} {unit}" if unit in ("bytes", "seconds") else f"{value:.15g}"


def _abbreviated(digest: str) -> str:
    return digest[: len("sha256:") + 12] + "…"
