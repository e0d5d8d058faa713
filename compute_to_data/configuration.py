"""The site's conventions in one place: attribute names, roles, images, limits.

Read once, checked against ``schemas/configuration.json``, then frozen.
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
"""Longer image names match no rule: what a pattern costs grows with the name."""


@dataclass(frozen=True)
class Attributes:
    """Names of the AVUs this product reads and writes."""

    role: str = "COMPUTE_RESOURCE_ROLE"
    claim: str = "irods::compute_to_data_task"
    prefix: str = "irods::compute_to_data"

    @property
    def state(self) -> str:
        """On a task's collection: value = state, units = compute resource. The queue."""
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
        """Whether the rule is about images of this name. A prefix never suffices."""
        if not 0 < len(image_name) <= MAXIMUM_IMAGE_CHARACTERS or not image_name.isprintable():
            return False
        if self.name:
            return image_name == self.name
        return re.fullmatch(self.pattern, image_name) is not None

    def admits(self, image: Image) -> bool:
        """Whether this very content may run under its name."""
        return self.covers(image.name) and (not self.digest or self.digest in {image.digest, *image.aliases})


@dataclass(frozen=True)
class RoleSettings:
    """How the site fills a role: the class (``module:Class``) and what that class reads."""

    implementation: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineSettings:
    """Which engine runs jobs, and what that engine reads."""

    name: str = "docker"
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ZoneSettings:
    """Which zone: ``embedded`` (with a directory) or ``irods`` (with an environment file)."""

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerSettings:
    """``slots`` tasks at a time a resource; ``attempts`` before a task that keeps getting lost
    fails; ``state_directory`` holds locks and wake-up sockets; ``on_demand``: a submission may
    start a worker, which ends after ``idle_seconds`` without work; ``command`` starts one (empty:
    the Python that asks for it), the worker's own arguments follow it."""

    slots: int = 2
    attempts: int = 3
    state_directory: str = "/var/lib/irods/compute_to_data"
    on_demand: bool = False
    idle_seconds: float = 30.0
    poll_seconds: float = 2.0
    stop_grace_seconds: float = 10.0
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configuration:
    """Everything a site decides. Frozen; ``default_limits`` <= ``maximum_limits``."""

    zone: ZoneSettings
    images: tuple[ImageRule, ...]
    roles: Mapping[str, RoleSettings]
    default_limits: Limits
    maximum_limits: Limits
    attributes: Attributes = Attributes()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    source: str = ""

    def allows(self, image_name: str) -> ImageRule | None:
        """The first rule about images of this name, or None: then none of that name may run.

        Whether the content that an engine holds under the name may run, :meth:`permit` says.
        """
        return next((rule for rule in self.images if rule.covers(image_name)), None)

    def permit(self, image: Image) -> None:
        """Return if a rule admits this name with this content; Refused otherwise."""
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
            f"is {_abbreviated(image.digest)} here, and this site allows only "
            f"{words.alternatives(map(_abbreviated, allowed))} "
            "under that name: the name was given to other content",
            "Have the engine pull the allowed digest again, or ask the administrator to allow the new one",
        )

    def effective_limits(self, requested: RequestedLimits, timeout: float | None) -> Limits:
        """What a task gets: what it asks for, elsewhere the site's default.

        ``timeout`` is its process's, in seconds; the shorter of it and the walltime counts.
        Refused when the task asks for more than the site's maximum; the subject is the pointer.
        """
        asked = {name: value for name, value in vars(requested).items() if value is not None}
        for name, value in asked.items():
            self._check_asked(f"/limits/{name}", name, value)
        if timeout is not None:
            self._check_asked("/process/timeout", "walltime_seconds", timeout)
            asked["walltime_seconds"] = min(timeout, asked.get("walltime_seconds", timeout))
        return replace(self.default_limits, **asked)

    def _check_asked(self, pointer: str, name: str, value: float) -> None:
        maximum = getattr(self.maximum_limits, name)
        if value > maximum:
            raise Refused(
                pointer,
                f"asks for {value:.15g}, and this site's maximum of {name} is {maximum:.15g}",
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
    log_bytes=1024**2,
)

