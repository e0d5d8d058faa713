"""The status of a task, read from the AVUs of its collection."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from compute_to_data.configuration import Attributes
from compute_to_data.documents.json_text import read_json
from compute_to_data.errors import InvalidRequest, TooLarge
from compute_to_data.log_file import STREAMS
from compute_to_data.model import Avu, Entity, EntityKind
from compute_to_data.ports.zone import Catalog
from compute_to_data.records.state import State, furthest, resource_of
from compute_to_data.records.task import HELD_UP

_PHASES = {
    State.WAITING: "waiting",
    State.QUEUED: "queued",
    State.STAGING_IN: "stage_in",
    State.RUNNING: "processing",
    State.STAGING_OUT: "stage_out",
}
"""The name of the time spent in a state."""
_PARAMETER = "parameter::"
_TIMESTAMP = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?Z?")
_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True)
class TaskStatus:
    """A task at one moment. Times are ISO 8601 in UTC. ``seconds`` says how long each phase took
    (``waiting``, ``queued``, ``stage_in``, ``processing``, ``stage_out``); for the current phase, how long so far.

    ``runs`` is what the request asks to run; ``commands`` are known when the job starts. ``inputs``
    maps logical paths to checksums ('' while unknown). ``other`` holds the recorded facts that have
    no field here. ``log_bytes_missing``: how many bytes of ``stdout`` and ``stderr`` are not kept.
    ``after`` holds the collections of the tasks that it waits for, or waited for;
    ``waiting_for`` says why a WAITING or QUEUED task does not run yet, and why one that has begun does not go on.
    """

    task_id: str
    collection: str
    state: State
    resource: str
    owner: str = ""
    name: str = ""
    role: str = ""
    choice: str = ""
    times: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    exit_status: int | None = None
    reason_code: str = ""
    reason: str = ""
    error_code: int | None = None
    image: str = ""
    image_digest: str = ""
    engine: str = ""
    version: str = ""
    attempts: int | None = None
    runs: str = ""
    commands: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    staged: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    moved_to: str = ""
    log_bytes_missing: Mapping[str, int] = field(default_factory=dict)
    cancel_asked_by: str = ""
    after: tuple[str, ...] = ()
    waiting_for: str = ""
    other: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The same as JSON (docs/reference/json.md)."""
        whole = {name: _plain(value) for name, value in vars(self).items()}
        whole["inputs"] = [{"object": path, "checksum": checksum} for path, checksum in self.inputs.items()]
        return whole


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.value if isinstance(value, State) else value
    if isinstance(value, tuple):
        return list(value)
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, dict) else value


def recorded(catalog: Catalog, collection: str, attributes: Attributes) -> tuple[Avu, ...]:
    """The AVUs of a task's collection from which :func:`status_of` makes a status.

    Where people added more AVUs than are read, only those of the worker's own facts, without parameters, and an
    additional fact that says so.
    """
    entity = Entity(EntityKind.COLLECTION, collection)
    try:
        return catalog.avus(entity)
    except TooLarge as error:
        found = catalog.avus(entity, *map(attributes.named, _FIXED_NAMES))
        return (*found, Avu(attributes.named("left_out"), f"parameters and other facts: it {error.cause}"))


