"""``ro-crate-metadata.json``: describes a finished task in a format that other programs understand.

The file follows the profile Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5) on
RO-Crate 1.1. It has one ``CreateAction``: its instrument is the image's program, its objects are the
inputs and its results are the outputs. The file leaves out what the profile recommends but this
product does not know, such as the web page of the program in the image.
"""

from __future__ import annotations

import json
import mimetypes
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any
from urllib.parse import quote

from compute_to_data import __version__, engine_promises
from compute_to_data.engine_promises import Promise
from compute_to_data.inputs.references import Staged
from compute_to_data.job import Image, OutputFile
from compute_to_data.model import User, name_of
from compute_to_data.provenance.outcome import Outcome, parameters, written
from compute_to_data.records.task import timestamp
from compute_to_data.task import StoredDefinition

PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_RO_CRATE = "https://w3id.org/ro/crate/1.1"
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
_CONTEXT = [
    f"{_RO_CRATE}/context",
    {name: _TERMS + name for name in ("containerImage", "ContainerImage", "environment", "registry", "sha256", "tag")},
]
_RUN, _RUNNER, _LICENSE = "#run", "#compute-to-data", "#license"
_CHANGED = "Changed while the program ran: what it read may differ from the identifier, which is the checksum before"

Entity = dict[str, Any]

_WORDS = 1000
"""How many words of JSON make a piece."""
LARGEST = 64 * 1024 * 1024
"""The most bytes of a crate that are read again: those of about 100,000 outputs."""


class _Made(list[Any]):
    """A list whose items are made when they are read, each time anew: a hundred thousand outputs with long names would
    take a gigabyte."""

    def __init__(self, length: int, make: Callable[[], Iterable[Any]]) -> None:
        self._length, self._make = length, make

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return iter(self._make())


def crate(outcome: Outcome) -> bytes:
    """The content of the file."""
    return b"".join(in_pieces(outcome))


def in_pieces(outcome: Outcome) -> Iterator[bytes]:
    """The content of the file, piece by piece."""
    document = {"@context": _CONTEXT, "@graph": _graph(outcome)}
    words = json.JSONEncoder(indent=1, ensure_ascii=False).iterencode(document)
    piece: list[str] = []
    for word in words:
        piece.append(word)
        if len(piece) == _WORDS:
            yield "".join(piece).encode()
            piece = []
    yield "".join(piece).encode()


def _graph(outcome: Outcome) -> Sequence[Entity]:
    inputs = _inputs(outcome.inputs, outcome.task.shown_urls, outcome.changed_inputs)
    outputs, places = outcome.outputs, outcome.places
    results = _Made(len(outputs), lambda: (_output(file, places.get(file.relative, "")) for file in outputs))
    environment = outcome.task.process.environment if outcome.task.process else {}
    settings = [_setting(name, value) for name, value in parameters(outcome.task).items()]
    variables = [one for one in settings if one["name"] in environment]
    given = [one for one in settings if one["name"] not in environment]
    stored = [_stored(outcome.task.definition)] if outcome.task.definition else []
    graph = [
        _descriptor(),
        _root(outcome, _Made(len(results) + len(inputs), lambda: chain(results, inputs))),
        _run(outcome, [*inputs, *given], results, variables),
        *_program(outcome.image, outcome.engine, stored),
        _runner(),
        _agent(outcome.owner),
        _publisher(outcome.owner),
        {"@id": _LICENSE, "@type": "CreativeWork", "name": "Not stated", "description": "Ask the author"},
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        *settings,
        *stored,
        *inputs,
    ]
    return _Made(len(graph) + len(results), lambda: chain(graph, results))


def output_names(content: bytes) -> tuple[str, ...] | None:
    """The outputs that a crate names, relative to the task's collection.

    None for a file that :func:`crate` did not write.
    """
    try:
        entities = {entity["@id"]: entity for entity in json.loads(content)["@graph"]}
        results = entities[_RUN].get("result", [])
        references = results if isinstance(results, list) else [results]
        own = (one["@id"] for one in references if not one["@id"].startswith("irods://"))
        return tuple(str(entities[one]["name"]) for one in own)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _reference(entities: Sequence[Entity]) -> Any:
    """References to entities. RO-Crate wants a single reference without a list around it."""
    references = _Made(len(entities), lambda: ({"@id": entity["@id"]} for entity in entities))
    return next(iter(references)) if len(references) == 1 else references


def _time(seconds: float) -> str:
    """A time in the profile's format: with an offset, where the rest of this product writes ``Z``."""
    return f"{timestamp(seconds)[:-1]}+00:00"


def _name(outcome: Outcome) -> str:
    return outcome.task.name or f"Task {outcome.task_id}"


def _descriptor() -> Entity:
    return {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": _RO_CRATE},
        "creator": {"@id": _RUNNER},
    }


def _root(outcome: Outcome, parts: Sequence[Entity]) -> Entity:
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": _name(outcome),
        "description": f"Results of a {outcome.role} task that ran on {outcome.resource}",
        "datePublished": _time(outcome.exit.finished),
        "author": _reference([_agent(outcome.owner)]),
        "publisher": _reference([_publisher(outcome.owner)]),
        "license": {"@id": _LICENSE},
        "conformsTo": {"@id": PROFILE},
        "hasPart": _reference(parts),
        "mentions": {"@id": _RUN},
    }
    return {name: value for name, value in root.items() if value}


