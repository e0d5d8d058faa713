"""The site's configuration: precise errors, and nothing allowed by default."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute_to_data import configuration, site_file
from compute_to_data.configuration import (
    MAXIMUM_IMAGE_CHARACTERS,
    Attributes,
    Configuration,
    EngineSettings,
    ImageRule,
    RoleSettings,
    WorkerSettings,
    ZoneSettings,
)
from compute_to_data.errors import ConfigurationError, Refused
from compute_to_data.job import Image, Limits
from compute_to_data.task import RequestedLimits

EXAMPLES = Path(__file__).parents[1] / "data" / "configurations"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "configuration.md"
SCHEMAS = Path(configuration.__file__).parent / "documents" / "schemas"
SCHEMA = json.loads((SCHEMAS / "configuration.json").read_text("utf-8"))

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64


def parse(**changes: Any) -> Configuration:
    return site_file.parse({"zone": {"kind": "irods"}, **changes}, "site.json")


def complaint(**changes: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(**changes)
    return caught.value


ROLE_SETTINGS = [
    ({"SIGNAL_PROCESSING": {"result_to": "LONG_TERM_STORAGE"}}, "/roles/SIGNAL_PROCESSING/result_to", "results_to"),
    ({"CONTAINER": {"notebook": "a.ipynb"}}, "/roles/CONTAINER/notebook", "unknown property"),
    ({"IMAGE_PROCESSING": {"gps": "no"}}, "/roles/IMAGE_PROCESSING/gps", "true or false"),
    ({"SIGNAL_PROCESSING": {"image": 5}}, "/roles/SIGNAL_PROCESSING/image", "the name of the image"),
    ({"SIGNAL_PROCESSING": {"notebook": ""}}, "/roles/SIGNAL_PROCESSING/notebook", "the name of the notebook"),
    (
        {"PLOT": {"implementation": "compute_to_data.roles.notebook:NotebookRole", "note": "a"}},
        "/roles/PLOT/note",
        "expected notebook",
    ),
]


@pytest.mark.parametrize(("roles", "pointer", "words"), ROLE_SETTINGS)
def test_a_setting_that_a_role_of_the_product_does_not_have_is_refused(
    roles: dict[str, Any], pointer: str, words: str
) -> None:
    error = complaint(roles=roles)
    assert error.subject == f"site.json#{pointer}"
    assert words in error.cause


def test_a_sites_own_role_may_have_any_setting() -> None:
    settings = {"implementation": "example_site.roles:Own", "gps": 5, "note": {"a": [1]}}
    assert parse(roles={"OWN": settings}).roles["OWN"].settings["gps"] == 5


# Reading


def test_the_smallest_configuration_gets_defaults() -> None:
    assert site_file.load(str(EXAMPLES / "minimal.json")) == Configuration(
        zone=ZoneSettings("irods", {"environment_file": "/var/lib/irods/.irods/irods_environment.json"}),
        images=(),
        roles={
            "CONTAINER": RoleSettings("compute_to_data.roles.container:Container"),
            "IMAGE_PROCESSING": RoleSettings("compute_to_data.roles.image_processing:ImageProcessing"),
            "SIGNAL_PROCESSING": RoleSettings("compute_to_data.roles.signal_processing:SignalProcessing"),
        },
        default_limits=Limits(
            3600.0, 2 * 2**30, 1.0, 256, 10 * 2**30, 100_000, 256 * 2**20, 64 * 2**20, 200_000, 100 * 2**30
        ),
        maximum_limits=Limits(
            86400.0, 16 * 2**30, 4.0, 4096, 100 * 2**30, 1_000_000, 4 * 2**30, 2**30, 1_000_000, 2**40
        ),
        attributes=Attributes(),
        engine=EngineSettings("docker", {}),
        worker=WorkerSettings(),
        source=str(EXAMPLES / "minimal.json"),
    )


def test_every_property_is_read() -> None:
    site = site_file.load(str(EXAMPLES / "full.json"))
    assert site.images == (
        ImageRule(name="debian:bookworm"),
        ImageRule(
            name="example.org/filter:1",
            digest="sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ),
        ImageRule(pattern=r"example\.org/teaching/[a-z0-9-]+(:[a-z0-9.]+)?"),
    )
    assert site.roles["SIGNAL_PROCESSING"] == RoleSettings(
        "compute_to_data.roles.signal_processing:SignalProcessing",
        {"image": "example.org/filter:1", "notebook": "lpfilter.ipynb"},
    )
    assert site.roles["THUMBNAILS"] == RoleSettings("example_site.roles:Thumbnails", {"sizes": [128, 256]})
    assert "CONTAINER" in site.roles
    assert (site.default_limits.walltime_seconds, site.default_limits.cpus) == (600.0, 1.0)
    assert (site.maximum_limits.walltime_seconds, site.maximum_limits.cpus) == (7200.0, 2.0)
    assert site.worker == WorkerSettings(4, 2, "/var/lib/irods/compute_to_data", False, 60.0, 2.5, 5.0)


def test_an_unsandboxed_engine_must_be_named() -> None:
    assert parse().engine.name == "docker"
    assert site_file.load(str(EXAMPLES / "laptop.json")).engine == EngineSettings("process", {})
    assert parse(engine={"name": "docker", "socket": "/run/x"}).engine.settings == {"socket": "/run/x"}
    assert complaint(engine={"socket": "/run/x"}).subject == "site.json#/engine/name"


def test_a_built_in_role_can_be_replaced() -> None:
    site = parse(roles={"SIGNAL_PROCESSING": {"implementation": "ours:Filter"}})
    assert site.roles["SIGNAL_PROCESSING"] == RoleSettings("ours:Filter", {})
    assert complaint(roles={"OURS": {}}).subject == "site.json#/roles/OURS/implementation"


def test_values_get_their_declared_types() -> None:
    site = parse(worker={"slots": 3.0, "idle_seconds": 1}, limits={"maximum": {"pids": 300.0, "cpus": 2}})
    assert type(parse(worker={"vault_reserve_bytes": 5.0}).worker.vault_reserve_bytes) is int
    for values in (site.worker, site.maximum_limits, site.default_limits):
        for field in dataclasses.fields(values):
            declared = [one.partition("[")[0] for one in str(field.type).replace("None", "NoneType").split(" | ")]
            assert type(getattr(values, field.name)).__name__ in declared, field.name


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"zone": {"kind": "irodz"}}, "#/zone/kind"),
        ({"zone": {"kind": "embedded"}}, "#/zone/directory"),
        ({"zone": {"kind": "embedded", "directory": "here"}}, "#/zone/directory"),
        ({"zone": {"kind": "irods", "password": "x"}}, "#/zone/password"),
        ({"image": []}, "#/image"),
        ({"images": [""]}, "#/images/0"),
        ({"images": ["a\n"]}, "#/images/0"),
        ({"images": [{}]}, "#/images/0"),
        ({"images": [{"name": "a", "pattern": "b"}]}, "#/images/0"),
        ({"images": [{"digest": DIGEST}]}, "#/images/0"),
        ({"images": [{"name": "a", "digest": "sha256:1"}]}, "#/images/0/digest"),
        ({"images": [{"name": "a", "digest": DIGEST + "\n"}]}, "#/images/0/digest"),
        ({"images": [{"pattern": "("}]}, "#/images/0/pattern"),
        ({"images": [{"pattern": "[a"}]}, "#/images/0/pattern"),
        ({"images": [{"pattern": "(a+)+"}]}, "#/images/0/pattern"),
        ({"images": [{"pattern": "(a|b)*x"}]}, "#/images/0/pattern"),
        ({"images": [{"pattern": "(?:a{1,9}){1,99}"}]}, "#/images/0/pattern"),
        ({"images": [{"pattern": ""}]}, "#/images/0/pattern"),
        ({"roles": {"A": {"implementation": "module.Class"}}}, "#/roles/A/implementation"),
        ({"roles": {"A B": {"implementation": "module:Class"}}}, "#/roles/A B"),
        ({"limits": {"default": {"cpu": 1}}}, "#/limits/default/cpu"),
        ({"limits": {"default": {"cpus": 0}}}, "#/limits/default/cpus"),
        ({"limits": {"maximum": {"pids": True}}}, "#/limits/maximum/pids"),
        ({"limits": {"default": {"pids": 5000}}}, "#/limits/default/pids"),
        ({"limits": {"default": {"pids": 50}, "maximum": {"pids": 49}}}, "#/limits/default/pids"),
        ({"worker": {"slots": 0}}, "#/worker/slots"),
        ({"worker": {"on_demand": "yes"}}, "#/worker/on_demand"),
        ({"worker": {"command": "python3 -m compute_to_data.worker"}}, "#/worker/command"),
        ({"worker": {"command": ["python3"]}}, "#/worker/command/0"),
        ({"worker": {"command": ["/usr/bin/python3", "-c", "\0"]}}, "#/worker/command/2"),
        ({"attributes": {"role": ""}}, "#/attributes/role"),
        ({"engine": {"name": "../x"}}, "#/engine/name"),
    ],
)
def test_an_error_names_the_file_and_the_place(changes: Any, pointer: str) -> None:
    assert complaint(**changes).subject == "site.json" + pointer


def test_the_error_for_an_unknown_kind_of_zone_lists_the_known_ones() -> None:
    error = complaint(zone={"kind": "irodz"})
    assert error.cause == 'found "irodz", expected "embedded" or "irods"'


def test_the_error_for_a_default_above_its_maximum_names_both_values() -> None:
    assert str(complaint(limits={"default": {"pids": 50}, "maximum": {"pids": 49}})) == (
        "site.json#/limits/default/pids: found 50, expected at most /limits/maximum/pids, which is 49."
    )


def test_a_built_in_default_gives_way_to_a_smaller_maximum() -> None:
    site = parse(limits={"maximum": {"memory_bytes": 8 << 20, "walltime_seconds": 60}})
    assert (site.default_limits.memory_bytes, site.default_limits.walltime_seconds) == (8 << 20, 60.0)
    assert site.default_limits.cpus == 1.0


@pytest.mark.parametrize("document", [None, [], "x", 5, {}])
def test_a_document_of_another_type_is_an_error(document: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^site\.json"):
        site_file.parse(document, "site.json")


def test_the_error_for_an_unreadable_file_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(ConfigurationError, match=f"^{re.escape(str(path))}: cannot be read: "):
            site_file.load(str(path))


def test_an_error_about_a_file_does_not_show_its_content(tmp_path: Path) -> None:
    path = tmp_path / "site.json"
    for content in (b'{"zone": "hunter2', b'{"zone": {"kind": "irods"}, "engine": {"name": {"token": "hunter2"}}}'):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=f"^{re.escape(str(path))}") as caught:
            site_file.load(str(path))
        assert "hunter2" not in str(caught.value)


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration that leaves out what has no value, as files do."""
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if value is not None
    }


