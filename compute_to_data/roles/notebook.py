"""Run a Jupyter notebook with injected parameters. Its report is an output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from compute_to_data.errors import ConfigurationError
from compute_to_data.inputs.references import OUTPUTS
from compute_to_data.pipeline.hooks import Program
from compute_to_data.roles.container import Container
from compute_to_data.task import Notebook, Task

RUNNER = "run-notebook"
"""The program that a notebook image must have on its PATH. ``run-notebook NOTEBOOK --parameters JSON
--report PATH`` executes a notebook and writes its report, or writes an error to standard error."""


class NotebookRole(Container):
    """Runs the task's notebook, or the role's. A task with a process runs its process instead.

    Settings: ``image``, ``notebook`` (a name inside the image), ``report`` (a name under
    ``/outputs``). A task may override each of them; the site must allow its image.
    """

    def parameters(self, task: Task, inputs: tuple[str, ...]) -> Mapping[str, Any]:
        """The notebook's parameters; the task's own parameters override them. The template calls it
        when the inputs are staged. By default ``inputs``, their paths, or no parameter without inputs."""
        return {"inputs": list(inputs)} if inputs else {}

    def notebook(self, task: Task) -> Notebook:
        """The notebook, its image and the report's name. ConfigurationError when neither the task nor
        the role's settings name them."""
        asked = task.notebook or Notebook()
        image = asked.image or self._setting("image")
        name = asked.name or self._setting("notebook")
        stem = name.rpartition("/")[2].rpartition(".")[0] or name
        report = asked.report or str(self.settings.get("report", "")) or f"{stem}.html"
        return Notebook(name, image, asked.parameters, report)

    def _setting(self, name: str) -> str:
        value = str(self.settings.get(name, ""))
        if not value:
            raise ConfigurationError(
                f"role {self.name}",
                f"the task names no notebook.{name if name == 'image' else 'name'} and the role has no default",
                f"Name it in the task, or set `{name}` for the role in the configuration",
            )
        return value

    def program(self, task: Task, inputs: tuple[str, ...], supplied: Mapping[str, str]) -> Program:
        """The image's notebook runner, with the parameters as one JSON argument."""
        if task.process is not None:
            return super().program(task, inputs, supplied)
        notebook = self.notebook(task)
        parameters = {**self.parameters(task, inputs), **notebook.parameters}
        written = json.dumps(parameters, ensure_ascii=False, sort_keys=True)
        report = f"{OUTPUTS}/{notebook.report}"
        command = (RUNNER, notebook.name, "--parameters", written, "--report", report)
        return Program.of(notebook.image, (command,))

    def expected_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """The report."""
        if task.process is not None:
            return super().expected_outputs(task, inputs)
        return (self.notebook(task).report,)