_MAXIMUM_LIMITS = Limits(
    walltime_seconds=24 * 3600.0,
    memory_bytes=16 * 1024**3,
    cpus=4.0,
    pids=4096,
    output_bytes=100 * 1024**3,
    output_files=1_000_000,
    tmp_bytes=4 * 1024**3,
    log_bytes=16 * 1024**2,
)

_ROLES: Mapping[str, str] = {
    "CONTAINER": "compute_to_data.roles.container:Container",
    "IMAGE_PROCESSING": "compute_to_data.roles.image_processing:ImageProcessing",
    "SIGNAL_PROCESSING": "compute_to_data.roles.signal_processing:SignalProcessing",
}

_ENVIRONMENT_FILE = "/var/lib/irods/.irods/irods_environment.json"

_REPEATED_GROUP = re.compile(r"\)[*+{]")


def site_file() -> str:
    """Where a site's configuration is: :data:`SITE_FILE`, or the file that the server's environment names."""
    return os.environ.get(SITE_FILE_VARIABLE) or SITE_FILE


def load(path: str) -> Configuration:
    """The configuration in a file. ConfigurationError names the file, the place and the cause."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as problem:
        raise ConfigurationError(
            path, f"cannot be read: {problem.strerror}", "Write it, or name another configuration file"
        ) from None
    return parse(read_json(content, path, ConfigurationError), path)


def parse(document: Any, source: str) -> Configuration:
    """The configuration a document describes; ``source`` says in messages where it came from."""
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
    """Values in the types that the dataclass instance ``example`` has: JSON's 2.0 is an int's 2."""
    return {name: type(getattr(example, name))(value) for name, value in values.items()}


def _maximum_limits(limits: Mapping[str, Any]) -> Limits:
    return replace(_MAXIMUM_LIMITS, **_typed(limits.get("maximum", {}), _MAXIMUM_LIMITS))


def _default_limits(limits: Mapping[str, Any]) -> Limits:
    """What the site says; a built-in default gives way to a smaller maximum of the site."""
    maximum = vars(_maximum_limits(limits))
    built_in = {name: min(value, maximum[name]) for name, value in vars(_DEFAULT_LIMITS).items()}
    return replace(Limits(**built_in), **_typed(limits.get("default", {}), _DEFAULT_LIMITS))


def _disagreements(document: Mapping[str, Any]) -> list[Problem]:
    """What the schema cannot see."""
    return [
        *_unplayed(document.get("roles", {})),
        *_excessive(document.get("limits", {})),
        *_unusable(document.get("images", ())),
    ]


def _unplayed(roles: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    for name, described in roles.items():
        if "implementation" not in described and name not in _ROLES:
            place = f"{words.below('/roles', name)}/implementation"
            yield Problem(place, "nothing", '"package.module:Class"')


def _excessive(limits: Mapping[str, Any]) -> Iterator[Problem]:
    maximum = vars(_maximum_limits(limits))
    for name, value in limits.get("default", {}).items():
        if value > maximum[name]:
            yield Problem(
                f"/limits/default/{name}",
                f"{value:.15g}",
                f"at most /limits/maximum/{name}, which is {maximum[name]:.15g}",
            )


def _unusable(images: Sequence[Any]) -> Iterator[Problem]:
    for index, item in enumerate(images):
        pattern = item.get("pattern", "") if isinstance(item, dict) else ""
        place = f"/images/{index}/pattern"
        if _REPEATED_GROUP.search(pattern):
            expected = "no repeated group, since matching one can take for ever"
            yield Problem(place, words.quoted(pattern), expected)
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError):
            yield Problem(place, words.quoted(pattern), "a regular expression in Python's syntax")