def test_the_schema_documents_the_actual_defaults() -> None:
    for section, values in (("worker", WorkerSettings()), ("attributes", Attributes())):
        described = SCHEMA["properties"][section]["properties"]
        defaults = {name: part["default"] for name, part in described.items() if "default" in part}
        assert _without_none(json.loads(json.dumps(dataclasses.asdict(values)))) == defaults
    limits = set(SCHEMA["$defs"]["limits"]["properties"])
    assert limits == {field.name for field in dataclasses.fields(Limits)}


# Images


@pytest.mark.parametrize(
    ("rule", "allowed", "others"),
    [
        (
            "debian",
            ["debian"],
            ["debian:bookworm", "debian2", "Debian", "docker.io/library/debian", "debia", " debian"],
        ),
        ({"pattern": "debian"}, ["debian"], ["debian:bookworm", "debian-evil", "xdebian", "debian\n"]),
        ({"pattern": "debian.*"}, ["debian", "debian:x"], ["debian\nx", "debian\n", "debian\0", "debian\u2028x"]),
        ({"pattern": "debian$"}, ["debian"], ["debian\n"]),
        ({"pattern": "(?s)debian.*$"}, ["debianx"], ["debian\n", "debian\nevil"]),
        ({"pattern": "a|b.*"}, ["a", "bc"], ["ac", "xa"]),
        ({"pattern": "a.c"}, ["abc"], ["abcd"]),
        ({"pattern": ".*"}, ["a"], ["", "a" * (MAXIMUM_IMAGE_CHARACTERS + 1)]),
    ],
)
def test_only_whole_names_match(rule: Any, allowed: list[str], others: list[str]) -> None:
    site = parse(images=[rule])
    for name in allowed:
        assert site.allows(name) == site.images[0]
    for name in others:
        assert site.allows(name) is None, name
        with pytest.raises(Refused, match="is not in this site's list of allowed images"):
            site.permit(Image(name, DIGEST))


