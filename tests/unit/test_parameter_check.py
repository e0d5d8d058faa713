"""Values against a definition's JSON Schema, also against schemas that are attacks."""

from __future__ import annotations

import http.server
import threading
from typing import Any

import pytest

from compute_to_data.documents import parameter_check
from compute_to_data.documents.parameter_check import check_schema, check_values
from compute_to_data.errors import InvalidRequest

SCHEMA = {
    "type": "object",
    "properties": {
        "level": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "shape": {"enum": ["round", "square"]},
        "when": {"type": "string", "pattern": "^[0-9]{4}$"},
        "points": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
    },
    "required": ["shape"],
}


def refusal(schema: dict[str, Any], values: dict[str, Any]) -> str:
    with pytest.raises(InvalidRequest) as caught:
        check_values(schema, values)
    return str(caught.value)


def test_values_that_fit_pass() -> None:
    check_schema(SCHEMA, "#")
    check_values(SCHEMA, {"shape": "round", "level": 9, "when": "2026", "points": [1, 2.5]})
    check_values({}, {})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shape": "round", "level": 10}, "/parameters/level: found 10, expected a value of at most 9"),
        ({"shape": "round", "level": "x"}, '/parameters/level: found "x", expected an integer'),
        ({"shape": "oval"}, '/parameters/shape: found "oval", expected "round" or "square"'),
        ({"shape": "round", "points": [1, "a"]}, '/parameters/points/1: found "a", expected a number'),
        ({"shape": "round", "when": "26"}, '/parameters/when: found "26", expected a value matching ^[0-9]{4}$'),
    ],
)
def test_a_value_that_does_not_fit_is_named(values: dict[str, Any], said: str) -> None:
    assert refusal(SCHEMA, values).startswith(said)


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"properties": {"a": {"type": "intger"}}}, "#/properties/a/type"),
        ({"properties": {"a": {"minimum": "1"}}}, "#/properties/a/minimum"),
        ({"properties": {"a": {"type": "string", "default": 1}}}, "#/a"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "properties": {}}, "#/$schema"),
        ({"type": "array", "properties": {}}, "#/type"),
    ],
)
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_schema(schema, "#")
    assert caught.value.subject == pointer


def test_nothing_is_fetched() -> None:
    """jsonschema alone would ask this server."""
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/secret"
        said = refusal({"properties": {"a": {"$ref": address}}}, {"a": 1})
        server.shutdown()
    assert "a $ref that leads nowhere" in said
    assert asked == []


@pytest.mark.parametrize("reference", ["other.json", "#/$defs/none", "#none", "http://127.0.0.1:1/x", "#/$defs/a/b"])
def test_a_reference_that_its_defaults_do_not_need_is_refused_too(reference: str) -> None:
    """Each task that gave this parameter was refused, long after the definition was made."""
    deep = {"properties": {"a": {"items": {"anyOf": [{"$ref": reference}]}}}, "$defs": {"a": {}}}
    with pytest.raises(InvalidRequest) as caught:
        check_schema(deep, "#/parameters")
    assert caught.value.subject == "#/parameters"
    assert reference in caught.value.cause


def test_references_within_the_schema_are_accepted() -> None:
    data = {"$ref": "no reference, but a value"}
    named = {"$id": "https://c2d.example/s", "$defs": {"a": {"$anchor": "here"}, "b": {"$id": "/b", "type": "string"}}}
    places = ["#/$defs/a", "#here", "https://c2d.example/s#/$defs/a", "/b", "#"]
    parts = {f"p{n}": {"$ref": place, "default": data, "enum": [data]} for n, place in enumerate(places[:3])}
    check_schema({**named, "properties": {**parts, "$ref": {"$ref": "/b"}, "whole": {"$ref": "#"}}}, "#")


def test_a_schema_that_takes_forever_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameter_check, "SECONDS", 2.0)
    pattern = {"properties": {"a": {"pattern": "^(a+)+$"}}}
    levels = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    doubled = {"properties": {"a": {"$ref": "#/$defs/a0"}}, "$defs": {**levels, "a40": {}}}
    for schema in (pattern, doubled):
        assert refusal(schema, {"a": "a" * 40 + "b"}).startswith("/process/parameters: takes more than")


def test_a_schema_that_refers_to_itself_ends() -> None:
    assert "to itself" in refusal({"properties": {"a": {"$ref": "#/properties/a"}}}, {"a": 1})


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "sys.path", [one for one in __import__("sys").path if "site-packages" not in one] + [_package()]
    )
    with pytest.raises(parameter_check.LacksLibrary, match="jsonschema"):
        check_values(SCHEMA, {"shape": "round"})


def _package() -> str:
    """A folder with this package only."""
    import tempfile
    from pathlib import Path

    import compute_to_data

    folder = Path(tempfile.mkdtemp())
    (folder / "compute_to_data").symlink_to(Path(compute_to_data.__file__).parent)
    return str(folder)
