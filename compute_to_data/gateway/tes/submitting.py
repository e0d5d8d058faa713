"""From a TES task to a request in our own format, which has it as it came."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compute_to_data.client import tasks
from compute_to_data.client.tasks import TaskHandle
from compute_to_data.client.workbench import Workbench
from compute_to_data.documents import request, tes
from compute_to_data.documents import schema_words as words
from compute_to_data.documents.json_text import check_values
from compute_to_data.documents.schema import Problem, problems, read_json, summary
from compute_to_data.errors import AlreadyExists, ComputeToDataError, InvalidRequest, NotFound
from compute_to_data.gateway.gateway import Gateway
from compute_to_data.gateway.hidden import below_hidden
from compute_to_data.inputs import places
from compute_to_data.model import Avu, Entity, EntityKind, parent_of
from compute_to_data.urls import address

WARNING = "tes_warning"
"""The fact that says what of a TES task has no effect; a task may have several."""
_SET_BY_US = ("id", "state", "logs", "creation_time")
_DEFAULT_PORT = 1247
_MOST_PRIORITY = 10


def create(bench: Workbench, gateway: Gateway, asked: Any) -> TaskHandle:
    """Submit a TES task. InvalidRequest, which lists all problems with their places; Refused."""
    check_values(asked, "document")
    document = without_nulls(asked)
    wrong = [*_wrong_members(document)] or problems(document, "tes_task")
    wrong = wrong or [*_wrong_authorities(document, gateway), *_wrong_parameters(document)]
    if wrong:
        raise InvalidRequest(*summary(wrong))
    document, warnings = _understood(document)
    results = bench.results
    own = _request(document, results)
    try:
        task = request.parse(own)
    except InvalidRequest as error:
        # The places are those of the document that came.
        raise InvalidRequest(error.subject.removeprefix("/tes") or "document", error.cause, error.remedy) from None
    bench.catalog.create_collection(results, parents=True)
    with _collections(bench, places.collections(task)):
        submitted = tasks.submit(bench, own)
    if warnings:
        found = [Avu(bench.attributes.named(WARNING), one[:2000]) for one in warnings]
        bench.catalog.annotate(Entity(EntityKind.COLLECTION, submitted.collection), add=found)
    return submitted


def without_nulls(value: Any) -> Any:
    """A document without members that are null, which clients write for what they leave out."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def _wrong_members(document: Any) -> Iterator[Problem]:
    for name in _SET_BY_US if isinstance(document, Mapping) else ():
        if name in document:
            yield Problem(f"/{name}", "a value", "nothing: the server sets it")


def _wrong_authorities(document: Mapping[str, Any], gateway: Gateway) -> Iterator[Problem]:
    """URLs ``irods://host:port/...`` of another server than this zone's."""
    known, expected = authorities(gateway), f"irods:///{gateway.entrance.zone}/...: that is not this zone's server"
    for side in ("inputs", "outputs"):
        for number, one in enumerate(document.get(side, ())):
            url = one.get("url", "")
            if url.lower().startswith(tes.IRODS) and tes.authority(url).lower() not in known:
                yield Problem(f"/{side}/{number}/url", words.quoted(address.without_credentials(url)), expected)


def authorities(gateway: Gateway) -> frozenset[str]:
    """What may stand between ``irods://`` and the path: nothing, or the zone's host, perhaps with its port."""
    settings = gateway.settings.zone.settings
    file = str(settings.get("environment_file", ""))
    if not file:
        return frozenset({""})
    with contextlib.suppress(OSError, ComputeToDataError), open(os.path.expanduser(file), "rb") as opened:
        found = read_json(opened.read(), file)
        host, port = str(found.get("irods_host", "")).lower(), found.get("irods_port", _DEFAULT_PORT)
        return frozenset({"", f"{host}:{port}", *([host] if port == _DEFAULT_PORT else [])})
    return frozenset({""})