@given(st.text(min_size=1))
def test_no_image_is_allowed_by_default(name: str) -> None:
    assert parse().allows(name) is None


@given(st.text(max_size=30))
def test_a_plain_name_is_not_a_pattern(name: str) -> None:
    assert (parse(images=["a.b+c"]).allows(name) is not None) is (name == "a.b+c")


def test_a_costly_pattern_ends_on_the_longest_name() -> None:
    site = parse(images=[{"pattern": "[a-z]*[a-z]*[a-z]*:x"}])
    assert site.allows("a" * MAXIMUM_IMAGE_CHARACTERS) is None


def test_a_name_without_a_digest_admits_any_content() -> None:
    parse(images=["a"]).permit(Image("a", OTHER))


def test_a_digest_admits_only_that_content_under_any_of_its_digests() -> None:
    site = parse(images=[{"name": "a", "digest": DIGEST}])
    site.permit(Image("a", DIGEST))
    site.permit(Image("a", OTHER, frozenset({DIGEST})))
    with pytest.raises(Refused) as caught:
        site.permit(Image("a", OTHER, frozenset({"sha256:" + "3" * 64})))
    expected = "is sha256:222222222222… here, but under that name this site allows only sha256:111111111111…"
    assert expected in caught.value.cause


def test_any_rule_about_a_name_can_admit_it() -> None:
    rules = [{"name": "a", "digest": DIGEST}, {"pattern": "[a-z]", "digest": OTHER}]
    site = parse(images=rules)
    site.permit(Image("a", DIGEST))
    site.permit(Image("a", OTHER))
    site.permit(Image("b", OTHER))
    with pytest.raises(Refused):
        site.permit(Image("b", DIGEST))
    with pytest.raises(Refused, match="only sha256:111111111111… or sha256:222222222222…: the name was given"):
        site.permit(Image("a", "sha256:" + "3" * 64))


