"""A notebook of this computer, or of the zone, as the program of a task."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from compute_to_data.client.notebook_parameters import MOST_BYTES
from compute_to_data.coordination.role_choice import RUNS, Asked
from compute_to_data.documents.json_text import read_json
from compute_to_data.errors import AlreadyExists, InvalidRequest, NotFound, Refused, TooLarge
from compute_to_data.model import Collection, name_of

if TYPE_CHECKING:
    from compute_to_data.client.results import Result
    from compute_to_data.client.tasks import TaskHandle
    from compute_to_data.client.workbench import Workbench
    from compute_to_data.configuration import Configuration

FOLDER = "notebooks"
"""The collection below the results in which uploaded notebooks are kept."""


def in_zone(workbench: Workbench, given: str) -> tuple[str, bool]:
    """The logical path of a notebook, and whether it was uploaded just now.

    ``given`` is a file of this computer, else a logical path. The collection of an uploaded notebook is
    named after its content: a task never sees a later version, and the same one is uploaded once.
    """
    if os.path.isfile(given):
        return _upload(workbench, given)
    try:
        return in_zone_only(workbench, given), False
    except NotFound as error:
        logical_path = workbench.absolute(given)
        remedy = "Name a file of this computer, or a data object"
        raise NotFound(given, f"is no file here, and there is no {logical_path}", remedy, code=error.code) from None


def in_zone_only(workbench: Workbench, given: str) -> str:
    """The logical path of a notebook in the zone. A file of that name on this computer does not count.

    NotFound when there is none; InvalidRequest for a collection.
    """
    logical_path = workbench.absolute(given)
    if isinstance(workbench.catalog.stat(logical_path), Collection):
        raise InvalidRequest(logical_path, "is a collection, expected a notebook")
    return logical_path


def _upload(workbench: Workbench, file: str) -> tuple[str, bool]:
    content = _content(file)
    _check(content, file)
    digest = hashlib.sha256(content).hexdigest()[:12]
    collection = f"{workbench.results}/{FOLDER}/{digest}"
    logical_path = f"{collection}/{os.path.basename(file)}"
    workbench.catalog.create_collection(collection, parents=True)
    try:
        workbench.catalog.write(logical_path, content)
    except AlreadyExists:
        if _is_there(workbench, logical_path, content):
            return logical_path, False
        raise
    return logical_path, True


def _is_there(workbench: Workbench, logical_path: str, content: bytes) -> bool:
    try:
        return workbench.catalog.read(logical_path, len(content)) == content
    except TooLarge:
        return False


def _content(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            found = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(file, f"cannot be read: {error.strerror}") from None
    if len(found) > MOST_BYTES:
        raise InvalidRequest(file, f"holds more than {MOST_BYTES} bytes, the most that is read")
    return found


def _check(content: bytes, file: str) -> None:
    """InvalidRequest unless the file looks like a notebook. The runner checks it in full."""
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(file, f"is not a notebook: it is not JSON ({error})") from None
    if not isinstance(document, dict) or not {"cells", "worksheets"} & document.keys():
        raise InvalidRequest(file, "is not a notebook: it has no cells")


def parameters(pairs: Iterable[tuple[str, str]], file: str = "") -> dict[str, Any]:
    """The values of parameters: those in a JSON file, and above them ``name=value`` pairs.

    A value is a number, true, false, null, a list or a quoted text as JSON has them, else the text itself.
    """
    found: dict[str, Any] = {}
    if file:
        found = read_json(_content(file).removeprefix(codecs.BOM_UTF8), file)
        if not isinstance(found, dict):
            raise InvalidRequest(file, 'must hold an object, such as {"threshold": 3}')
    return {**found, **{name: _value(text) for name, text in pairs}}


def _value(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, dict) else value


def role(configuration: Configuration) -> str:
    """The role that runs notebooks: the only one, else the only one that has an image. Refused otherwise."""
    able = [name for name, one in configuration.roles.items() if Asked.NOTEBOOK in RUNS.get(one.implementation, ())]
    ready = [name for name in able if configuration.roles[name].settings.get("image")]
    for names in (able, ready):
        if len(names) == 1:
            return names[0]
    named = f" ({', '.join(able)})" if able else ""
    cause = f"has {'several roles' if able else 'no role'} that can run a notebook{named}"
    raise Refused("the site", cause, "Name one: c2d notebook --role ROLE")


def results(task: TaskHandle, notebook: str) -> list[Result]:
    """The executed notebook and the report of a task, in this order. Of a failed task, those that it kept."""
    from compute_to_data.client import results as task_results
    from compute_to_data.task import FAILED_NAME

    stem = name_of(notebook).rpartition(".")[0] or name_of(notebook)
    places = [f"{place}{stem}{ending}" for ending in (".ipynb", ".html") for place in ("", f"{FAILED_NAME}/")]
    there = {one.name: one for one in task_results.everything(task.catalog, task.collection)}
    return [there[place] for place in places if place in there]
