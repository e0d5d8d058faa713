"""The pages for a new task: of a stored process definition, of a notebook, or of a command in an image."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from compute_to_data.client import datasets, notebook_parameters, notebooks, processes, site, tasks
from compute_to_data.client.workbench import Workbench
from compute_to_data.documents import process_definition
from compute_to_data.errors import ComputeToDataError, InvalidRequest, Refused
from compute_to_data.gateway import uploads
from compute_to_data.gateway.pages import parameter_form, rendering
from compute_to_data.gateway.pages.forms import Form, form, proven_upload
from compute_to_data.gateway.pages.kept_forms import CHANGE
from compute_to_data.gateway.pages.route import PageRoute
from compute_to_data.gateway.pages.visitor import Visitor, gateway_of, visitor
from compute_to_data.gateway.problems import status_of
from compute_to_data.inputs.naming import DATASET_BEGINNING
from compute_to_data.model import name_of
from compute_to_data.urls.address import is_url

router = APIRouter(route_class=PageRoute, include_in_schema=False, prefix="/new")
_SHOWN_DATASETS = 12
_TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class _Program:
    """What a form runs, as the page shows it. ``action``: the form's own address. ``schema``: of its parameters; {}
    when they are not known, None when it has none. ``images``: those to choose from; None when there is no choice."""

    title: str
    what: str
    action: str
    schema: Mapping[str, Any] | None
    images: list[str] | None
    is_command: bool = False


@router.get("")
def choose(request: Request, known: Visitor = Depends(visitor), input: str = Query("", max_length=1087)) -> Response:
    """What to run."""
    found = processes.listed(known.workbench)
    return rendering.page(
        request,
        "new.html",
        known,
        processes=[(one, processes.runs(one.document)) for one in found if one.document],
        input=input,
        own=str(known.person.user),
    )


@router.post("/upload")
async def upload(request: Request, known: Visitor = Depends(visitor)) -> Response:
    """A notebook of the person's computer; it is kept in the zone, and leads to its form."""

    def kept(sent: uploads.Sent) -> str:
        if len(sent.files) != 1 or not sent.files[0].endswith(".ipynb"):
            raise InvalidRequest("the upload", "is no notebook", "Choose one file whose name ends with .ipynb")
        return notebooks.in_zone(known.workbench, os.path.join(sent.directory, sent.files[0]))[0]

    async with proven_upload(request, "input") as sent:
        path = await anyio.to_thread.run_sync(kept, sent)
    more = f"&input={quote(sent.fields['input'])}" if sent.fields.get("input") else ""
    return RedirectResponse(f"/new/notebook?data_object={quote(path, safe='/')}{more}", 303)


@router.get("/process/{process_id}")
def of_process(
    request: Request, process_id: str, known: Visitor = Depends(visitor), input: str = Query("", max_length=1087)
) -> Response:
    """The form for a stored definition."""
    found = processes.describe(known.workbench, process_id)
    return _form_page(request, known, _of_definition(known.workbench, found), inputs=[input] if input else [])


@router.post("/process/{process_id}")
def run_process(
    request: Request, process_id: str, known: Visitor = Depends(visitor), sent: Form = Depends(form)
) -> Response:
    """Submit a task of a stored definition."""
    bench = known.workbench
    found = processes.describe(bench, process_id)
    schema = processes.schema(bench, found)

    def document() -> dict[str, Any]:
        values = parameter_form.values(schema, sent)
        is_notebook = process_definition.runs_notebook(found.document)
        role = _notebook_role(bench) if is_notebook else "CONTAINER"
        return {"process": found.data_object, **({"parameters": values} if values else {}), "role": role}

    return _submitted(request, known, sent, document, _of_definition(bench, found))


def _of_definition(bench: Workbench, found: processes.Process) -> _Program:
    if not found.document:
        raise InvalidRequest(f"process definition {found.name}", found.problem or "is not valid")
    schema = processes.schema(bench, found)
    return _Program(found.name, processes.runs(found.document), f"/new/process/{found.id}", schema, None)


@router.get("/notebook")
def of_notebook(
    request: Request,
    known: Visitor = Depends(visitor),
    data_object: str = Query("", max_length=1087),
    input: str = Query("", max_length=1087),
) -> Response:
    """The form for a notebook in the zone."""
    path = notebooks.in_zone_only(known.workbench, data_object)
    return _form_page(request, known, _notebook(known.workbench, path), inputs=[input] if input else [])


@router.post("/notebook")
def run_notebook(
    request: Request,
    known: Visitor = Depends(visitor),
    sent: Form = Depends(form),
    data_object: str = Query("", max_length=1087),
) -> Response:
    """Submit a task of a notebook."""
    bench = known.workbench
    path = notebooks.in_zone_only(bench, data_object)
    program = _notebook(bench, path)

    def document() -> dict[str, Any]:
        values = parameter_form.values(program.schema or {}, sent)
        notebook = {"data_object": path, "parameters": values, "image": sent.one("image")}
        return {"notebook": {name: one for name, one in notebook.items() if one}, "role": _notebook_role(bench)}

    return _submitted(request, known, sent, document, program)


