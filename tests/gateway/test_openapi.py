"""What the OpenAPI document says is what the gateway does."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema
import pytest


@pytest.fixture
def described(alice: httpx.Client) -> dict[str, Any]:
    """The operations of each address."""
    document: dict[str, Any] = alice.get("/api/v1/openapi.json").json()
    assert len(document["paths"]) > 20
    return dict(document["paths"])


def test_each_operation_says_how_its_problems_look(described: dict[str, Any], alice: httpx.Client) -> None:
    for address, operations in described.items():
        for method, operation in operations.items():
            assert "422" not in operation["responses"], f"{method} {address}: FastAPI's own form of errors"
            assert set(operation["responses"]["default"]["content"]) == {"application/problem+json"}
    schema = described["/api/v1/tasks"]["get"]["responses"]["default"]["content"]["application/problem+json"]["schema"]
    for asked in ("/api/v1/tasks?limit=-1", "/api/v1/tasks/unknown", "/nowhere"):
        problem = alice.get(asked)
        assert problem.status_code in (400, 404), asked
        jsonschema.validate(problem.json(), schema)


def test_another_method_is_refused_with_those_that_there_are(described: dict[str, Any], alice: httpx.Client) -> None:
    for address, operations in described.items():
        answer = alice.request("OPTIONS", re.sub(r"\{.*?\}", "0", address.replace("{method}", "stat")))
        assert answer.status_code == 405, address
        allowed = set(answer.headers["allow"].split(", "))
        assert allowed >= {method.upper() for method in operations}, address
