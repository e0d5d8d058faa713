"""The report of a notebook: its text outputs as a terminal would show them, and one HTML page of it all."""

# mypy: disable-error-code="import-untyped,import-not-found,no-untyped-call,misc"

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

MOST_TEXT = 1024 * 1024
"""Characters of one text output that a notebook and its report hold. More would make a page that no browser shows."""

TEMPLATE = """
{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
"""
"""nbconvert's page without the scripts that it would fetch from the network."""

ATTACHMENT = re.compile(r"attachment:([^)\s\"'>]+)")
WIDGETS = "application/vnd.jupyter.widget-state+json"


def exporter() -> Any:
    """The exporter that makes one self-contained HTML page from an executed notebook."""
    from nbconvert.exporters.html import HTMLExporter

    made = HTMLExporter(raw_template=TEMPLATE, embed_images=True)
    made.log.setLevel("ERROR")  # it warns of images without a description
    _ = made.template  # compiled here, while the kernel starts
    return made


def page(made: Any, notebook: Any) -> tuple[str, str]:
    """The page, and a note when the exporter could only show a plain copy of the notebook ('' otherwise).

    The notebook itself stays as it is. Raises what the exporter raises for the plain copy.
    """
    shown = _exportable(notebook)
    try:
        return str(made.from_notebook_node(shown)[0]), ""
    except Exception as error:  # noqa: BLE001 - metadata of all kinds make the exporter raise anything
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        note = f"the report shows a plain copy of the notebook, since the exporter failed ({cause})"
        return str(made.from_notebook_node(_plain(shown))[0]), note


def _exportable(notebook: Any) -> Any:
    """A copy without what the exporter refuses: states of widgets that are not there, missing attachments."""
    copy = deepcopy(notebook)
    widgets = copy.metadata.get("widgets")
    if widgets is not None and not (isinstance(widgets, dict) and "state" in (widgets.get(WIDGETS) or {})):
        del copy.metadata["widgets"]
    for cell in copy.cells:
        if cell.cell_type == "markdown":
            _remove_missing_attachments(cell)
    return copy


def _remove_missing_attachments(cell: Any) -> None:
    there = cell.get("attachments") or {}
    cell.source = ATTACHMENT.sub(lambda found: found[0] if there.get(found[1]) else f"#{found[1]}", cell.source)


def _plain(notebook: Any) -> Any:
    """A copy with the sources, text outputs, images and errors only."""
    from nbformat import NotebookNode

    copy = deepcopy(notebook)
    copy.metadata = NotebookNode(title=copy.metadata.get("title", "notebook"))
    for cell in copy.cells:
        cell.metadata = NotebookNode()
        cell.pop("attachments", None)
        if cell.cell_type == "markdown":
            cell.cell_type = "raw"
        for output in cell.get("outputs", []):
            if "data" in output:
                kinds = ("text/plain", "image/png", "image/jpeg")
                output.data = NotebookNode({kind: output.data[kind] for kind in kinds if kind in output.data})
                output.metadata = NotebookNode()
    return copy


class Texts:
    """Keeps the text outputs of a notebook bounded while it runs: of each, its first and last half.

    Without this, a cell that prints a gigabyte would need several in this process.
    """

    def __init__(self, most: int = MOST_TEXT) -> None:
        self._half = most // 2
        self._missing: dict[tuple[int, int], int] = {}

    def add(self, outputs: list[Any], cell: int) -> None:
        """Join the last output to the one before it, when both are text of one stream."""
        if len(outputs) < 2 or not _same_stream(*outputs[-2:]):
            return
        outputs[-2].text += outputs.pop().text
        if len(outputs[-1].text) > 3 * self._half:
            self._shorten(outputs[-1], (cell, len(outputs)))

    def finish(self, notebook: Any) -> None:
        """Bring each text output into its final form, with a line in the place of what is missing."""
        for number, cell in enumerate(notebook.cells):
            for position, output in enumerate(cell.get("outputs", []), 1):
                if output.output_type == "stream":
                    self._finish(output, (number, position))

    def _finish(self, output: Any, place: tuple[int, int]) -> None:
        self._shorten(output, place)
        missing = self._missing.get(place)
        if missing:
            said = f"\n[{missing} characters are missing here; the log of the run has them]\n"
            output.text = f"{output.text[: self._half]}{said}{output.text[self._half :]}"

    def _shorten(self, output: Any, place: tuple[int, int]) -> None:
        text = overwritten(output.text)
        too_many = len(text) - 2 * self._half
        if too_many > 0:
            self._missing[place] = self._missing.get(place, 0) + too_many
            text = f"{text[: self._half]}{text[-self._half :]}"
        output.text = text


def _same_stream(one: Any, other: Any) -> bool:
    return one.output_type == other.output_type == "stream" and one.name == other.name


def overwritten(text: str) -> str:
    """The text as a terminal shows it: what follows a carriage return overwrites the line.

    nbconvert has a pattern for this, but it needs quadratic time for long lines.
    """
    if "\r" not in text:
        return text
    return "\n".join(
        line.rstrip("\r").rpartition("\r")[2] + ("\r" if line.endswith("\r") else "") for line in text.split("\n")
    )
