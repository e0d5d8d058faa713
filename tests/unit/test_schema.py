"""The validator judges documents as the standard does, explains problems, and resists hostile documents."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
from hypothesis import given, settings
from hypothesis import strategies as st

from compute_to_data.documents import json_text, request, schema
from compute_to_data.documents.schema import Schema, problems, read_json
from compute_to_data.errors import ConfigurationError, InvalidRequest
from compute_to_data.task import LEAST_MEMORY_BYTES

SCHEMAS = {
    path.stem: json.loads(path.read_text("utf-8"))
    for path in sorted((Path(schema.__file__).parent / "schemas").glob("*.json"))
}
EXAMPLES = Path(__file__).parents[1] / "data"
OPEN_OBJECTS = {
    "configuration/roles",
    "configuration/engine",
    "process/parameters",
    "process/parameters/properties",
    "task/parameters",
}
"""Settings of a site's own class, and what users' own JSON Schemas describe, which jsonschema checks."""

REGISTRY: referencing.Registry[Any] = referencing.Registry().with_resources(
    (f"{name}.json", referencing.Resource.from_contents(document)) for name, document in SCHEMAS.items()
)


def standard(document: Any, name: str) -> bool:
    """Whether the reference implementation accepts the document."""
    return jsonschema.Draft202012Validator(SCHEMAS[name], registry=REGISTRY).is_valid(document)


def examples(name: str) -> list[Any]:
    if name == "process":
        return [task["process"] for task in examples("task") if "process" in task]
    folders = {
        "task": "tasks",
        "training_format": "training",
        "kotta_format": "kotta",
        "configuration": "configurations",
        "settings": "settings",
        "session": "sessions",
        "gateway": "gateways",
        "workload": "workloads",
        "notebook_definition": "notebook_definitions",
        "tes_task": "tes",
    }
    folder = folders[name]
    return [json.loads(path.read_text("utf-8")) for path in sorted((EXAMPLES / folder).glob("*.json"))]


def nodes(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema document, with its place."""
    yield place, node
    for keyword in ("items", "not", "propertyNames", "additionalProperties"):
        if isinstance(node.get(keyword), dict):
            yield from nodes(node[keyword], f"{place}/{keyword}")
    for keyword in ("oneOf", "anyOf", "allOf"):
        for part in node.get(keyword, ()):
            yield from nodes(part, f"{place}/{keyword}")
    for keyword in ("properties", "$defs"):
        for key, part in node.get(keyword, {}).items():
            yield from nodes(part, f"{place}/{key}")


ALL_NODES = [pair for name, document in SCHEMAS.items() for pair in nodes(document, name)]


