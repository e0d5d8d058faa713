"""The site's configuration: attribute names, roles, images, limits.

It is read once, checked against ``schemas/configuration.json``, then frozen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compute_to_data.documents import schema_words as words
from compute_to_data.documents.json_text import check_values, read_json
from compute_to_data.documents.schema import Problem, problems, summary
from compute_to_data.errors import ConfigurationError, Refused
from compute_to_data.job import Image, Limits
from compute_to_data.task import RequestedLimits

SITE_FILE = "/etc/irods/compute_to_data.json"
SITE_FILE_VARIABLE = "COMPUTE_TO_DATA_CONFIGURATION"
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
class WorkerSettings:
    """How a worker works.

    ``slots``: how many tasks of a resource run at the same time. ``attempts``: how often the worker
    starts a task whose job keeps getting lost, before the task fails. ``state_directory``: holds
    locks and wake-up pipes. ``on_demand``: a submission may start a worker, which exits after
    ``idle_seconds`` without work. ``command``: starts a worker, and gets the worker's arguments
    (empty: the current Python).
    """

    slots: int = 2
    attempts: int = 3
    state_directory: str = "/var/lib/irods/compute_to_data"
    on_demand: bool = False
    idle_seconds: float = 30.0
    poll_seconds: float = 2.0
    stop_grace_seconds: float = 10.0
    command: tuple[str, ...] = ()


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
    """Everything that a site decides. No default limit is above its maximum."""

    zone: ZoneSettings
    images: tuple[ImageRule, ...]
    roles: Mapping[str, RoleSettings]
    default_limits: Limits
    maximum_limits: Limits
    attributes: Attributes = Attributes()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    failed_tasks: FailedTasks = FailedTasks()
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
            raise Refused(
                pointer,
                f"asks for {value:.15g}, but this site's maximum of {name} is {maximum:.15g}",
                f"Ask for at most {maximum:.15g}",
            )


def _abbreviated(digest: str) -> str:
    return digest[: len("sha256:") + 12] + "…"


_DEFAULT_LIMITS = Limits(
    walltime_seconds=3600.0,
    memory_bytes=2 * 1024**3,
    cpus=1.0,
    pids=256,
    output_bytes=10 * 1024**3,
    output_files=100_000,
    tmp_bytes=256 * 1024**2,
    log_bytes=64 * 1024**2,
)

_MAXIMUM_LIMITS = Limits(
    walltime_seconds=24 * 3600.0,
    memory_bytes=16 * 1024**3,
    cpus=4.0,
    pids=4096,
    output_bytes=100 * 1024**3,
    output_files=1_000_000,
    tmp_bytes=4 * 1024**3,
    log_bytes=1024**3,
)

_ROLES: Mapping[str, str] = {
    "CONTAINER": "compute_to_data.roles.container:Container",
    "IMAGE_PROCESSING": "compute_to_data.roles.image_processing:ImageProcessing",
    "SIGNAL_PROCESSING": "compute_to_data.roles.signal_processing:SignalProcessing",
}

_ENVIRONMENT_FILE = "/var/lib/irods/.irods/irods_environment.json"

_REPEATED_GROUP = re.compile(r"\)[*+{]")


def site_file() -> str:
    """The path of the site's configuration: :data:`SITE_FILE`, or the file that the environment names."""
    return os.environ.get(SITE_FILE_VARIABLE) or SITE_FILE


