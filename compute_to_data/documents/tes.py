"""Reads and checks GA4GH TES tasks (``schemas/tes_task.json``), as a request in our own format has them in ``tes``.

https://github.com/ga4gh/task-execution-schemas, version 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from compute_to_data.documents import schema_words as words
from compute_to_data.documents import tes_places
from compute_to_data.documents.schema import Problem, first
from compute_to_data.documents.tes_places import Places, has_wildcard, plain
from compute_to_data.errors import ComputeToDataError
from compute_to_data.irods_names import check_in_zone
from compute_to_data.task import LEAST_MEMORY_BYTES, InputKind, InputReference, Output, Put, RequestedLimits
from compute_to_data.tes_task import Content, Executor, Link, Placed, PlacedKind, TesTask
from compute_to_data.urls import address

IRODS = "irods://"
_GIGABYTE = 1_000_000_000
BACKEND_PARAMETERS = ("role", "resource", "priority", "walltime_seconds")
"""The keys of ``backend_parameters`` that have an effect, in any case of letters; and those that begin with:"""
SECRET = "secret:"
"""Before the host or bucket of a URL; the value is the name of the secret with its credentials."""


@dataclass(frozen=True)
class Read:
    """What a TES task adds to a request in our own format."""

    tes: TesTask
    inputs: tuple[InputReference, ...]
    outputs: tuple[Output, ...]
    put: tuple[Put, ...]
    limits: RequestedLimits


def disagreements(document: Mapping[str, Any], zone: str) -> list[Problem]:
    """The problems of a TES task that the schema cannot express. ``zone``: the zone in which it is to run."""
    return first(_wrong(document, zone))


def _wrong(document: Mapping[str, Any], zone: str) -> Iterator[Problem]:
    for number, one in enumerate(document.get("inputs", ())):
        if "content" in one and one["content"] != "":
            if one.get("type") == "DIRECTORY":
                yield Problem(f"/inputs/{number}/type", '"DIRECTORY"', '"FILE" beside a content')
            continue
        if not one.get("url"):
            yield Problem(f"/inputs/{number}", words.shown(one), 'a "url" or a "content"')
            continue
        yield from _wrong_url(f"/inputs/{number}/url", one, zone)
    yield from _wrong_outputs(document, zone)
    if any(has_wildcard(one["path"]) and not tes_places.fixed_part(plain(one["path"])) for one in _outputs(document)):
        return
    places = Places(document)
    yield from places.problems(document, tes_places.targets(document, places))
    for number, one in enumerate(document["executors"]):
        if not one["command"][0] or one["command"][0].startswith("-"):
            pointer = f"/executors/{number}/command/0"
            yield Problem(pointer, words.quoted(one["command"][0]), "a program, whose name does not begin with -")


def _outputs(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(document.get("outputs", ()))


def _wrong_outputs(document: Mapping[str, Any], zone: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for number, one in enumerate(_outputs(document)):
        pointer, path = f"/outputs/{number}", plain(one["path"])
        yield from _wrong_url(f"{pointer}/url", one, zone)
        if has_wildcard(path):
            prefix = plain(one.get("path_prefix", ""))
            if not tes_places.fixed_part(path):
                yield Problem(f"{pointer}/path", words.quoted(path), "a pattern below a directory")
            elif not prefix or not tes_places.is_below(tes_places.fixed_part(path), prefix):
                yield Problem(f"{pointer}/path_prefix", words.quoted(prefix), "a directory above the path's wildcards")
        if not one["url"].lower().startswith(IRODS) and (has_wildcard(path) or path == tes_places.OUTPUTS):
            yield Problem(f"{pointer}/url", words.quoted(_shown(one["url"])), "irods:/// for this path")
        if path in seen or one["url"] in seen:
            yield Problem(pointer, words.quoted(path), "each path and each URL once")
        seen.update((path, one["url"]))


def _wrong_url(pointer: str, entry: Mapping[str, Any], zone: str) -> Iterator[Problem]:
    url = entry["url"]
    if not url.lower().startswith(IRODS):
        scheme = url.partition("://")[0].lower()
        if scheme not in (address.HTTPS, address.S3) or "://" not in url:
            expected = "irods:///ZONE/..., or https:// or s3:// where the site lists the host or the bucket"
            yield Problem(pointer, words.quoted(_shown(url)), f"{expected}: nothing else is read or written")
            return
        try:
            address.parse(url)
        except ValueError as error:
            yield Problem(pointer, words.quoted(_shown(url)), str(error))
        if entry.get("type") == "DIRECTORY" and "content" not in entry and pointer.startswith("/inputs"):
            yield Problem(pointer, words.quoted(_shown(url)), "irods:/// for a directory")
        return
    try:
        check_in_zone(logical_path(url), zone)
    except ComputeToDataError as error:
        expected = f"a logical path of this zone, as in irods:///{zone}/home ({error.cause})"
        yield Problem(pointer, words.quoted(_shown(url)), expected)


def _shown(url: str) -> str:
    return address.without_credentials(url)


def authority(url: str) -> str:
    """Host and port of an ``irods://`` URL; '' for the usual ``irods:///``."""
    return url[len(IRODS) :].partition("/")[0]