def status_of(collection: str, avus: Iterable[Avu], attributes: Attributes, now: float) -> TaskStatus | None:
    """The status of the task whose collection has these AVUs; None when they name no valid state.

    The owner of a task can write its AVUs, so malformed values are ignored.
    """
    found = _facts(avus, attributes)
    states = found.pop("state", [])
    state = furthest([avu.value for avu in states])
    if state is None:
        return None
    times = {one.value: moment for one in State if (moment := _first(found, f"{one.value.lower()}_at"))}
    commands = sorted(found.pop("command", []), key=lambda avu: int(avu.units) if avu.units.isdecimal() else 0)
    parameters = [name for name in found if name.startswith(_PARAMETER)]
    texts: dict[str, Any] = {name: _first(found, name) for name in _TEXTS}
    return TaskStatus(
        task_id=collection.rpartition("/")[2],
        collection=collection,
        state=state,
        resource=resource_of(states[0].units),
        times=times,
        seconds=_seconds(times, state, now),
        commands=tuple(avu.value for avu in commands),
        inputs={avu.value: "" if avu.units == "unknown" else avu.units for avu in found.pop("input", [])},
        staged=tuple(avu.value for avu in found.pop("staged", [])),
        after=tuple(avu.value for avu in found.pop("after", [])),
        parameters={name[len(_PARAMETER) :]: _json(_first(found, name)) for name in parameters},
        attempts=_number(_first(found, "attempt")),
        exit_status=_number(_first(found, "exit_status")),
        error_code=_number(_first(found, "error_code")),
        cancel_asked_by=_first(found, "cancel"),
        waiting_for=_first(found, HELD_UP),
        log_bytes_missing={
            name: count for name in STREAMS if (count := _number(_first(found, f"{name}_bytes_missing")) or 0) > 0
        },
        **texts,
        other={name: tuple(avu.value for avu in avus) for name, avus in found.items() if name not in _IN_OTHER_FIELDS},
    )


_TEXTS = (
    "owner",
    "name",
    "role",
    "choice",
    "reason_code",
    "reason",
    "runs",
    "image",
    "image_digest",
    "engine",
    "version",
    "moved_to",
)
_IN_OTHER_FIELDS = ("task_id", "resource", "started_at", *(f"{phase}_seconds" for phase in _PHASES.values()))
_FIXED_NAMES = (
    "state",
    *(f"{state.value.lower()}_at" for state in State),
    *("command", "input", "staged", "after", "attempt", "exit_status", "error_code", "cancel", HELD_UP),
    *(f"{stream}_bytes_missing" for stream in STREAMS),
    *_TEXTS,
    *_IN_OTHER_FIELDS,
)


def _facts(avus: Iterable[Avu], attributes: Attributes) -> dict[str, list[Avu]]:
    """The task's facts by their short names, without the prefix."""
    prefix = attributes.named("")
    found: defaultdict[str, list[Avu]] = defaultdict(list)
    for avu in avus:
        if avu.attribute.startswith(prefix):
            found[avu.attribute[len(prefix) :]].append(avu)
    return dict(found)


def _first(found: dict[str, list[Avu]], name: str) -> str:
    """Take a fact out of ``found`` and return its value; '' when there is none."""
    avus = found.pop(name, [])
    return avus[0].value if avus else ""


def _number(text: str) -> int | None:
    return int(text) if _INTEGER.fullmatch(text) else None


def _json(text: str) -> Any:
    try:
        return read_json(text.encode("utf-8", "surrogatepass"), "parameter")
    except InvalidRequest:  # a long value was cut when it was recorded, or a user wrote something else
        return text


def _seconds(times: Mapping[str, str], state: State, now: float) -> dict[str, float]:
    """How long each phase took. A phase ends when the next recorded phase begins."""
    begun = sorted((when, name) for name, text in times.items() if (when := unix_time(text)) is not None)
    ends = [when for when, _ in begun[1:]] + [now]
    took = {}
    for (start, name), end in zip(begun, ends):
        if State(name) in _PHASES and (end is not now or State(name) is state):
            took[_PHASES[State(name)]] = round(max(0.0, end - start), 3)
    return took


def unix_time(timestamp: str) -> float | None:
    """The Unix seconds of a time such as ``2026-11-21T09:30:00.125Z``; None for any other text."""
    found = _TIMESTAMP.fullmatch(timestamp)
    if found is None:
        return None
    try:
        whole = datetime.fromisoformat(f"{found[1]}+00:00")  # ten times as fast as strptime
    except ValueError:
        return None
    return whole.timestamp() + float(found[2] or 0)