def load(path: str) -> Configuration:
    """The configuration in a file. ConfigurationError names the file, the place and the cause."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as problem:
        raise ConfigurationError(
            path, f"cannot be read: {problem.strerror}", "Create it, or name another configuration file"
        ) from None
    return parse(read_json(content, path, ConfigurationError), path)


def parse(document: Any, source: str) -> Configuration:
    """The configuration in a parsed JSON document. Messages name ``source`` as its origin."""
    check_values(document, source, ConfigurationError)
    found = problems(document, "configuration") or _disagreements(document)
    if found:
        pointer, cause = summary(found)
        raise ConfigurationError(f"{source}#{pointer}" if pointer.startswith("/") else source, cause)
    limits = document.get("limits", {})
    engine = dict(document.get("engine", {"name": EngineSettings.name}))
    return Configuration(
        zone=_zone(dict(document["zone"])),
        images=tuple(
            ImageRule(**({"name": item} if isinstance(item, str) else item)) for item in document.get("images", ())
        ),
        roles=_roles(document.get("roles", {})),
        default_limits=_default_limits(limits),
        maximum_limits=_maximum_limits(limits),
        attributes=Attributes(**document.get("attributes", {})),
        engine=EngineSettings(engine.pop("name"), engine),
        worker=WorkerSettings(**_typed(document.get("worker", {}), WorkerSettings())),
        failed_tasks=_failed_tasks(document.get("failed_tasks", {})),
        source=source,
    )


def _zone(zone: dict[str, Any]) -> ZoneSettings:
    kind = zone.pop("kind")
    return ZoneSettings(kind, zone if kind == "embedded" else {"environment_file": _ENVIRONMENT_FILE, **zone})


def _roles(given: Mapping[str, Mapping[str, Any]]) -> dict[str, RoleSettings]:
    roles = {name: RoleSettings(implementation) for name, implementation in _ROLES.items()}
    for name, described in given.items():
        settings = dict(described)
        roles[name] = RoleSettings(settings.pop("implementation", _ROLES.get(name, "")), settings)
    return roles


def _typed(values: Mapping[str, Any], example: object) -> dict[str, Any]:
    """Convert values to the types of the fields of ``example``: JSON's 2.0 becomes the int 2."""
    return {name: type(getattr(example, name))(value) for name, value in values.items()}


def _failed_tasks(given: Mapping[str, Any]) -> FailedTasks:
    return FailedTasks(given.get("keep", True), **{name: int(given[name]) for name in given.keys() - {"keep"}})


def _maximum_limits(limits: Mapping[str, Any]) -> Limits:
    return replace(_MAXIMUM_LIMITS, **_typed(limits.get("maximum", {}), _MAXIMUM_LIMITS))


def _default_limits(limits: Mapping[str, Any]) -> Limits:
    """The site's default limits, else the built-in ones, lowered to the site's maximum."""
    maximum = vars(_maximum_limits(limits))
    built_in = {name: min(value, maximum[name]) for name, value in vars(_DEFAULT_LIMITS).items()}
    return replace(Limits(**built_in), **_typed(limits.get("default", {}), _DEFAULT_LIMITS))


def _disagreements(document: Mapping[str, Any]) -> list[Problem]:
    """Problems that the schema cannot express."""
    return [
        *_roles_without_class(document.get("roles", {})),
        *_excessive_defaults(document.get("limits", {})),
        *_unusable_patterns(document.get("images", ())),
    ]


def _roles_without_class(roles: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    for name, described in roles.items():
        if "implementation" not in described and name not in _ROLES:
            place = f"{words.below('/roles', name)}/implementation"
            yield Problem(place, "nothing", '"package.module:Class"')


def _excessive_defaults(limits: Mapping[str, Any]) -> Iterator[Problem]:
    maximum = vars(_maximum_limits(limits))
    for name, value in limits.get("default", {}).items():
        if value > maximum[name]:
            yield Problem(
                f"/limits/default/{name}",
                f"{value:.15g}",
                f"at most /limits/maximum/{name}, which is {maximum[name]:.15g}",
            )


def _unusable_patterns(images: Sequence[Any]) -> Iterator[Problem]:
    for index, item in enumerate(images):
        pattern = item.get("pattern", "") if isinstance(item, dict) else ""
        place = f"/images/{index}/pattern"
        if _REPEATED_GROUP.search(pattern):
            expected = "no repeated group, since matching one can take forever"
            yield Problem(place, words.quoted(pattern), expected)
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError):
            yield Problem(place, words.quoted(pattern), "a regular expression in Python's syntax")
