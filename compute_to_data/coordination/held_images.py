"""The images that a worker's engine holds, published on its resource.

Each image that the site allows is an AVU of the resource, with the attribute ``<prefix>::held`` and its name as the
value. One more, whose units are ``count``, says ``all`` or ``more``: whether the engine holds others, too. A submission
that names an image that the engine does not hold is refused early. A worker of an older version publishes no count,
and an engine that pulls images lists none: then the client lets the request pass, since the worker decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from compute_to_data import similar_names
from compute_to_data.configuration import Attributes, Configuration
from compute_to_data.coordination import resource_avus
from compute_to_data.coordination.heartbeat import is_fresh
from compute_to_data.irods_names import LONGEST_AVU
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog

MOST = 200
"""How many names a worker publishes at most. The count tells clients when there are more."""
_COUNT = "count"
_HELD = "held"
_DOCKER_HUB = re.compile(r"^(?:index\.)?docker\.io/(?:library/)?|^library/")
_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class HeldImages:
    """Names of images that an engine holds. ``is_complete``: it holds no others that the site allows."""

    names: tuple[str, ...]
    is_complete: bool = True

    def may_have(self, image: str) -> bool:
        """Whether the engine may hold the image: it does, or the list cannot tell."""
        return not self.is_complete or bool(_ID.fullmatch(image)) or _whole(image) in map(_whole, self.names)


AskImages = Callable[[str, str], Optional[HeldImages]]
"""Answers which images the engine of a resource holds; None when that is not known. It receives the resource and the
image that the asker looks for."""


def _whole(image: str) -> str:
    """The name in full: with its tag, and without the registry that Docker adds by itself."""
    name = _DOCKER_HUB.sub("", image)
    if "@" in name:
        before, _, digest = name.partition("@")
        return f"{_without_tag(before)}@{digest}"
    return name if _without_tag(name) != name else f"{name}:latest"


def _without_tag(name: str) -> str:
    path, slash, last = name.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def nearest(image: str, names: Iterable[str]) -> str:
    """The name that the user probably meant; '' when none is near.

    First names of the same repository with another tag, then of a repository that ends the same, then similar ones.
    """
    known = sorted(set(names))
    repository = _without_tag(_DOCKER_HUB.sub("", image))
    repositories = {one: _without_tag(_DOCKER_HUB.sub("", one)) for one in known}
    last = repository.rpartition("/")[2]
    same = [one for one in known if repositories[one] == repository]
    ends_same = [one for one in known if repositories[one].rpartition("/")[2] == last]
    if same:
        return similar_names.nearest(image, same, likeness=0)
    if ends_same:
        return ends_same[0]
    in_part = similar_names.nearest(repository, repositories.values(), likeness=0.7)
    of_part = [one for one in known if repositories[one] == in_part]
    return similar_names.nearest(image, known, likeness=0.75) or next(iter(of_part), "")


def allowed(configuration: Configuration, names: Sequence[str]) -> HeldImages:
    """Of the names of an engine's images, those that the site allows, at most :data:`MOST`."""
    fitting = [one for one in dict.fromkeys(names) if configuration.allows(one) is not None]
    found = [one for one in fitting if len(one.encode()) <= LONGEST_AVU["value"]]
    # A name with a digest is of use to few users, so it gives way to one with a tag.
    kept = sorted(sorted(found, key=lambda one: ("@" in one, one))[:MOST])
    return HeldImages(tuple(kept), len(kept) == len(fitting))


def publish(catalog: Catalog, configuration: Configuration, resource: str, names: Sequence[str] | None) -> None:
    """Write the names of the engine's images to the worker's resource, in place of earlier ones. ``names``: None
    when the engine does not list its images.

    Needs a rodsadmin's session; raises the zone's errors.
    """
    attribute = configuration.attributes.named(_HELD)
    new = set()
    if names is not None:
        held = allowed(configuration, names)
        count = "all" if held.is_complete else "more"
        new = {Avu(attribute, count, _COUNT), *(Avu(attribute, name) for name in held.names)}
    resource_avus.replace(catalog, resource, attribute, new)


def withdraw(catalog: Catalog, configuration: Configuration, resource: str) -> None:
    """Remove the names from a resource, because its worker stops."""
    resource_avus.replace(catalog, resource, configuration.attributes.named(_HELD), set())


def published(catalog: Catalog, attributes: Attributes, resource: str, image: str = "") -> HeldImages | None:
    """What the live worker of a resource publishes; None when there is no live worker, or it publishes no names."""
    worker = attributes.named("worker")
    avus = catalog.avus(Entity(EntityKind.RESOURCE, resource), worker, attributes.named(_HELD))
    if not any(is_fresh(avu) for avu in avus if avu.attribute == worker):
        return None
    return _read(avus, attributes)


def last_published(catalog: Catalog, attributes: Attributes, resource: str) -> HeldImages | None:
    """What a worker of the resource published, also when it has stopped since; None when none did."""
    return _read(catalog.avus(Entity(EntityKind.RESOURCE, resource), attributes.named(_HELD)), attributes)


def _read(avus: Iterable[Avu], attributes: Attributes) -> HeldImages | None:
    own = [avu for avu in avus if avu.attribute == attributes.named(_HELD)]
    counts = [avu.value for avu in own if avu.units == _COUNT]
    if not counts:
        return None
    names = sorted(avu.value for avu in own if avu.units != _COUNT)
    return HeldImages(tuple(names), counts == ["all"])
