"""Schemathesis with all of its checks: our OpenAPI document, and the official one of the Task Execution Service."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support.gateway_things import Things, make_things
from support.gateways import RunningGateway
from support.site import TrialSite
from support.specifications import failures

pytestmark = pytest.mark.usefixtures("working")


@pytest.fixture
def things(alice: httpx.Client, site: TrialSite, working: None) -> tuple[Things, Things]:
    """What its requests may find, and what they may remove."""
    return make_things(alice, site), make_things(alice, site, "2")


def test_our_document(
    gateway: RunningGateway, alice: httpx.Client, tmp_path: Path, things: tuple[Things, Things]
) -> None:
    document = alice.get("/api/v1/openapi.json").json()
    found = failures(gateway, document, tmp_path, things, examples=3)
    assert not found, found


SPECIFICATION = Path(__file__).parents[1] / "data/tes/specification/task_execution_service.openapi.yaml"
"""https://github.com/ga4gh/task-execution-schemas, version 1.1.0 (Apache License 2.0)."""
SERVICE = {
    "type": "object",
    "required": ["id", "name", "type", "organization", "version"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "description": {"type": "string"},
        "version": {"type": "string"},
        "organization": {
            "type": "object",
            "required": ["name", "url"],
            "properties": {"name": {"type": "string"}, "url": {"type": "string", "format": "uri"}},
        },
    },
}
TYPE = {
    "type": "object",
    "required": ["group", "artifact", "version"],
    "properties": {name: {"type": "string"} for name in ("group", "artifact", "version")},
}
MINIMAL = {
    "type": "object",
    "required": ["id", "state"],
    "properties": {"id": {"type": "string"}, "state": {"$ref": "#/components/schemas/tesState"}},
    "additionalProperties": False,
}
PROBLEM = {
    "description": "an error",
    "content": {"application/problem+json": {"schema": {"type": "object", "required": ["status", "detail"]}}},
}


def specification(server: str) -> dict[str, Any]:
    """The official one, with what it leaves out: the two schemas that it takes from another address, as GA4GH's
    service-info 1.0.0 has them, and the answers other than 200, of which it has none."""
    found: dict[str, Any] = copy.deepcopy(yaml.safe_load(SPECIFICATION.read_text(encoding="utf-8")))
    found["servers"] = [{"url": f"{server}/ga4gh/tes/v1"}]
    schemas = found["components"]["schemas"]
    for name, schema in (("tesServiceInfo", SERVICE), ("tesServiceType", TYPE)):
        parts = schemas[name]["allOf"]
        assert parts[0]["$ref"].startswith("https://raw.githubusercontent.com/ga4gh-discovery/"), (
            "it is another one now"
        )
        parts[0] = schema
    # Of the view MINIMAL it says both that it has nothing but id and state, and that executors are required.
    whole = {"anyOf": [{"$ref": "#/components/schemas/tesTask"}, MINIMAL]}
    schemas["tesListTasksResponse"]["properties"]["tasks"]["items"] = whole
    shown = found["paths"]["/tasks/{id}"]["get"]["responses"][200]
    shown["content"]["application/json"]["schema"] = whole
    for operations in found["paths"].values():
        for operation in operations.values():
            operation["responses"]["default"] = PROBLEM
    return found


def test_the_official_specification(gateway: RunningGateway, tmp_path: Path, things: tuple[Things, Things]) -> None:
    document = specification(gateway.url)
    parts = [name for one in document["paths"] for name in ("{id}",) if name in one]
    assert len(parts) == 2, "it names the task otherwise now"
    found = failures(gateway, document, tmp_path, things, examples=20)
    assert not found, found
