"""This host's names: those of the operating system, and those that the iRODS server here has by its settings."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from compute_to_data import this_host
from compute_to_data.model import Resource


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the server's settings would be."""
    file = tmp_path / "server_config.json"
    monkeypatch.setattr(this_host, "SERVER_CONFIG", str(file))
    return file


def resolution(kind: str, *addresses: Any) -> dict[str, Any]:
    return {"host_resolution": {"host_entries": [{"address_type": kind, "addresses": list(addresses)}]}}


def is_here(host: str) -> bool:
    return Resource("dsp_resc", "unixfilesystem", host, "/vault").is_here


def test_without_a_server(config: Path) -> None:
    assert is_here("localhost")
    assert is_here(socket.gethostname())
    assert not is_here("data.example.org")


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "data.example.org"},
        resolution("local", "10.1.2.3", "data.example.org"),
        resolution("local", {"address": "data.example.org"}),
    ],
    ids=["host", "host_resolution", "as iRODS 4.2 wrote it"],
)
def test_a_name_that_the_server_here_has(config: Path, settings: dict[str, Any]) -> None:
    config.write_text(json.dumps(settings))
    assert is_here("data.example.org")
    assert is_here("localhost")
    assert not is_here("other.example.org")


def test_another_servers_alias(config: Path) -> None:
    config.write_text(json.dumps({"host": "here.example.org", **resolution("remote", "10.1.2.4", "data.example.org")}))
    assert is_here("here.example.org")
    assert not is_here("data.example.org")


def test_an_alias_that_is_added_while_an_agent_runs(config: Path) -> None:
    config.write_text(json.dumps(resolution("local", "here", "old.example.org")))
    assert is_here("old.example.org")
    config.write_text(json.dumps(resolution("local", "here", "data.example.org")))
    os.utime(config, ns=(1, 1))
    assert is_here("data.example.org")
    assert not is_here("old.example.org")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"host"', '{"host": 7}', '{"host": ""}', '{"host_resolution": []}', b"\xff",
     '{"host_resolution": {"host_entries": [7, {"address_type": "local", "addresses": "x"}, {"addresses": ["x"]}]}}',
     '{"host_resolution": {"host_entries": [{"address_type": "local", "addresses": [7, null, {}, []]}]}}'],
)  # fmt: skip
def test_settings_that_say_nothing_of_use(config: Path, text: str | bytes) -> None:
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert is_here("localhost")
    assert not is_here("x")
    assert not is_here("")


def test_settings_that_this_account_may_not_read(config: Path) -> None:
    config.mkdir()  # root may read any file
    assert is_here("localhost")