def _notebook(bench: Workbench, path: str) -> _Program:
    schema = notebook_parameters.schema_of(bench, path)
    action = f"/new/notebook?data_object={quote(path, safe='/')}"
    return _Program(name_of(path), path, action, schema, _images(bench))


def _notebook_role(bench: Workbench) -> str:
    try:
        return notebooks.role(bench.configuration)
    except Refused as error:
        raise Refused(error.subject, error.cause, "Ask an administrator") from None


@router.get("/command")
def of_command(
    request: Request, known: Visitor = Depends(visitor), input: str = Query("", max_length=1087)
) -> Response:
    """The form for a command in an image."""
    return _form_page(request, known, _command(known.workbench), inputs=[input] if input else [])


@router.post("/command")
def run_command(request: Request, known: Visitor = Depends(visitor), sent: Form = Depends(form)) -> Response:
    """Submit a task of a command."""

    def document() -> dict[str, Any]:
        try:
            words = shlex.split(sent.one("command"))
        except ValueError as error:
            raise InvalidRequest("command", f"is not one that a shell could read: {error}") from None
        if not words or not sent.one("image"):
            raise InvalidRequest("command", "needs an image and the name of a program")
        # As c2d run: ${ on the command line is never one of our references.
        words = [word.replace("${", "$${") for word in words]
        return {"process": {"image": sent.one("image"), "exec": words[0], "argv": words[1:]}, "role": "CONTAINER"}

    return _submitted(request, known, sent, document, _command(known.workbench))


def _command(bench: Workbench) -> _Program:
    return _Program("A command", "", "/new/command", None, _images(bench), is_command=True)


def _images(bench: Workbench) -> list[str]:
    """The images to choose from: those that engines hold, and those that the site names."""
    found = {name for one in site.resources(bench) for name in one.images or ()}
    return sorted(found | {rule["name"] for rule in site.images(bench) if "name" in rule})


def _submitted(
    request: Request, known: Visitor, sent: Form, document: Callable[[], dict[str, Any]], program: _Program
) -> Response:
    """Submit what a form asks for, or show the form again: with what is wrong, or to be changed. ``document`` makes
    the request, apart from its inputs, name and resource."""
    inputs = _inputs(sent)
    if sent.has(CHANGE):
        return _form_page(request, known, program, inputs=inputs, sent=sent)
    try:
        asked = {**document(), "inputs": [_input(known.workbench, text) for text in inputs]}
        more = {name: sent.one(name).strip() for name in ("name", "resource")}
        asked.update({name: value for name, value in more.items() if value})
        if asked.get("resource"):
            asked.pop("role")
        task = tasks.submit(known.workbench, asked)
    except ComputeToDataError as error:
        if status_of(error) >= 500:
            raise
        return _form_page(request, known, program, inputs=inputs, sent=sent, problem=error)
    gateway_of(request).metrics.submitted.inc()
    return RedirectResponse(f"/tasks/{task.id}", 303)


def _inputs(sent: Form) -> list[str]:
    """What was ticked, and what was written, one on a line."""
    written = [line.strip() for line in sent.one("more_inputs").split("\n")]
    return list(dict.fromkeys([*sent.all("input"), *filter(None, written)]))


def _input(bench: Workbench, text: str) -> str:
    """An id or a URL as it is; anything else is a logical path, by default below home."""
    is_name = text.startswith("/") or is_url(text) or DATASET_BEGINNING.fullmatch(text) or _TASK_ID.fullmatch(text)
    return text if is_name else bench.absolute(text)


def _form_page(
    request: Request,
    known: Visitor,
    program: _Program,
    *,
    inputs: list[str],
    sent: Form | None = None,
    problem: ComputeToDataError | None = None,
) -> Response:
    """The form for a program: empty, or with what was ``sent``. ``problem``: why that was not submitted."""
    bench = known.workbench
    offered = [one for one in datasets.listed(bench) if one.is_complete][:_SHOWN_DATASETS]
    ids = {one.dataset for one in offered}
    resources = [one.resource for one in site.resources(bench) if one.engine or one.has_worker]
    return rendering.page(
        request,
        "new_task.html",
        known,
        status_of(problem) if problem else 200,
        title=program.title,
        what=program.what,
        action=program.action,
        fields=parameter_form.fields(program.schema or {}, sent),
        is_command=program.is_command,
        knows_parameters=bool(program.schema) or program.schema is None,
        images=program.images,
        datasets=offered,
        chosen=[one for one in inputs if one in ids],
        more_inputs="\n".join(one for one in inputs if one not in ids),
        resources=resources,
        sent={name: sent.one(name) if sent else "" for name in ("name", "resource", "image", "command")},
        problem=problem,
    )
