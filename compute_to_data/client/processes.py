"""Stored process definitions: what to run, kept in the zone under a name, for tasks to use.

A definition is the data object ``<project>/processes/<name>.json``, with its name in an AVU. It may be moved: it is
found by the AVU, and by the catalog's id of the data object. Its owner shares it by its access list: a
user who may read the data object may use it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets as random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compute_to_data.client import notebook_parameters
from compute_to_data.client.given import text_of
from compute_to_data.documents import parameter_check, process_definition
from compute_to_data.errors import AccessDenied, AlreadyExists, Code, InvalidRequest, NotFound, ZoneError
from compute_to_data.model import Avu, DataObject, Entity, EntityKind, Query
from compute_to_data.records import definition
from compute_to_data.records.task import timestamp

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

PROCESSES = "processes"
"""The collection of a project that holds its process definitions."""

MOST_SHARED = 200
"""How many definitions of others a listing reads."""


@dataclass(frozen=True)
class Process:
    """A stored definition. ``id``: the catalog's id of its data object, which it keeps when it is renamed. ``owner``:
    ``name#zone``. ``modified``: in ISO 8601, UTC. ``document``: the definition itself; {} when it is not valid (any
    more), and then ``problem`` says why."""

    id: int
    name: str
    data_object: str
    owner: str
    modified: str
    checksum: str
    document: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def create(
    workbench: Workbench, document: Mapping[str, Any] | bytes, name: str = "", *, needs_image: bool = True
) -> Process:
    """Store a definition, a document or its JSON text. Without ``name`` it gets one that begins as its program's.
    With ``needs_image=False`` it may leave the image to the requests that use it, as those of process registries do.

    InvalidRequest, which lists all that is wrong in the definition. AlreadyExists for a name that one of the user's own
    definitions has.

    >>> from compute_to_data.client import processes
    >>> with c2d.connect() as session:
    ...     made = processes.create(session, {"image": image, "exec": "tr", "argv": ["-d", "x"]}, "without-x")
    ...     print(made.name, made.data_object, processes.find(session, str(made.id)) == made.data_object)
    ...     print([one.name for one in processes.listed(session)])
    ...     _ = processes.delete(session, "without-x")
    without-x /tempZone/home/alice/processes/without-x.json True
    ['without-x']
    """
    content = _content(document)
    chosen = definition.checked_name(name or _name_for(content))
    checked(content, f"process definition {chosen}", needs_image=needs_image)
    if definition.own(workbench.catalog, workbench.attributes, chosen):
        raise _taken(chosen)
    collection = f"{workbench.project}/{PROCESSES}"
    workbench.catalog.create_collection(collection, parents=True)
    path = f"{collection}/{chosen}.json"
    try:
        workbench.catalog.write(path, content)
    except AlreadyExists as error:
        remedy = "Choose another name, or remove the data object"
        raise AlreadyExists(path, "exists already, and is no process definition", remedy, code=error.code) from None
    named = Avu(definition.attribute(workbench.attributes), chosen)
    try:
        workbench.catalog.annotate(Entity(EntityKind.DATA_OBJECT, path), add=[named])
    except BaseException:
        workbench.catalog.remove(path)
        raise
    return describe(workbench, path)


def _taken(name: str) -> AlreadyExists:
    remedy = f"Choose another name, or replace it: c2d process update {name} FILE"
    return AlreadyExists(
        f"process definition {name}", "exists already", remedy, code=Code.CATALOG_ALREADY_HAS_ITEM_BY_THAT_NAME
    )


def _content(document: Mapping[str, Any] | bytes) -> bytes:
    if isinstance(document, bytes):
        return document
    try:
        return f"{json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode()
    except (TypeError, ValueError, RecursionError) as error:  # a surrogate, too
        raise InvalidRequest("process definition", f"cannot be written as JSON: {error}") from None


def _name_for(content: bytes) -> str:
    """A new name that begins with the name of the definition's program."""
    document = definition.parsed(content, "process definition")
    program = runs(document).rpartition("/")[2].removesuffix(".ipynb")
    return f"{definition.as_name(program)[:40]}-{random.token_hex(3)}"


def runs(document: Mapping[str, Any]) -> str:
    """The program, or the notebook, of a definition."""
    if process_definition.runs_notebook(document):
        notebook = document["notebook"]
        return str(notebook.get("data_object") or notebook.get("name") or "notebook")
    return str(document["exec"] if "exec" in document else document["commands"][0][0])


def schema(workbench: Workbench, process: Process) -> Mapping[str, Any]:
    """What a task may give the definition, as a JSON Schema: its own, or for a notebook without one what the
    notebook's cells say; {} when neither is known."""
    document = process.document
    if process_definition.runs_notebook(document) and "parameters" not in document:
        path = document["notebook"].get("data_object", "")
        return notebook_parameters.schema_of(workbench, path) if path else {}
    found: Mapping[str, Any] = document.get("parameters", {})
    return found