def _run(outcome: Outcome, given: Sequence[Entity], results: Sequence[Entity], variables: Sequence[Entity]) -> Entity:
    program, *container = _program(outcome.image, outcome.engine)
    run = {
        "@id": _RUN,
        "@type": "CreateAction",
        "name": _name(outcome),
        "description": "\n".join(written(command) for command in outcome.commands),
        "instrument": _reference([program]),
        "containerImage": _reference(container),
        "agent": _reference([_agent(outcome.owner)]),
        "object": _reference(given),
        "result": _reference(results),
        "environment": _reference(variables),
        "startTime": _time(outcome.exit.started),
        "endTime": _time(outcome.exit.finished),
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
    return {name: value for name, value in run.items() if value}


def _program(image: Image, engine: str, stored: Sequence[Entity] = ()) -> list[Entity]:
    """The program in the image and, if the image is a container image, the image itself. ``stored``: the process
    definition that the program was run by, if it was a stored one."""
    program = {
        "@id": f"#program-{image.digest}",
        "@type": "SoftwareApplication",
        "name": image.name,
        "version": image.digest,
    }
    if stored:
        program["isBasedOn"] = _reference(stored)
    sandbox = engine_promises.of(engine).get(Promise.SANDBOX)
    if sandbox is None or not sandbox.is_held:
        return [program]
    name, tag, registry = _parts(image.name)
    container = {
        "@id": f"#image-{image.digest}",
        "@type": "ContainerImage",
        "additionalType": {"@id": f"{_TERMS}DockerImage"},
        "registry": registry,
        "name": name,
        "tag": tag,
        "sha256": image.digest.rpartition(":")[2],
    }
    return [program, {key: value for key, value in container.items() if value}]


def _parts(image_name: str) -> tuple[str, str, str]:
    """Name, tag and registry, by Docker's rules for image names."""
    first, slash, rest = image_name.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry, path = (first, rest) if has_registry else ("docker.io", image_name)
    path = path.partition("@")[0]
    name, _, tag = path.partition(":")
    return name, tag, registry


def _runner() -> Entity:
    return {
        "@id": _RUNNER,
        "@type": "SoftwareApplication",
        "name": "compute-to-data",
        "version": __version__,
        "runtimePlatform": f"Python {platform.python_version()}",
    }


def _agent(owner: User) -> Entity:
    return {
        "@id": f"#user-{quote(str(owner), safe='')}",
        "@type": "Person",
        "name": str(owner),
        "affiliation": _reference([_publisher(owner)]),
    }


def _publisher(owner: User) -> Entity:
    return {"@id": f"#zone-{quote(owner.zone, safe='')}", "@type": "Organization", "name": f"iRODS zone {owner.zone}"}


def _setting(name: str, value: Any) -> Entity:
    written_value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {"@id": f"#parameter-{quote(name, safe='')}", "@type": "PropertyValue", "name": name, "value": written_value}


def _stored(definition: StoredDefinition) -> Entity:
    """A stored process definition. Like an input, it is not part of the crate's folder."""
    return {
        "@id": f"irods://{quote(definition.data_object)}",
        "@type": "CreativeWork",
        "name": f"Process definition {definition.name}",
        "encodingFormat": "application/json",
        "identifier": definition.checksum,
    }


def _inputs(staged: Iterable[Staged], urls: Mapping[str, str], changed: Collection[str]) -> list[Entity]:
    """Each input once, with the paths at which the program saw it, the URL that it was fetched from, and whether it
    was changed meanwhile."""
    seen: dict[str, list[Staged]] = {}
    for one in staged:
        seen.setdefault(one.data_object.logical_path, []).append(one)
    return [_input(path, same, urls.get(same[0].target, ""), path in changed) for path, same in seen.items()]


def _input(path: str, same: Sequence[Staged], url: str, has_changed: bool) -> Entity:
    """An input is not part of the crate's folder, so its identifier is its logical path."""
    described = _file(f"irods://{quote(path)}", path, same[0].replica.size, same[0].checksum or "unknown")
    places = [one.target for one in same]
    origin = {"url": url} if url else {}
    note = {"description": _CHANGED} if has_changed else {}
    return {**described, "alternateName": places[0] if len(places) == 1 else places, **origin, **note}


def _output(file: OutputFile, place: str) -> Entity:
    """An output. One that is not in the task's collection has its logical path as its identifier, as an input has."""
    if place:
        return _file(f"irods://{quote(place)}", place, file.size, file.checksum)
    return _file(quote(file.relative), file.relative, file.size, file.checksum)


def _file(identifier: str, path: str, size: int, checksum: str) -> Entity:
    return {
        "@id": identifier,
        "@type": "File",
        "name": path,
        "contentSize": str(size),
        "encodingFormat": mimetypes.guess_type(name_of(path), strict=False)[0] or "application/octet-stream",
        "identifier": checksum,
    }