def _wrong_parameters(document: Mapping[str, Any]) -> Iterator[Problem]:
    resources = document.get("resources", {})
    for name, value in resources.get("backend_parameters", {}).items():
        pointer = f"/resources/backend_parameters/{name[:80]}"
        if not tes.is_known(name):
            if resources.get("backend_parameters_strict"):
                known = (*tes.BACKEND_PARAMETERS, f"{tes.SECRET}HOST")
                yield Problem(pointer, "an unknown key", f"one of {', '.join(known)}")
        elif name.lower().startswith(tes.SECRET):
            yield from _wrong_secret(document, pointer, name, value)
        elif not _fits(name.lower(), value):
            yield Problem(pointer, f'"{value[:40]}"', _EXPECTED[name.lower()])


def _wrong_secret(document: Mapping[str, Any], pointer: str, name: str, value: str) -> Iterator[Problem]:
    """A secret for no URL of the task would have no effect."""
    urls = [one.get("url", "") for side in ("inputs", "outputs") for one in document.get(side, ())]
    places = {tes.place_of(url) for url in urls if not url.lower().startswith(tes.IRODS)}
    if name[len(tes.SECRET) :].lower() not in places:
        yield Problem(pointer, "a secret for no URL", "secret: and the host or bucket of an input or output")
    elif not value:
        yield Problem(pointer, '""', "the name of one of your secrets")


_EXPECTED = {
    "role": "the name of a role",
    "resource": "the name of a compute resource",
    "priority": "an integer from -10 to 10",
    "walltime_seconds": "a whole number of seconds above 0",
}


def _fits(name: str, value: str) -> bool:
    if name == "priority":
        with contextlib.suppress(ValueError):
            return len(value) < 4 and abs(int(value)) <= _MOST_PRIORITY
        return False
    if name == "walltime_seconds":
        return value.isascii() and value.isdigit() and len(value) < 16 and int(value) > 0
    return bool(value)


def _understood(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The document without backend parameters that we do not know, and what of it has no effect."""
    resources = document.get("resources", {})
    given = resources.get("backend_parameters", {})
    unknown = [name for name in given if not tes.is_known(name)]
    warnings = [f"backend_parameters: {name[:200]} is not known here, and has no effect" for name in unknown]
    if resources.get("preemptible"):
        warnings.append("resources/preemptible has no effect: no task is preempted")
    if unknown:
        kept = {name: value for name, value in given.items() if name not in unknown}
        document = {**document, "resources": {**resources, "backend_parameters": kept}}
    return document, warnings


def _request(document: Mapping[str, Any], results: str) -> dict[str, Any]:
    """The request in our own format."""
    found: dict[str, Any] = {"output_collection": results, "inputs": [], "tes": document}
    name = document.get("name", "")
    if 0 < len(name) <= 255 and name.isprintable():
        found["name"] = name
    given = tes.parameters(document)
    found.update({name: given[name] for name in ("role", "resource") if name in given})
    if "priority" in given:
        found["priority"] = int(given["priority"])
    for zone in document.get("resources", {}).get("zones", ()):  # one at most
        found.setdefault("resource", zone)
    if "role" not in found and "resource" not in found:
        found["role"] = "CONTAINER"
    return found


@contextlib.contextmanager
def _collections(bench: Workbench, wanted: Sequence[str]) -> Iterator[None]:
    """Make the collections for the outputs. When the task is refused, those that are new go again."""
    made: list[str] = []
    try:
        for collection in wanted:
            missing = [*_missing(bench, collection)]
            _make(bench, collection)
            made += missing
        yield
    except BaseException:
        for collection in sorted(made, reverse=True):  # the inner ones first
            with contextlib.suppress(ComputeToDataError):
                bench.catalog.remove(collection)
        raise


def _make(bench: Workbench, collection: str) -> None:
    """Make a collection, unless it is there. NotFound for one that the person may not read: it may exist or not."""
    with below_hidden(bench.catalog, collection):
        try:
            bench.catalog.create_collection(collection, parents=True)
        except AlreadyExists:
            bench.catalog.stat(collection)
            raise


def _missing(bench: Workbench, collection: str) -> Iterator[str]:
    while collection.count("/") > 1:
        try:
            bench.catalog.stat(collection)
            return
        except NotFound:
            yield collection
        collection = parent_of(collection)
