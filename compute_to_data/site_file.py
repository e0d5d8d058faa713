"""The file with the site's configuration, checked against ``schemas/configuration.json``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from compute_to_data.configuration import (
    Attributes,
    Configuration,
    EngineSettings,
    FailedTasks,
    ImageRule,
    PerUser,
    RoleSettings,
    WorkerSettings,
    ZoneSettings,
)
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.json_text import check_values, read_json
from compute_to_data.documents.schema import Problem, problems, summary
from compute_to_data.errors import ConfigurationError
from compute_to_data.job import Limits
from compute_to_data.urls.access import Bucket, Host, UrlAccess

PATH = "/etc/irods/compute_to_data.json"
VARIABLE = "COMPUTE_TO_DATA_CONFIGURATION"

_DEFAULT_LIMITS = Limits(
    walltime_seconds=3600.0,
    memory_bytes=2 * 1024**3,
    cpus=1.0,
    pids=256,
    output_bytes=10 * 1024**3,
    output_files=100_000,
    tmp_bytes=256 * 1024**2,
    log_bytes=64 * 1024**2,
    output_avus=200_000,
    input_bytes=100 * 1024**3,
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
    output_avus=1_000_000,
    input_bytes=1024**4,
)

_ROLES: Mapping[str, str] = {
    "CONTAINER": "compute_to_data.roles.container:Container",
    "IMAGE_PROCESSING": "compute_to_data.roles.image_processing:ImageProcessing",
    "SIGNAL_PROCESSING": "compute_to_data.roles.signal_processing:SignalProcessing",
}

_ANY_ROLE = frozenset({"image", "results_to", "staged_inputs"})
_NOTEBOOK_ROLE = _ANY_ROLE | {"notebook", "report"}
_SETTINGS: Mapping[str, frozenset[str]] = {
    "compute_to_data.roles.container:Container": _ANY_ROLE,
    "compute_to_data.roles.image_processing:ImageProcessing": _ANY_ROLE | {"gps"},
    "compute_to_data.roles.notebook:NotebookRole": _NOTEBOOK_ROLE,
    "compute_to_data.roles.signal_processing:SignalProcessing": _NOTEBOOK_ROLE,
}
"""The settings of the product's own roles. A site's own class may have any. The image of CONTAINER only says which of
several such roles a request means."""

_ENVIRONMENT_FILE = "/var/lib/irods/.irods/irods_environment.json"

_REPEATED_GROUP = re.compile(r"\)[*+{]")


def path() -> str:
    """The path of the site's configuration: :data:`PATH`, or the file that the environment names."""
    return os.environ.get(VARIABLE) or PATH


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
        worker=_worker(dict(document.get("worker", {}))),
        failed_tasks=_failed_tasks(document.get("failed_tasks", {})),
        applications=dict(document.get("applications", {})),
        urls=_urls(document.get("urls", {})),
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


def _worker(given: dict[str, Any]) -> WorkerSettings:
    per_user = {name: int(value) for name, value in given.pop("per_user", {}).items()}
    reserve = given.pop("vault_reserve_bytes", None)
    settings = WorkerSettings(**_typed(given, WorkerSettings()), per_user=PerUser(**per_user))
    return replace(settings, vault_reserve_bytes=None if reserve is None else int(reserve))


def _failed_tasks(given: Mapping[str, Any]) -> FailedTasks:
    return FailedTasks(given.get("keep", True), **{name: int(given[name]) for name in given.keys() - {"keep"}})


def _urls(given: Mapping[str, Any]) -> UrlAccess:
    hosts: list[dict[str, Any]] = [{"name": one} if isinstance(one, str) else one for one in given.get("hosts", ())]
    buckets = [{"name": one} if isinstance(one, str) else one for one in given.get("buckets", ())]
    return UrlAccess(
        hosts=tuple(Host.of(one["name"], one.get("private", False)) for one in hosts),
        buckets=tuple(Bucket(**one) for one in buckets),
        ca_file=given.get("ca_file", ""),
    )


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
        *_unusable_settings(document.get("roles", {})),
        *_excessive_defaults(document.get("limits", {})),
        *_unusable_patterns(document.get("images", ())),
        *_unusable_hosts(document.get("urls", {})),
    ]


def _roles_without_class(roles: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    for name, described in roles.items():
        if "implementation" not in described and name not in _ROLES:
            place = f"{words.below('/roles', name)}/implementation"
            yield Problem(place, "nothing", '"package.module:Class"')


def _unusable_settings(roles: Mapping[str, Mapping[str, Any]]) -> Iterator[Problem]:
    """Settings that one of the product's own roles does not have, or of the wrong type."""
    for name, described in roles.items():
        known = _SETTINGS.get(described.get("implementation", _ROLES.get(name, "")))
        if known is None:  # a site's own class, which may have any settings
            continue
        settings = {setting: value for setting, value in described.items() if setting != "implementation"}
        for setting, value in settings.items():
            place = words.below(words.below("/roles", name), setting)
            if setting not in known:
                expected = words.one_of(sorted(known), setting)
                yield Problem(place, f"an unknown property {words.quoted(setting, 40)}", expected)
            elif setting == "gps" and not isinstance(value, bool):
                yield Problem(place, words.shown(value), "true or false")
            elif setting != "gps" and not (isinstance(value, str) and value):
                yield Problem(place, words.shown(value), f"the name of the {setting}")


def _excessive_defaults(limits: Mapping[str, Any]) -> Iterator[Problem]:
    maximum = vars(_maximum_limits(limits))
    for name, value in limits.get("default", {}).items():
        if value > maximum[name]:
            yield Problem(
                f"/limits/default/{name}",
                f"{value:.15g}",
                f"at most /limits/maximum/{name}, which is {maximum[name]:.15g}",
            )


def _unusable_hosts(urls: Mapping[str, Any]) -> Iterator[Problem]:
    named = [(f"hosts/{index}", one) for index, one in enumerate(urls.get("hosts", ()))]
    places = [(f"{place}/name", one["name"]) if isinstance(one, dict) else (place, one) for place, one in named]
    for index, one in enumerate(urls.get("buckets", ())):
        if isinstance(one, dict) and "endpoint" in one:
            places.append((f"buckets/{index}/endpoint", one["endpoint"][len("https://") :]))
    for place, text in places:
        try:
            Host.of(text)
        except ValueError as error:
            yield Problem(f"/urls/{place}", words.quoted(text), str(error))


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