def checked(content: bytes, subject: str, *, needs_image: bool = True) -> dict[str, Any]:
    """The document of a definition. InvalidRequest, which lists all problems, when it is not valid; of the schema of
    its parameters, too, where the package jsonschema is installed."""
    document = definition.parsed(content, subject, needs_image=needs_image)
    with contextlib.suppress(parameter_check.LacksLibrary):  # the worker checks the values
        parameter_check.check_schema(document.get("parameters", {}), f"{subject}#/parameters")
    return document


def listed(workbench: Workbench) -> list[Process]:
    """The definitions of the person, by name, and the 200 newest ones of others that they may read."""
    found = []
    for path in (*own_paths(workbench), *_shared(workbench)):
        try:
            found.append(describe(workbench, path))
        except NotFound:
            continue  # it was removed meanwhile
    me = str(workbench.user)
    return sorted(found, key=lambda one: (one.owner != me, one.name, one.data_object))


def paths(workbench: Workbench, most: int) -> tuple[str, ...]:
    """The logical paths of the definitions that the person may read, oldest first: the ``most`` newest ones, and all of
    their own."""
    newest = _newest(workbench, most)
    shown = set(newest)
    return (*(one for one in own_paths(workbench) if one not in shown), *reversed(newest))


def own_paths(workbench: Workbench) -> tuple[str, ...]:
    """The logical paths of the person's own definitions, oldest first."""
    return definition.own(workbench.catalog, workbench.attributes)


def _newest(workbench: Workbench, most: int) -> tuple[str, ...]:
    attribute = definition.attribute(workbench.attributes)
    return workbench.catalog.find(Query(EntityKind.DATA_OBJECT, attribute, newest_first=True, limit=most))


def _shared(workbench: Workbench) -> list[str]:
    """The newest definitions of others: anybody can share any number of them."""
    own = set(own_paths(workbench))
    return [one for one in _newest(workbench, MOST_SHARED + len(own)) if one not in own][:MOST_SHARED]


def find(workbench: Workbench, given: str | os.PathLike[str]) -> str:
    """The logical path of a definition, given its name, its id or its logical path.

    A name stands for one of the person's own. InvalidRequest, NotFound, Refused.
    """
    given = text_of(given, "process definition")
    if not given.isascii() or not given.isdigit():
        path = definition.find(workbench.catalog, workbench.attributes, given)
    else:
        try:
            path = workbench.catalog.object_with_id(int(given[:20]))
        except NotFound as error:
            raise _missing(given, error) from None
    if not _is_definition(workbench, path):
        raise _missing(given)
    return path


def _missing(given: str, error: ZoneError | None = None) -> NotFound:
    cause, remedy = "does not exist, or you may not read it", "List those that you may use: c2d process list"
    code = error.code if error else Code.USER_FILE_DOES_NOT_EXIST
    return NotFound(f"process definition {given}", cause, remedy, code=code)


def _is_definition(workbench: Workbench, path: str) -> bool:
    entity = Entity(EntityKind.DATA_OBJECT, path)
    try:
        is_object = isinstance(workbench.catalog.stat(path), DataObject)
    except NotFound:
        return False
    return is_object and bool(workbench.catalog.avus(entity, definition.attribute(workbench.attributes)))


def describe(workbench: Workbench, given: str) -> Process:
    """A definition with its document; also one that is not valid any more. Errors as for :func:`find`."""
    path = find(workbench, given)
    found = workbench.catalog.stat(path)
    if not isinstance(found, DataObject):
        raise _missing(given)
    document: Mapping[str, Any] = {}
    problem, checksum = "", ""
    try:
        content = definition.content_of(workbench.catalog, path)
        checksum = definition.checksum_of(content)
        document = definition.parsed(content, path)
    except InvalidRequest as error:
        problem = str(error)
    return Process(
        id=workbench.catalog.object_id(path),
        name=definition.name_at(workbench.catalog, workbench.attributes, path),
        data_object=path,
        owner=str(found.owner),
        modified=timestamp(found.modified),
        checksum=checksum,
        document=document,
        problem=problem,
    )


def update(
    workbench: Workbench, given: str, document: Mapping[str, Any] | bytes, *, needs_image: bool = True
) -> Process:
    """Replace a definition's document. It keeps its name and its id. Errors as for :func:`create` and :func:`find`."""
    path = find(workbench, given)
    content = _content(document)
    checked(content, f"process definition {given}", needs_image=needs_image)
    _changing(path, lambda: workbench.catalog.write(path, content, force=True))
    return describe(workbench, path)


def delete(workbench: Workbench, given: str) -> str:
    """Delete a definition. Tasks that it ran have their own copy. Returns its logical path."""
    path = find(workbench, given)
    _changing(path, lambda: workbench.catalog.remove(path))
    return path


def _changing(path: str, change: Callable[[], None]) -> None:
    try:
        change()
    except AccessDenied as error:
        remedy = "Only its owner, and those who may write there, can change it. Store a copy of your own"
        raise AccessDenied(f"process definition {path}", error.cause, remedy, code=error.code) from None
