"""A worker's capabilities, published on its resource for clients without the site's configuration.

Each capability is an AVU of the resource that all users can see, with the attribute
``<prefix>::offer`` and its kind as the units. A worker publishes no secrets, paths or settings.
With the capabilities a client can refuse early what the worker would refuse. In doubt, the client
lets the request pass, since the worker decides.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from compute_to_data.configuration import (
    Attributes,
    Configuration,
    ImageRule,
    PerUser,
    RoleSettings,
    WorkerSettings,
    ZoneSettings,
)
from compute_to_data.coordination import resource_avus
from compute_to_data.coordination.role_choice import RUNS, lacking
from compute_to_data.errors import Refused
from compute_to_data.irods_names import LONGEST_AVU
from compute_to_data.job import Limits
from compute_to_data.model import Avu
from compute_to_data.ports.zone import Catalog
from compute_to_data.urls.access import Bucket, Host, UrlAccess

_IMAGE, _APPLICATION, _ROLE, _CLASS, _DEFAULT, _MAXIMUM, _ATTRIBUTES, _PER_USER, _ENGINE, _URL = (
    "image",
    "application",
    "role",
    "class",
    "default_limits",
    "maximum_limits",
    "attributes",
    "per_user",
    "engine",
    "url",
)
_NAME = "offer"
NO_IMAGE = "role_without_image"
"""The kind of a role whose own program has no image, so that each request must name one."""
_ANY_IMAGE = r"[\s\S]*"
"""Matches every name. Replaces a rule that is too long to publish, or that the client cannot read."""


def publish(catalog: Catalog, configuration: Configuration, resource: str) -> None:
    """Write a worker's capabilities to its resource, in place of earlier ones.

    Needs a rodsadmin's session; raises the zone's errors.
    """
    resource_avus.replace(catalog, resource, configuration.attributes.named(_NAME), set(described(configuration)))


def withdraw(catalog: Catalog, configuration: Configuration, resource: str) -> None:
    """Remove the capabilities from a resource, because its worker stops."""
    resource_avus.replace(catalog, resource, configuration.attributes.named(_NAME), set())


def described(configuration: Configuration) -> Iterator[Avu]:
    """The AVUs that a worker with this configuration publishes."""
    attributes = configuration.attributes
    attribute = attributes.named(_NAME)
    for rule in configuration.images:
        yield Avu(attribute, _written(rule), _IMAGE)
    for application, image in configuration.applications.items():
        yield Avu(attribute, json.dumps({application: image}), _APPLICATION)
    for name, role in configuration.roles.items():
        yield Avu(attribute, name, _ROLE)
        known = role.implementation if role.implementation in RUNS else ""  # not a site's own class
        yield Avu(attribute, json.dumps({name: known}), _CLASS)
        if "image" in lacking(role):
            yield Avu(attribute, name, NO_IMAGE)
    yield Avu(attribute, json.dumps(vars(configuration.default_limits)), _DEFAULT)
    yield Avu(attribute, json.dumps(vars(configuration.maximum_limits)), _MAXIMUM)
    if configuration.worker.per_user.waiting is not None:
        yield Avu(attribute, json.dumps({"waiting": configuration.worker.per_user.waiting}), _PER_USER)
    yield Avu(attribute, configuration.engine.name, _ENGINE)
    for host in configuration.urls.hosts:
        yield Avu(attribute, f"https://{host.text}", _URL)
    for bucket in configuration.urls.buckets:
        yield Avu(attribute, f"s3://{bucket.name}", _URL)
    yield Avu(attribute, json.dumps({"role": attributes.role, "claim": attributes.claim}), _ATTRIBUTES)


def _written(rule: ImageRule) -> str:
    text = json.dumps({name: value for name, value in vars(rule).items() if value}, ensure_ascii=False)
    return text if len(text.encode()) <= LONGEST_AVU["value"] else json.dumps({"pattern": _ANY_IMAGE})


def read(catalog: Catalog, attributes: Attributes) -> Configuration:
    """A configuration made from the capabilities of all workers of the zone, enough to submit tasks.

    ``attributes`` gives the prefix to look for. The configuration allows what at least one worker
    accepts. Roles have no settings; a role has a class only when all workers that publish one agree.
    The sections zone and engine are empty; worker has only the bound of a user's waiting tasks. Refused when no worker
    publishes anything.
    """
    attribute = attributes.named(_NAME)
    published = [avu for avus in catalog.avus_of_resources(attribute).values() for avu in avus]
    if not published:
        raise Refused(
            f"zone {catalog.user.zone}",
            "has no worker that publishes what it can run",
            "An administrator can start one: python3 -m compute_to_data.worker --resource <resource>",
        )
    return made_of(published, attributes)


def made_of(published: Sequence[Avu], attributes: Attributes) -> Configuration:
    """As :func:`read`, from the AVUs of :func:`described`."""

    def of(kind: str) -> list[str]:
        return [avu.value for avu in published if avu.units == kind]

    names = {name: value for text in reversed(of(_ATTRIBUTES)) for name, value in _object(text).items()}
    return Configuration(
        zone=ZoneSettings(""),
        images=tuple(dict.fromkeys(map(_rule, of(_IMAGE)))),
        applications={name: str(image) for text in of(_APPLICATION) for name, image in _object(text).items()},
        roles={name: RoleSettings(_class_of(name, of(_CLASS))) for name in sorted(of(_ROLE))},
        default_limits=_largest(of(_DEFAULT)),
        maximum_limits=_largest(of(_MAXIMUM)),
        urls=_urls(of(_URL)),
        worker=WorkerSettings(per_user=_per_user(of(_PER_USER), len(of(_MAXIMUM)))),
        attributes=Attributes(
            role=str(names.get("role", attributes.role)),
            claim=str(names.get("claim", attributes.claim)),
            prefix=attributes.prefix,
        ),
        source="the workers' published capabilities",
    )


def engines(catalog: Catalog, configuration: Configuration, resources: Collection[str]) -> dict[str, str]:
    """The engine of each of these resources, all in one question: as its worker publishes it, else as the site's file
    says; '' when neither does."""
    found = catalog.avus_of_resources(configuration.attributes.named(_NAME))
    return {resource: engine_among(found.get(resource, ()), configuration) for resource in resources}


def engine_among(avus: Iterable[Avu], configuration: Configuration) -> str:
    """The same for one resource, from the AVUs of :func:`described`."""
    published = [avu.value for avu in avus if avu.units == _ENGINE]
    if len(published) == 1:
        return published[0]
    return configuration.engine.name if configuration.zone.kind else ""


def _class_of(role: str, texts: Sequence[str]) -> str:
    """The class that the workers publish for the role; '' when they differ, or when no worker publishes one."""
    published = {str(described[role]) for described in map(_object, texts) if role in described}
    return published.pop() if len(published) == 1 else ""


def _rule(text: str) -> ImageRule:
    described = _object(text)
    name, pattern, digest = (described.get(key, "") for key in ("name", "pattern", "digest"))
    if all(isinstance(part, str) for part in (name, pattern, digest)) and (name or pattern):
        try:
            re.compile(pattern)
            return ImageRule(name, pattern, digest)
        except (re.error, RecursionError, OverflowError):  # valid in another version of Python
            pass
    return ImageRule(pattern=_ANY_IMAGE)


def _urls(texts: Sequence[str]) -> UrlAccess:
    """What any worker fetches and writes, without what only the worker needs for it."""
    hosts, buckets = [], []
    for text in dict.fromkeys(texts):
        scheme, _, name = text.partition("://")
        try:
            if scheme == "s3":
                buckets.append(Bucket(name))
            else:
                hosts.append(Host.of(name))
        except ValueError:  # written by a later version
            continue
    return UrlAccess(tuple(hosts), tuple(buckets))


def _largest(texts: Sequence[str]) -> Limits:
    """The largest published value of each limit. A limit that any worker leaves out is unbounded."""

    def largest(name: str) -> Any:
        values = [_object(text).get(name) for text in texts]
        numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        return max(numbers) if numbers and len(numbers) == len(values) else math.inf

    return Limits(**{field.name: largest(field.name) for field in fields(Limits)})


def _per_user(texts: Sequence[str], workers: int) -> PerUser:
    """The largest bound of a user's waiting tasks; none when a worker publishes none."""
    waiting = [_object(text).get("waiting") for text in texts]
    numbers = [one for one in waiting if type(one) is int and one > 0]
    return PerUser(waiting=max(numbers)) if numbers and len(numbers) >= workers else PerUser()


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
