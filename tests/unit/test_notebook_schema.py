"""What a notebook takes, inferred from its own cells, beside what papermill's inspection finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compute_to_data.documents.notebook_schema import inferred
from compute_to_data.errors import InvalidRequest

ROOT = Path(__file__).parents[2]
CELL = """\
%matplotlib inline
threshold = 3  # how many
rate: float = 2.5
name: str = "x=y"  # a text
label = None  # type: str the label
flags: "list" = [True, False]
sizes = [128,
         256]  # in pixels
ratio = 1 / 3
pair = (1, 2)
optional: int = None
nothing: int
both = other = 1
where.x = 1
!ls
"""


def notebook(*cells: Any, metadata: Any = None) -> bytes:
    made = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": source, "outputs": [], "execution_count": None}
        for tags, source in cells
    ]
    return json.dumps({"cells": made, "metadata": metadata or {}, "nbformat": 4, "nbformat_minor": 4}).encode()


def properties(content: bytes) -> dict[str, Any]:
    found = inferred(content, "n.ipynb")
    assert found["additionalProperties"] is False
    return dict(found["properties"])


def test_names_types_defaults_and_comments() -> None:
    assert properties(notebook((["parameters"], CELL), ([], "hidden = 1"))) == {
        "threshold": {"type": "integer", "default": 3, "description": "how many"},
        "rate": {"type": "number", "default": 2.5},
        "name": {"type": "string", "default": "x=y", "description": "a text"},
        "label": {"description": "the label"},
        "flags": {"type": "array", "default": [True, False]},
        "sizes": {"type": "array", "default": [128, 256], "description": "in pixels"},
        "ratio": {},
        "pair": {"default": [1, 2]},
        "optional": {},
        "both": {"type": "integer", "default": 1},
        "other": {"type": "integer", "default": 1},
    }


@pytest.mark.parametrize(
    "source",
    [
        "threshold = 3  # how many",
        "rate: float = 2.5\nname: str = 'a'  # a text\n",
        "x = 1  # type: int the x\n\n# a comment\ny: 'int' = 2",
        "sizes = [\n    128,\n    256\n]  # in pixels\nlast = True",
    ],
)
def test_it_finds_what_papermill_finds(source: str, tmp_path: Path) -> None:
    inspection = pytest.importorskip("papermill.inspection")
    path = tmp_path / "n.ipynb"
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    path.write_bytes(notebook((["parameters"], source), metadata=kernel))
    theirs = inspection.inspect_notebook(str(path))
    ours = properties(path.read_bytes())
    assert list(ours) == list(theirs)
    types = {"int": "integer", "float": "number", "str": "string"}
    for name, found in theirs.items():
        assert ours[name].get("description", "") == found["help"]
        assert found["inferred_type_name"] in ("None", *types)
        if found["inferred_type_name"] != "None":
            assert ours[name]["type"] == types[found["inferred_type_name"]]
        assert ours[name]["default"] == json.loads(found["default"].replace("'", '"').replace("True", "true"))


def test_the_notebooks_of_this_repository() -> None:
    threshold = (ROOT / "examples" / "threshold.ipynb").read_bytes()
    assert properties(threshold) == {"threshold": {"type": "integer", "default": 3}}
    lpfilter = (ROOT / "containers" / "jupyter-digital-filter" / "lpfilter.ipynb").read_bytes()
    assert "cutoff_frequency_index" in properties(lpfilter)


def test_what_takes_nothing_and_what_is_not_known() -> None:
    assert properties(notebook(([], "a = 1"))) == {}
    assert inferred(notebook((["parameters"], "a = = 1")), "n") == {}
    assert inferred(notebook((["parameters"], "a <- 1"), metadata={"kernelspec": {"language": "R"}}), "n") == {}
    assert properties(notebook((["parameters"], ["a = 1\n", "b = 2\n"]))) == {
        "a": {"type": "integer", "default": 1},
        "b": {"type": "integer", "default": 2},
    }


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"cells": 1}', b"[" * 100_000])
def test_what_is_no_notebook_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"n\.ipynb is not a notebook|n\.ipynb"):
        inferred(content, "n.ipynb")


def test_cells_that_are_attacks_end() -> None:
    deep = "a = " + "(" * 5_000 + ")" * 5_000
    assert inferred(notebook((["parameters"], deep)), "n") == {}
    assert properties(notebook((["parameters"], "a = 10 ** 10 ** 10\nb = '\\ud800'"))) == {
        "a": {},
        "b": {"type": "string", "default": "\ud800"},
    }
    for broken in ({"cells": [1, None, {"metadata": 3}]}, {"cells": [], "metadata": []}):
        assert properties(json.dumps(broken).encode()) == {}
