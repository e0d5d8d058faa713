"""What a worker accepts, told on its resource: for clients who have no configuration of the site.

Each is an AVU of the resource, visible to everybody: attribute ``<prefix>::offer``, units what it
is about. Nothing secret is told, no path and no setting. A client refuses early with it what the
worker would refuse; where it knows too little it lets pass, since the worker decides.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from compute_to_data.configuration import Attributes, Configuration, ImageRule, RoleSettings, ZoneSettings
from compute_to_data.coordination.role_choice import RUNS
from compute_to_data.errors import Refused
from compute_to_data.irods_names import LONGEST_AVU
from compute_to_data.job import Limits
from compute_to_data.model import Avu, Entity, EntityKind, Query
from compute_to_data.ports import Catalog

_IMAGE, _ROLE, _CLASS, _DEFAULT, _MAXIMUM, _ATTRIBUTES = (
    "image",
    "role",
    "class",
    "default_limits",
    "maximum_limits",
    "attributes",
)
_ANY_IMAGE = r"[\s\S]*"
"""Covers every name: stands for a rule that a client cannot be told, or does not understand."""


def publish(catalog: Catalog, configuration: Configuration, resource: str) -> None:
    """Put a worker's offers on its resource; what differs is replaced.

    Needs a rodsadmin's session; raises the zone's errors.
    """
    _replace(catalog, configuration, resource, set(_offers(configuration)))


def withdraw(catalog: Catalog, configuration: Configuration, resource: str) -> None:
    """Take them away: nobody serves the resource any more."""
    _replace(catalog, configuration, resource, set())


def _replace(catalog: Catalog, configuration: Configuration, resource: str, new: set[Avu]) -> None:
    entity = Entity(EntityKind.RESOURCE, resource)
    attribute = configuration.attributes.named("offer")
    old = {avu for avu in catalog.avus(entity) if avu.attribute == attribute}
    if old != new:
        catalog.annotate(entity, remove=old - new, add=new - old)


def _offers(configuration: Configuration) -> Iterator[Avu]:
    attributes = configuration.attributes
    attribute = attributes.named("offer")
    for rule in configuration.images:
        yield Avu(attribute, _written(rule), _IMAGE)
    for name, role in configuration.roles.items():
        yield Avu(attribute, name, _ROLE)
        known = role.implementation if role.implementation in RUNS else ""  # a site's own class is not told
        yield Avu(attribute, json.dumps({name: known}), _CLASS)
    yield Avu(attribute, json.dumps(vars(configuration.default_limits)), _DEFAULT)
    yield Avu(attribute, json.dumps(vars(configuration.maximum_limits)), _MAXIMUM)
    yield Avu(attribute, json.dumps({"role": attributes.role, "claim": attributes.claim}), _ATTRIBUTES)


def _written(rule: ImageRule) -> str:
    text = json.dumps({name: value for name, value in vars(rule).items() if value}, ensure_ascii=False)
    return text if len(text.encode()) <= LONGEST_AVU["value"] else json.dumps({"pattern": _ANY_IMAGE})


def read(catalog: Catalog, attributes: Attributes) -> Configuration:
    """A configuration out of the offers of all the zone's workers, good enough to submit with.

    ``attributes`` says under which prefix to look. What any worker accepts is accepted. A
    role has no settings, and a class only where all workers tell the same one of the product's own.
    Zone, engine and worker say nothing. Refused when no worker offers anything.
    """
    attribute = attributes.named("offer")
    resources = catalog.find(Query(EntityKind.RESOURCE, attribute))
    found = [avu for name in resources for avu in catalog.avus(Entity(EntityKind.RESOURCE, name))]
    offers = [avu for avu in found if avu.attribute == attribute]
    if not offers:
        raise Refused(
            f"zone {catalog.user.zone}",
            "no worker says what it would run",
            "An administrator can start one: python3 -m compute_to_data.worker --resource <resource>",
        )

    def of(kind: str) -> list[str]:
        return [avu.value for avu in offers if avu.units == kind]

    names = {name: value for text in reversed(of(_ATTRIBUTES)) for name, value in _object(text).items()}
    return Configuration(
        zone=ZoneSettings(""),
        images=tuple(dict.fromkeys(map(_rule, of(_IMAGE)))),
        roles={name: RoleSettings(_class_of(name, of(_CLASS))) for name in sorted(of(_ROLE))},
        default_limits=_most(of(_DEFAULT)),
        maximum_limits=_most(of(_MAXIMUM)),
        attributes=Attributes(
            role=str(names.get("role", attributes.role)),
            claim=str(names.get("claim", attributes.claim)),
            prefix=attributes.prefix,
        ),
        source="the workers' offers",
    )


def _class_of(role: str, texts: Sequence[str]) -> str:
    """The class that all workers which tell one tell for the role; '' when they differ, or none does."""
    told = {str(described[role]) for described in map(_object, texts) if role in described}
    return told.pop() if len(told) == 1 else ""


def _rule(text: str) -> ImageRule:
    described = _object(text)
    name, pattern, digest = (described.get(key, "") for key in ("name", "pattern", "digest"))
    if all(isinstance(one, str) for one in (name, pattern, digest)) and (name or pattern):
        try:
            re.compile(pattern)
            return ImageRule(name, pattern, digest)
        except (re.error, RecursionError, OverflowError):  # another Python's words
            pass
    return ImageRule(pattern=_ANY_IMAGE)


def _most(texts: Sequence[str]) -> Limits:
    """Of each limit the largest; one that is not told bounds nothing."""

    def largest(name: str) -> Any:
        told = [_object(text).get(name) for text in texts]
        numbers = [one for one in told if isinstance(one, (int, float)) and not isinstance(one, bool)]
        return max(numbers) if numbers and len(numbers) == len(told) else math.inf

    return Limits(**{field.name: largest(field.name) for field in fields(Limits)})


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
