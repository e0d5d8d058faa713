"""What a notebook in the zone takes as parameters, and whether the values of a task fit that."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compute_to_data.documents import notebook_schema, parameter_check, parameters
from compute_to_data.documents.schema import first, summary
from compute_to_data.errors import InvalidRequest
from compute_to_data.task import Task

if TYPE_CHECKING:
    from compute_to_data.client.workbench import Workbench

MOST_BYTES = 64 * 1024 * 1024
"""The most bytes of a notebook whose parameters are looked for."""


def schema_of(workbench: Workbench, data_object: str) -> dict[str, Any]:
    """The parameters as a JSON Schema; {} when the notebook does not show them. InvalidRequest when it is none,
    TooLarge, or the zone's error."""
    return notebook_schema.inferred(workbench.catalog.read(data_object, MOST_BYTES), data_object)


def check(workbench: Workbench, task: Task) -> None:
    """InvalidRequest unless the values of the parameters fit the schema of the process or the notebook. For a stored
    definition that has none for its notebook, the notebook says what it takes. Without the package jsonschema here, the
    worker says so."""
    notebook = task.notebook
    if task.definition is not None and notebook is not None and not notebook.schema and notebook.data_object:
        inferred = schema_of(workbench, notebook.data_object)
        task = replace(task, notebook=replace(notebook, schema=inferred))
        wrong = first(parameters.disagreements(inferred, notebook.parameters, "/notebook/parameters", needed=()))
        if inferred and wrong:
            raise InvalidRequest(*summary(wrong))
    with contextlib.suppress(parameter_check.LacksLibrary):
        parameter_check.check_task(task)
