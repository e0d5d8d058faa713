"""SIGNAL_PROCESSING: run the digital filter notebook on one signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compute_to_data.coordination.role_choice import FILTER_NOTEBOOK
from compute_to_data.errors import InvalidRequest
from compute_to_data.roles.notebook import NotebookRole
from compute_to_data.task import OUTPUTS, Task


class SignalProcessing(NotebookRole):
    """Low-pass filters the whole input, unless ``notebook.parameters`` say otherwise."""

    default_notebook = FILTER_NOTEBOOK

    def parameters(self, task: Task, inputs: tuple[str, ...]) -> Mapping[str, Any]:
        """The file to read, the file to write, and that the whole signal is meant, not the block of 2019."""
        if len(inputs) != 1:
            raise InvalidRequest("/inputs", f"found {len(inputs)} data objects, expected exactly 1 signal")
        return {"input_file": inputs[0], "output_file": f"{OUTPUTS}/{filtered(inputs)}", "whole_signal": True}

    def own_outputs(self, task: Task, inputs: tuple[str, ...]) -> tuple[str, ...]:
        """The filtered signal, unless the task chooses the output itself."""
        elsewhere = task.notebook is not None and "output_file" in task.notebook.parameters
        return () if elsewhere else (filtered(inputs),)


def filtered(inputs: tuple[str, ...]) -> str:
    """The output's name for an input: ``lowpass_filtered_<name>``."""
    return f"lowpass_filtered_{inputs[0].rpartition('/')[2]}"
