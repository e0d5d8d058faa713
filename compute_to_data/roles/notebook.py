"""Run a Jupyter notebook with injected parameters. Its report is an output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compute_to_data.errors import ConfigurationError
from compute_to_data.model import name_of
from compute_to_data.pipeline.hooks import Program
from compute_to_data.roles.container import Container
from compute_to_data.task import NOTEBOOK_PLACE, OUTPUTS, Notebook, Task

RUNNER = "run-notebook"
"""The program that a notebook image must have on its PATH. ``run-notebook NOTEBOOK --parameters JSON
--report PATH`` executes a notebook and writes its report, or writes an error to standard error. For a notebook in a
data object there is also ``--executed PATH``, for the executed notebook."""


class NotebookRole(Container):
    """Runs the task's notebook, or the role's. A task with a process runs its process instead.

    Settings: ``image``, ``notebook`` (a name inside the image), ``report`` (a name under
    ``/outputs``). A task may override each of them; the site must allow its image.
    """

    default_notebook = ""
    """The name of the role's own notebook when the settings name none."""

    def parameters(self, task: Task, inputs: tuple[str, ...]) -> Mapping[str, Any]:
        """Parameters for the role's own notebook; the task's own parameters override them. The template
        calls it when the inputs are staged. By default ``inputs``, their paths, or no parameter without
        inputs."""
        return {"inputs": list(inputs)} if inputs else {}

    def runs_own(self, task: Task) -> bool:
        """Whether the task runs the role's own notebook, if perhaps from another image. The role's
        parameters and outputs are those of its own notebook only."""
        asked = task.notebook or Notebook()
        return task.process is None and not asked.data_object and asked.name in ("", self._own_name)

    def notebook(self, task: Task) -> Notebook:
        """The notebook with its image, its name or data object, and the report's name. ConfigurationError
        when neither the task nor the role's settings name them."""
        asked = task.notebook or Notebook()
        image = asked.image or self._required("image", "image", str(self.settings.get("image", "")))
        name = name_of(asked.data_object) or asked.name or self._required("name", "notebook", self._own_name)
        own_report = str(self.settings.get("report", "")) if self.runs_own(task) else ""
        return replace(asked, name=name, image=image, report=asked.report or own_report or f"{_stem(name)}.html")

    @property
    def _own_name(self) -> str:
        return str(self.settings.get("notebook", self.default_notebook))

    def _required(self, name: str, setting: str, value: str) -> str:
        if not value:
            raise ConfigurationError(
                f"role {self.name}",
                f"the task names no notebook.{name} and the role has no default",
                f"Name it in the task, or set `{setting}` for the role in the configuration",
            )
        return value

    def program(self, task: Task, inputs: tuple[str, ...], supplied: Mapping[str, str]) -> Program:
        """The image's notebook runner, with the parameters as one JSON argument."""
        if task.process is not None:
            return super().program(task, inputs, supplied)
        notebook, data = self.notebook(task), _without_notebook(inputs)
        parameters = {**(self.parameters(task, data) if self.runs_own(task) else {}), **notebook.parameters}
        written = json.dumps(parameters, ensure_ascii=False, sort_keys=True)
        where = notebook.reference.path if notebook.reference else notebook.name
        command = [RUNNER, where, "--parameters", written, "--report", f"{OUTPUTS}/{notebook.report}"]
        if notebook.data_object:
            command += ["--executed", f"{OUTPUTS}/{executed_name(notebook)}"]
        return Program.of(notebook.image, (command,), working_directory=OUTPUTS)

    def expected_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """The report, and the executed notebook when the notebook is a data object."""
        if task.process is not None:
            return super().expected_outputs(task, inputs)
        notebook = self.notebook(task)
        own = self.own_outputs(task, _without_notebook(inputs)) if self.runs_own(task) else ()
        return (*own, notebook.report, *((executed_name(notebook),) if notebook.data_object else ()))

    def own_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """What the role's own notebook leaves besides its report. ``inputs`` are as for :meth:`parameters`.
        Default: nothing that the role knows."""
        return ()


def executed_name(notebook: Notebook) -> str:
    """The output that holds the executed notebook."""
    return f"{_stem(name_of(notebook.data_object))}.ipynb"


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0] or name


def _without_notebook(inputs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path for path in inputs if not path.startswith(f"{NOTEBOOK_PLACE}/"))
