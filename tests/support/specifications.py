"""Schemathesis, with all of its checks, on an OpenAPI document and a gateway that is said to do what it says."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.gateway_things import Things
from support.gateways import PASSWORDS, RunningGateway
from support.site import PATIENCE

CONFIGURATION = """
[checks.positive_data_acceptance]
# A document cannot say which paths, ids, URLs and images a site has.
expected-statuses = [200, 201, 202, 204, 302, 304, 400, 404, 409, 415, 416, 422]
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 406, 413, 415, 422, 431]

[[operations]]
include-name = "DELETE /authenticate"
# The requests come with a password, and only a token can be ended.
checks.positive_data_acceptance.expected-statuses = [204, 401]
"""


def failures(
    gateway: RunningGateway, document: dict[str, Any], folder: Path, things: tuple[Things, Things], examples: int
) -> str:
    """What it found, '' when that is nothing. Each run sends the same requests. ``things``: what the requests may find;
    what they remove."""
    described, settings = folder / "described.json", folder / "schemathesis.toml"
    described.write_text(json.dumps(document, default=str), encoding="utf-8")
    settings.write_text(CONFIGURATION + "".join(_parameters(document, *things)), encoding="utf-8")
    basic = base64.b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(settings),
        "run", str(described), "--url", f"{gateway.url}{_base(document)}", "--checks", "all",
        "--phases", "examples,coverage,fuzzing", "--header", f"Authorization: Basic {basic}",
        "--max-examples", str(examples), "--seed", "1", "--workers", "1", "--continue-on-failure",
        "--generation-deterministic", "--no-color", "--request-timeout", str(PATIENCE),
    ]  # fmt: skip
    environment = {**os.environ, "NO_PROXY": "*"}
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, check=False, stdin=subprocess.DEVNULL
    )
    assert "Test cases:" in ran.stdout, ran.stdout[-2000:] + ran.stderr[-2000:]
    return "" if ran.returncode == 0 else ran.stdout[-20_000:] + ran.stderr[-2000:]


def _base(document: dict[str, Any]) -> str:
    servers = document.get("servers") or [{"url": ""}]
    return "/" + str(servers[0]["url"]).partition("://")[2].partition("/")[2] if servers[0]["url"] else ""


def _parameters(document: dict[str, Any], found: Things, removed: Things) -> Iterator[str]:
    for path, operations in document["paths"].items():
        full = f"{_base(document)}{path}"
        for method in operations:
            values = (removed if method == "delete" else found).parameters(full)
            if values:
                shown = ", ".join(f'"path.{name}" = {json.dumps(value)}' for name, value in values.items())
                chosen = json.dumps(f"{method.upper()} {path}")
                yield f"\n[[operations]]\ninclude-name = {chosen}\nparameters = {{ {shown} }}\n"