# Limits


def test_a_limit_that_is_not_asked_for_gets_the_default() -> None:
    site = parse()
    assert site.effective_limits(RequestedLimits(), None) == site.default_limits


def test_a_limit_within_the_maximum_is_granted() -> None:
    limits = parse().effective_limits(RequestedLimits(10.0, 1024, 0.5, 2, 4096), None)
    default = parse().default_limits
    assert limits == dataclasses.replace(
        default, walltime_seconds=10.0, memory_bytes=1024, cpus=0.5, pids=2, output_bytes=4096
    )


@pytest.mark.parametrize(
    ("walltime", "timeout", "given"),
    [
        (None, None, 3600.0),
        (None, 5.0, 5.0),
        (7.0, None, 7.0),
        (7.0, 5.0, 5.0),
        (5.0, 7.0, 5.0),
        (None, 7200.0, 7200.0),
    ],
)
def test_the_shorter_of_walltime_and_timeout_applies(walltime: float, timeout: float, given: float) -> None:
    assert parse().effective_limits(RequestedLimits(walltime_seconds=walltime), timeout).walltime_seconds == given


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RequestedLimits)])
def test_the_maximum_is_granted_but_no_more(name: str) -> None:
    site = parse()
    maximum = getattr(site.maximum_limits, name)
    assert getattr(site.effective_limits(RequestedLimits(**{name: maximum}), None), name) == maximum
    with pytest.raises(Refused) as caught:
        site.effective_limits(RequestedLimits(**{name: maximum + 1}), None)
    assert caught.value.subject == f"/limits/{name}"
    unit = {"bytes": " bytes", "seconds": " seconds"}.get(name.rpartition("_")[2], "")
    asked, most = f"{maximum + 1:.15g}{unit}", f"{maximum:.15g}{unit}"
    assert caught.value.cause == f"asks for {asked}, but this site's maximum of {name} is {most}"
    assert caught.value.remedy == f"Ask for at most {most}"


def test_a_timeout_above_the_maximum_is_refused_even_with_a_short_walltime() -> None:
    with pytest.raises(Refused) as caught:
        parse().effective_limits(RequestedLimits(walltime_seconds=1.0), 86401.0)
    assert caught.value.subject == "/process/timeout"


# Documentation


def test_every_example_in_the_documentation_is_accepted() -> None:
    blocks = re.findall(r"```json\n(.*?)```", DOCUMENTATION.read_text("utf-8"), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        site_file.parse(json.loads(block), "documentation")


def test_every_property_and_its_default_is_documented() -> None:
    text = DOCUMENTATION.read_text("utf-8")
    for name in property_names(SCHEMA):
        assert f"`{name}`" in text, name
    site = parse()
    for name, value in dataclasses.asdict(site.default_limits).items():
        maximum = getattr(site.maximum_limits, name)
        assert re.search(rf"\| `{name}`.* \| {value:.15g} \| {maximum:.15g} \|", text), name


def property_names(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        yield from node.get("properties", {})
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from property_names(part)


def test_a_workers_command_is_a_vector_of_words() -> None:
    command = ["/opt/compute-to-data/bin/python", "-m", "compute_to_data.worker"]
    assert parse(worker={"command": command}).worker.command == tuple(command)
    assert parse().worker.command == ()
