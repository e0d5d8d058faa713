"""Choosing one of a resource's roles for a request; the table of classes must agree with the classes."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from compute_to_data.configuration import RoleSettings
from compute_to_data.coordination.role_choice import RUNS, Asked, asked_by, candidates, lacking
from compute_to_data.documents import request
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import Notebook, Task

CONTAINER = "compute_to_data.roles.container:Container"
NOTEBOOK = "compute_to_data.roles.notebook:NotebookRole"
SIGNAL = "compute_to_data.roles.signal_processing:SignalProcessing"
IMAGES = "compute_to_data.roles.image_processing:ImageProcessing"

ROLES = {
    "CONTAINER": RoleSettings(CONTAINER),
    "GPU": RoleSettings(CONTAINER, {"image": "cuda"}),
    "SIGNAL": RoleSettings(SIGNAL, {"image": "filter", "notebook": "filter.ipynb"}),
    "PLOT": RoleSettings(NOTEBOOK, {"image": "plot", "notebook": "plot.ipynb"}),
    "BARE": RoleSettings(NOTEBOOK),
    "IMAGES": RoleSettings(IMAGES, {"image": "thumbnails"}),
    "OWN": RoleSettings("example_site.roles:Own", {"image": "own"}),
    "OTHER": RoleSettings("example_site.roles:Other"),
    "LONG_TERM_STORAGE": RoleSettings(CONTAINER),
}
COMMANDS = {"process": {"image": "tools", "exec": "true"}}


def task(**more: Any) -> Task:
    return request.parse({"resource": "r", "inputs": ["/z/a/x"], "output_collection": "/z/out", **more})


def commands(image: str) -> dict[str, Any]:
    return {"process": {"image": image, "exec": "true"}}


def notebook(**more: Any) -> dict[str, Any]:
    return {"notebook": more}


CHOICES = [
    # commands
    ("CONTAINER SIGNAL", COMMANDS, "CONTAINER"),
    ("CONTAINER SIGNAL", commands("filter"), "CONTAINER"),
    ("CONTAINER SIGNAL PLOT IMAGES", COMMANDS, "CONTAINER"),
    ("CONTAINER OWN", COMMANDS, "CONTAINER"),
    ("CONTAINER OWN", commands("own"), "CONTAINER"),
    ("CONTAINER GPU", COMMANDS, "CONTAINER GPU"),
    ("CONTAINER GPU", commands("cuda"), "GPU"),
    ("SIGNAL IMAGES", COMMANDS, "IMAGES SIGNAL"),
    ("SIGNAL IMAGES", commands("filter"), "SIGNAL"),
    ("SIGNAL IMAGES", commands("thumbnails"), "IMAGES"),
    ("SIGNAL BARE", COMMANDS, "BARE SIGNAL"),
    ("SIGNAL OWN", COMMANDS, "OWN SIGNAL"),
    ("OWN OTHER", COMMANDS, "OTHER OWN"),
    ("CONTAINER LONG_TERM_STORAGE", COMMANDS, "CONTAINER"),
    ("SIGNAL LONG_TERM_STORAGE", COMMANDS, "SIGNAL"),
    # a notebook
    ("CONTAINER SIGNAL", notebook(), "SIGNAL"),
    ("CONTAINER SIGNAL", notebook(parameters={"a": 1}), "SIGNAL"),
    ("CONTAINER BARE", notebook(), "BARE"),
    ("SIGNAL IMAGES", notebook(), "SIGNAL"),
    ("SIGNAL PLOT", notebook(), "PLOT SIGNAL"),
    ("SIGNAL PLOT", notebook(image="plot"), "PLOT"),
    ("SIGNAL PLOT", notebook(name="filter.ipynb"), "SIGNAL"),
    ("SIGNAL PLOT", notebook(image="plot", name="filter.ipynb"), "PLOT"),
    ("SIGNAL PLOT", notebook(image="else", name="else.ipynb"), "PLOT SIGNAL"),
    ("SIGNAL BARE", notebook(), "SIGNAL"),
    ("SIGNAL BARE", notebook(image="else"), "SIGNAL"),
    ("SIGNAL BARE", notebook(image="else", name="else.ipynb"), "BARE SIGNAL"),
    ("CONTAINER OWN", notebook(), "OWN"),
    ("SIGNAL OWN", notebook(), "OWN SIGNAL"),
    ("BARE OWN", notebook(), "BARE OWN"),
    ("CONTAINER IMAGES", notebook(), ""),
    # neither
    ("CONTAINER SIGNAL", {}, "SIGNAL"),
    ("CONTAINER IMAGES", {}, "IMAGES"),
    ("SIGNAL IMAGES", {}, "IMAGES SIGNAL"),
    ("BARE IMAGES", {}, "IMAGES"),
    ("SIGNAL BARE", {}, "SIGNAL"),
    ("CONTAINER BARE", {}, "BARE"),
    ("CONTAINER OWN", {}, "OWN"),
    ("IMAGES OWN", {}, "IMAGES OWN"),
    ("CONTAINER GPU", {}, ""),
    ("SIGNAL LONG_TERM_STORAGE", {}, "SIGNAL"),
]


@pytest.mark.parametrize(("borne", "asked", "meant"), CHOICES)
def test_the_request_decides_between_roles(borne: str, asked: dict[str, Any], meant: str) -> None:
    assert candidates({name: ROLES[name] for name in borne.split()}, task(**asked)) == meant.split()


@pytest.mark.parametrize("borne", ["SIGNAL IMAGES", "SIGNAL PLOT", "CONTAINER SIGNAL"])
def test_a_client_that_knows_no_settings_never_chooses_another_role(borne: str) -> None:
    known = {name: ROLES[name] for name in borne.split()}
    offered = {name: RoleSettings(role.implementation) for name, role in known.items()}
    for asked in (COMMANDS, commands("filter"), notebook(), notebook(image="plot"), {}):
        assert set(candidates(known, task(**asked))) <= set(candidates(offered, task(**asked)))


EXAMPLES = {Asked.COMMANDS: COMMANDS, Asked.NOTEBOOK: notebook(image="mine", name="n.ipynb"), Asked.DEFAULT: {}}


@pytest.mark.parametrize("asked", Asked)
@pytest.mark.parametrize("implementation", RUNS)
def test_the_table_agrees_with_the_classes(implementation: str, asked: Asked) -> None:
    module, _, name = implementation.partition(":")
    role = getattr(importlib.import_module(module), name)("R", {"image": "own", "notebook": "own.ipynb"})
    wanted = task(**EXAMPLES[asked])
    assert asked_by(wanted) is asked
    image = {Asked.COMMANDS: "tools", Asked.NOTEBOOK: "mine", Asked.DEFAULT: "own"}[asked]
    try:
        runs = role.program(wanted, ("/inputs/x",), {}).steps[0].image == image
    except InvalidRequest:
        runs = False
    assert runs == (asked in RUNS[implementation])


@pytest.mark.parametrize(
    ("implementation", "settings", "asked", "missing"),
    [
        ("signal_processing:SignalProcessing", {}, {}, ("image",)),
        ("signal_processing:SignalProcessing", {"image": "i"}, {}, ()),
        ("signal_processing:SignalProcessing", {}, {"image": "i"}, ()),
        ("notebook:NotebookRole", {}, {}, ("image", "notebook")),
        ("notebook:NotebookRole", {"image": "i"}, {"data_object": "/z/n.ipynb"}, ()),
        ("image_processing:ImageProcessing", {}, {}, ("image",)),
        ("container:Container", {}, {}, ()),
    ],
)
def test_a_role_lacks_what_neither_its_settings_nor_the_request_name(
    implementation: str, settings: dict[str, Any], asked: dict[str, Any], missing: tuple[str, ...]
) -> None:
    role = RoleSettings(f"compute_to_data.roles.{implementation}", settings)
    assert lacking(role, Notebook(**asked)) == missing
    assert lacking(RoleSettings("ours:Own")) == ()