# Our schemas


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_valid(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    schema.load(name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_accepts_its_examples(name: str) -> None:
    assert examples(name)
    for example in examples(name):
        assert problems(example, name) == []
        assert standard(example, name)


def test_patterns_are_anchored_in_every_regular_expression_dialect() -> None:
    patterns = [node["pattern"] for _, node in ALL_NODES if isinstance(node.get("pattern"), str)]
    assert patterns
    for pattern in patterns:
        assert pattern.startswith("^"), pattern
        assert pattern.endswith(r"$(?!\n)"), pattern


def test_every_list_and_every_pattern_is_bounded() -> None:
    for place, node in ALL_NODES:
        if node.get("type") == "array":
            assert "maxItems" in node, place
        if "pattern" in node and isinstance(node["pattern"], str):
            assert "maxLength" in node or "{64}" in node["pattern"], place


def test_every_object_is_closed_except_settings_of_a_sites_own_class_and_schemas_of_users() -> None:
    open_places = set()
    for place, node in ALL_NODES:
        if node.get("type") == "object":
            assert "additionalProperties" in node, place
            if node["additionalProperties"] is True:
                open_places.add(place.replace("/additionalProperties", ""))
    assert open_places == OPEN_OBJECTS


def test_every_property_is_described() -> None:
    for place, node in ALL_NODES:
        for name, part in node.get("properties", {}).items():
            target = part if "description" in part else SCHEMAS["process"]["$defs"][part["$ref"].rpartition("/")[2]]
            assert target["description"].endswith("."), f"{place}/{name}"


# The verdicts of the standard

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([0.0, 1.0, 2.5, -1.0, 1e300, 10**17]),
    st.sampled_from(
        ["", "a", "ten", "/", "/a", "/a/", "/a/../b", "a\n", "/a\n", "STDIN", "file", "A", "x" * 300, "é", "\0"]
    ),
    st.text(max_size=6),
)
junk = st.recursive(
    scalars,
    lambda part: (
        st.lists(part, max_size=3) | st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), part, max_size=3)
    ),
    max_leaves=6,
)


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a document."""
    items = list(document.items()) if isinstance(document, dict) else []
    items += enumerate(document) if isinstance(document, list) else []
    for key, value in items:
        yield document, key
        yield from places(value)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> Any:
    """An example of a schema after up to three changes."""
    document = copy.deepcopy(draw(st.sampled_from(examples(name))))
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(document))
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["replace", "remove", "add", "move"]))
        if change == "replace":
            container[key] = draw(junk)
        elif change == "remove":
            del container[key]
        elif change == "add" and isinstance(container, dict):
            container[draw(st.text(max_size=4))] = draw(junk)
        elif change == "move":
            other, other_key = draw(st.sampled_from(found))
            container[key] = copy.deepcopy(other.get(other_key) if isinstance(other, dict) else draw(junk))
    return document


@pytest.mark.parametrize("name", SCHEMAS)
@settings(max_examples=300)
@given(data=st.data())
def test_damaged_documents_are_judged_as_the_standard_does(name: str, data: st.DataObject) -> None:
    document = data.draw(damaged(name))
    found = problems(document, name)
    assert bool(found) is not standard(document, name), found
    for problem in found:
        assert len(problem.found) <= 60
        assert problem.expected


SMALL_SCHEMAS: list[dict[str, Any]] = [
    {"type": ["integer", "null"]},
    {"type": "number", "minimum": 1, "maximum": 2.5, "exclusiveMinimum": 0},
    {"enum": [1, True, "a", None, [1], {"a": 1.0}]},
    {"const": {"a": [1, False]}},
    {"minLength": 1, "maxLength": 2, "pattern": "^a|b"},
    {"minItems": 1, "maxItems": 2, "uniqueItems": True},
    {"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": {"type": "boolean"}},
    {"minProperties": 1, "maxProperties": 2, "propertyNames": {"maxLength": 1}},
    {"properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "string"}},
    {"properties": {"a": {}}, "additionalProperties": False, "required": ["a"]},
    {"dependentRequired": {"a": ["b", "c"]}},
    {"anyOf": [{"type": "integer"}, {"minItems": 1}]},
    {"oneOf": [{"type": "integer"}, {"type": "number"}, {"type": "array", "items": {"type": "string"}}]},
    {"allOf": [{"type": ["object", "array"]}, {"not": {"required": ["a"]}}]},
    {"not": {"type": "string"}},
    {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"anyOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#/$defs/a"}}]}},
    },
]


@pytest.mark.parametrize("document", SMALL_SCHEMAS, ids=lambda document: "+".join(document))
@settings(max_examples=150)
@given(value=junk)
def test_every_keyword_is_judged_as_the_standard_does(document: dict[str, Any], value: Any) -> None:
    ours = Schema(document)
    assert bool(problems(value, ours)) is not jsonschema.Draft202012Validator(document).is_valid(value)


@pytest.mark.parametrize(
    "value", [1, 1.0, True, False, 0, [1, True], [1, 1.0], [[], {}], [{"a": 1}, {"a": 1.0}], [0, False]]
)
def test_equality_is_that_of_json(value: Any) -> None:
    for document in ({"const": 1}, {"enum": [0, [1, 1]]}, {"uniqueItems": True}):
        assert bool(problems(value, Schema(document))) is not jsonschema.Draft202012Validator(document).is_valid(value)


def test_numbers_that_json_cannot_express_are_not_numbers() -> None:
    assert problems(float("nan"), Schema({"type": "number"}))
    assert problems(float("inf"), Schema({"type": "integer"}))


def test_an_unknown_keyword_is_an_error_when_the_schema_is_loaded() -> None:
    with pytest.raises(ConfigurationError, match=r'#/properties/a: uses "maxContains"'):
        Schema({"properties": {"a": {"maxContains": 1}}})


def test_a_dangling_reference_is_an_error_when_the_schema_is_loaded() -> None:
    with pytest.raises(ConfigurationError, match="refers to #/\\$defs/a, which is not there"):
        Schema({"items": {"$ref": "#/$defs/a"}})


# Sentences


def sentences(document: Any, name: str = "task") -> list[str]:
    return [problem.sentence for problem in problems(document, name)]


def task(**changes: Any) -> dict[str, Any]:
    return {"resource": "dsp_resc", "output_collection": "/tempZone/out", **changes}


def test_a_problem_names_the_place_the_value_and_the_expectation() -> None:
    assert sentences(task(limits={"walltime_seconds": "ten"})) == [
        '/limits/walltime_seconds: found "ten", expected a number above 0'
    ]


def test_a_container_needs_more_memory_than_none() -> None:
    assert sentences(task(limits={"memory_bytes": LEAST_MEMORY_BYTES - 1})) == [
        "/limits/memory_bytes: found 6291455, expected an integer of at least 6291456 (6 MiB)"
    ]
    assert sentences(task(limits={"memory_bytes": LEAST_MEMORY_BYTES})) == []


def test_a_problem_about_an_unknown_property_names_the_closest_and_all_known_ones() -> None:
    assert sentences(task(limits={"cpu": 1})) == [
        '/limits/cpu: found an unknown property "cpu", expected cpus '
        "(or walltime_seconds, memory_bytes, pids, output_bytes, input_bytes)"
    ]
    assert sentences(task(limits={"zzz": 1})) == [
        '/limits/zzz: found an unknown property "zzz", expected one of walltime_seconds, memory_bytes, '
        "cpus, pids, output_bytes, input_bytes"
    ]


def test_a_problem_about_a_missing_property_has_its_pointer() -> None:
    assert sentences({"resource": "r"})[0].startswith("/output_collection: found nothing, expected a logical path")


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ({"objct": "/a"}, '/inputs/0/objct: found an unknown property "objct", expected object (or coll'),
        ({"next_of": 5}, "/inputs/0/next_of: found 5, expected a logical path"),
        ("a", '/inputs/0: found "a", expected a logical path'),
        (5, "/inputs/0: found 5, expected a logical path, a URL, or an object with one of"),
        ({}, "/inputs/0: found an object of 0 properties, expected an object with one of"),
    ],
)
def test_a_problem_in_a_choice_is_about_the_most_likely_branch(item: Any, sentence: str) -> None:
    (said,) = sentences(task(inputs=[item]))
    assert said.startswith(sentence)


def test_a_problem_in_an_adapter_is_about_the_most_likely_branch() -> None:
    stream = {"input_type": "file", "input_parameters": {"file_type": "stream", "stream_name": "STDOUT"}}
    process = {"image": "a", "exec": "b", "input_adapter": stream}
    assert sentences(process, "process") == [
        '/input_adapter/input_parameters/stream_name: found "STDOUT", expected "STDIN"'
    ]


def test_having_both_or_neither_of_two_properties_is_a_problem() -> None:
    both = {"image": "a", "exec": "b", "commands": [["c"]]}
    assert sentences(both, "process") == [
        'document: found an object of 3 properties, expected only one of these: "exec"; "commands"'
    ]
    assert sentences({"image": "a"}, "process") == [
        'document: found an object of 1 property, expected one that has "exec" or "commands"'
    ]
    assert sentences({"output_collection": "/a"}) == [
        'document: found an object of 1 property, expected one that has a "role" or a "resource"'
    ]
    doubled = task(process={"image": "a", "exec": "b"}, notebook={})
    (said,) = sentences(doubled)
    assert said.endswith('expected anything but one that has both a "process" and a "notebook"')


@given(junk | st.text(min_size=50))
def test_what_is_found_is_shown_in_at_most_60_printable_characters(value: Any) -> None:
    for problem in problems(value, Schema({"const": "something else entirely", "type": "string"})):
        assert len(problem.found) <= 60
        assert problem.found.isprintable()


def test_a_secret_in_an_object_or_beyond_60_characters_is_never_shown() -> None:
    document = task(name={"password": "hunter2"}, inputs=["x" * 100 + "hunter2"], limits=["hunter2"])
    environment = {"A" * 200 + "hunter2": "hunter2", "B": ["hunter2"]}
    document["process"] = {"image": "a", "exec": "b", "environment": environment}
    said = "\n".join(sentences(document))
    assert len(problems(document, "task")) == 5
    assert "hunter2" not in said


def test_many_problems_make_one_bounded_message() -> None:
    found = problems(task(inputs=["wrong"] * 1000), "task")
    subject, cause = schema.summary(found)
    assert subject == "/inputs/0"
    assert len(found) == 50
    assert cause.count("/inputs/") == 9
    assert cause.endswith("; and more")
    assert len(cause) < 2700


def test_a_hostile_document_cannot_make_suggestions_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []

    def counted(*arguments: Any) -> list[str]:
        searches.append(arguments)
        return []

    monkeypatch.setattr(difflib, "get_close_matches", counted)
    unknown = {f"unknown{number}": 0 for number in range(10_000)}
    stream = {"input_type": "file", "input_parameters": unknown}
    assert problems(task(**unknown, process={"image": "a", "exec": "b", "input_adapter": stream}), "task")
    environment = {f"A{number}": "".join(f"%(B{other})s" for other in range(100)) for number in range(200)}
    with pytest.raises(InvalidRequest):
        request.parse(task(process={"image": "a", "exec": "b", "environment": environment}))
    assert len(searches) < 300


def test_a_list_beyond_its_bound_is_one_problem() -> None:
    assert sentences(task(inputs=["wrong"] * 100_000)) == [
        "/inputs: found a list of 100000 items, expected a list of 1024 or fewer items"
    ]


def test_pointers_escape_as_rfc_6901_says() -> None:
    assert problems(task(**{"a/b~c": 1}), "task")[0].pointer == "/a~1b~0c"


# Reading


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is not JSON: .* at line 1, column 2"),
        (b'{"a": 1}}', "is not JSON: Extra data at line 1, column 9"),
        (b'{"a": 1,}', "trailing comma at line 1, column 8; JSON allows none before a closing bracket: remove it"),
        (b'{\n "a": [1, 2 ,],\n "b": ",}",\n}', "trailing comma at line 2, column 13 and line 3, column 11"),
        (b"[1,\r\n\r\n]", "trailing comma at line 1, column 3"),
        (b'{"a": 1,,}', "is not JSON: .*line 1, column 9"),
        (b"{'a': 1}", "column 2: strings and names stand in double quotes"),
        (b'{"a": True}', "column 7: write true"),
        (b'{"a": 1 // one\n}', "JSON has no comments"),
        (b'{"a": "b', "is not JSON: Unterminated string starting at line 1, column 7"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', 'has "c" twice in one object'),
        (b"[NaN]", "holds NaN, which is not a JSON number"),
        (b"[-Infinity]", "holds -Infinity, which is not"),
        (b"[1e999]", "holds a number larger"),
        (b"[-1e999]", "holds a number larger"),
        (b"[" + b"9" * 19 + b"]", "an integer of more than 18 digits"),
        (b"[" + b"9" * 100_000 + b"]", "an integer of more than 18 digits"),
        (b'"\xff"', "is not UTF-8: byte 1"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
        (b'["\\ud800"]', "an escape names half a character"),
        (b'{"\\udc00": 1}', "an escape names half a character"),
        (b"[" * 33 + b"]" * 33, "more than 32 levels deep"),
        (b"[" * 500_000, "levels deep|not JSON"),
        (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "holds .* bytes|levels deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "levels deep"),
        (b'"' + b"a" * 1024 * 1024 + b'"', "holds more than 1048576 bytes, the most that it may hold"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_but_one_json_document_is_refused(content: bytes, cause: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^/tempZone/task\.json: .*({cause})") as caught:
        read_json(content, "/tempZone/task.json")
    assert len(str(caught.value)) < 200
    assert caught.value.__cause__ is None


def test_the_caller_names_the_error() -> None:
    with pytest.raises(ConfigurationError):
        read_json(b"{", "file", ConfigurationError)


@given(junk)
def test_json_is_read_as_python_reads_it(value: Any) -> None:
    content = json.dumps(value).encode()
    assert read_json(content, "document") == json.loads(content)


def test_32_levels_are_read() -> None:
    assert read_json(b"[" * 32 + b"1" + b"]" * 32, "document")


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text('{}[]",:\\ue0d1-.n\ufeff', max_size=60).map(str.encode))
def test_any_bytes_raise_only_the_given_error(content: bytes) -> None:
    try:
        value = read_json(content, "document")
    except InvalidRequest:
        return
    assert value == json.loads(content)


def test_a_document_that_contains_itself_is_too_deep() -> None:
    document: list[Any] = []
    document.append(document)
    with pytest.raises(InvalidRequest, match="levels deep"):
        json_text.check_values(document, "document")


def test_keys_that_are_not_strings_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="key that is not a string"):
        json_text.check_values({"a": {1: 2}}, "document")


def test_messages_hold_no_control_characters() -> None:
    found = problems("\x1b[31mred\u202e\x9b", Schema({"const": 1}))
    assert re.fullmatch(r'"\\u001b\[31mred\\u202e\\u009b"', found[0].found)
