"""Words that only the zone knows, for completion: ids, images, resources, names of secrets.

Each function takes the user's session and what they have typed of the word, and yields candidates, the
most probable first. It may leave the rest of the choice to its caller: only :func:`tasks` asks the zone
for less where something is typed. A command names the function with :func:`completes` where it adds the
argument.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from compute_to_data.client.session import Session

MOST = 50
"""At most so many candidates are asked for: more than a screen shows is of no use."""


class Candidate(NamedTuple):
    """A word that can stand next on the command line, and what it means, which some shells show."""

    word: str
    meaning: str = ""


Source = Callable[["Session", str], Iterator[Candidate]]


def completes(action: argparse.Action, source: Source) -> None:
    """Declare where the candidates for an argument's values come from."""
    vars(action)["completes"] = source


def source_of(action: argparse.Action) -> Source | None:
    """What :func:`completes` declared, if anything."""
    found: Source | None = getattr(action, "completes", None)
    return found


def tasks(session: Session, beginning: str) -> Iterator[Candidate]:
    """The user's own tasks, the newest first: by three queries, however many there are. For those that
    are not among the newest of all, only the id is given."""
    from compute_to_data.model import EntityKind, Query, Row, name_of

    def newest(attribute: str, beginning: str = "") -> tuple[Row, ...]:
        query = Query(
            EntityKind.COLLECTION, attribute, beginning=beginning, owner=session.user, newest_first=True, limit=MOST
        )
        return session.catalog.query(query)

    named = session.attributes.named
    states = {one.collection: one.value for one in newest(session.attributes.state)}
    names = {one.collection: one.value for one in newest(named("name"))}
    for one in newest(named("task_id"), beginning):
        if name_of(one.collection) == one.value:
            yield Candidate(one.value, f"{states.get(one.collection, '')} {names.get(one.collection, '')}")


def workloads(session: Session, beginning: str) -> Iterator[Candidate]:
    """The workloads of the project, the newest first."""
    for one in session.workloads():
        yield Candidate(one.workload, f"{one.state} {one.name}")


def datasets(session: Session, beginning: str) -> Iterator[Candidate]:
    """The datasets of the project, the newest first. Their names would take reading a file of each."""
    from compute_to_data.client.datasets import DATASETS
    from compute_to_data.model import Collection, name_of
    from compute_to_data.records.manifest import DATASET_ID
    from compute_to_data.records.task import timestamp

    children = session.catalog.children(f"{session.project}/{DATASETS}")
    collections = [one for one in children if isinstance(one, Collection)]
    for one in sorted(collections, key=lambda one: one.created, reverse=True):
        if DATASET_ID.fullmatch(name_of(one.logical_path)):
            yield Candidate(name_of(one.logical_path), timestamp(one.created))


def tasks_and_workloads(session: Session, beginning: str) -> Iterator[Candidate]:
    """The workloads when an id of theirs is begun, else the user's own tasks."""
    yield from workloads(session, beginning) if beginning.startswith("w") else tasks(session, beginning)


def everything(session: Session, beginning: str) -> Iterator[Candidate]:
    """The datasets or workloads when an id of theirs is begun, and the user's own tasks."""
    from compute_to_data.errors import NotFound

    if beginning.startswith(("d", "w")):
        kind = datasets if beginning.startswith("d") else workloads
        with contextlib.suppress(NotFound):  # a project without any
            yield from kind(session, beginning)
    yield from tasks(session, beginning)


def images(session: Session, beginning: str) -> Iterator[Candidate]:
    """The images that the site allows by name, and those that it allows by a pattern and an engine holds."""
    from compute_to_data.client import site
    from compute_to_data.coordination import held_images

    named = [rule["name"] for rule in site.images(session) if rule.get("name")]
    resources = (one.resource for one in site.resources(session))
    held = (held_images.last_published(session.catalog, session.attributes, one) for one in resources)
    holds = [name for one in held if one is not None for name in one.names]
    for name in dict.fromkeys([*named, *holds]):
        yield Candidate(name)


def resources(session: Session, beginning: str) -> Iterator[Candidate]:
    """The resources that bear a role."""
    from compute_to_data.client import site

    for one in site.resources(session):
        yield Candidate(one.resource, ", ".join(one.roles))


def roles(session: Session, beginning: str) -> Iterator[Candidate]:
    """The roles that tasks can ask for."""
    for name in sorted(session.configuration.roles):
        yield Candidate(name)


def projects(session: Session, beginning: str) -> Iterator[Candidate]:
    """The collections in the user's home collection, as ``c2d project list`` shows them."""
    from compute_to_data.model import Collection

    for one in session.catalog.children(session.home):
        if isinstance(one, Collection):
            yield Candidate(one.logical_path)


def secrets(session: Session, beginning: str) -> Iterator[Candidate]:
    """The names of the user's secrets."""
    from compute_to_data.client import secrets as secrets_module

    for one in secrets_module.listed(session):
        yield Candidate(one.name)


def processes(session: Session, beginning: str) -> Iterator[Candidate]:
    """The names of the user's own process definitions, and the logical paths of those that others share."""
    from compute_to_data.client import processes as processes_module

    for one in processes_module.listed(session):
        own = one.owner == str(session.user)
        yield Candidate(one.name if own else one.data_object, "" if own else f"{one.name} of {one.owner}")