def logical_path(url: str) -> str:
    """The logical path of an ``irods://`` URL, in which ``%`` and two digits stand for a byte."""
    return plain(unquote("/" + url[len(IRODS) :].partition("/")[2], errors="surrogateescape"))


def read(document: Mapping[str, Any]) -> Read:
    """What a valid TES task asks for."""
    places = Places(document)
    targets = tes_places.targets(document, places)
    inputs, contents, links = [], [], []
    for one, target in zip(document.get("inputs", ()), targets):
        name = places.name_of(plain(one["path"]))
        if name is not None:
            links.append(Link(name, target))
        if one.get("content"):
            contents.append(Content(target, one["content"]))
        else:
            inputs.append(_input(one, target, document))
    placed, put = [], []
    for one in _outputs(document):
        if one["url"].lower().startswith(IRODS):
            placed.append(_placed(one, places))
        else:
            put.append(Put(places.name_of(plain(one["path"])) or "", one["url"], secret_of(document, one["url"])))
    executors = tuple(_executor(one) for one in document["executors"])
    folders = places.folders(document)
    tes = TesTask(document, executors, tuple(contents), tuple(links), tuple(placed), folders, places.scratch)
    return Read(tes, tuple(inputs), places.outputs, tuple(put), _limits(document))


def _input(one: Mapping[str, Any], target: str, document: Mapping[str, Any]) -> InputReference:
    url = one["url"]
    if not url.lower().startswith(IRODS):
        return InputReference(InputKind.URL, url, target, secret=secret_of(document, url))
    kind = InputKind.COLLECTION if one.get("type") == "DIRECTORY" else InputKind.OBJECT
    return InputReference(kind, logical_path(url), target)


def _placed(one: Mapping[str, Any], places: Places) -> Placed:
    path, target = plain(one["path"]), logical_path(one["url"])
    if not has_wildcard(path):
        kind = PlacedKind.DIRECTORY if one.get("type") == "DIRECTORY" else PlacedKind.FILE
        return Placed(kind, places.name_of(path) or "", target, path)
    fixed = tes_places.fixed_part(path)
    above = places.name_of(fixed) or ""
    kept = fixed[len(plain(one["path_prefix"])) :]  # what the URL keeps of the path before its wildcards
    return Placed(PlacedKind.PATTERN, _joined(above, path[len(fixed) + 1 :]), f"{target}{kept}", fixed, above)


def _joined(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _executor(one: Mapping[str, Any]) -> Executor:
    streams = {name: plain(one.get(name, "")) for name in ("stdin", "stdout", "stderr")}
    return Executor(
        image=one["image"],
        command=tuple(one["command"]),
        working_directory=plain(one.get("workdir", "")),
        environment=dict(one.get("env", {})),
        may_fail=one.get("ignore_error", False),
        **streams,
    )


def _limits(document: Mapping[str, Any]) -> RequestedLimits:
    resources = document.get("resources", {})
    seconds = parameters(document).get("walltime_seconds")
    return RequestedLimits(
        cpus=float(resources["cpu_cores"]) if "cpu_cores" in resources else None,
        memory_bytes=max(LEAST_MEMORY_BYTES, int(resources["ram_gb"] * _GIGABYTE)) if "ram_gb" in resources else None,
        output_bytes=max(1, int(resources["disk_gb"] * _GIGABYTE)) if "disk_gb" in resources else None,
        walltime_seconds=float(seconds) if seconds is not None else None,
    )


def parameters(document: Mapping[str, Any]) -> dict[str, str]:
    """The backend parameters that have an effect, by their names in lower case."""
    given = document.get("resources", {}).get("backend_parameters", {})
    return {name.lower(): value for name, value in given.items() if is_known(name)}


def is_known(name: str) -> bool:
    """Whether a backend parameter has an effect."""
    return name.lower() in BACKEND_PARAMETERS or name.lower().startswith(SECRET)


def secret_of(document: Mapping[str, Any], url: str) -> str:
    """The name of the secret for a URL; '' for none."""
    return parameters(document).get(f"{SECRET}{place_of(url)}", "")


def place_of(url: str) -> str:
    """In lower case, the host of an ``https://`` URL with any port that it names, or the bucket of an ``s3://`` URL."""
    return url.partition("://")[2].partition("/")[0].partition("?")[0].lower()
