"""A person's settings and session files: their place, content and permissions."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from compute_to_data.client.this_computer import settings
from compute_to_data.errors import ConfigurationError

VARIABLES = ("C2D_CONFIG_FILE", "C2D_SESSION_FILE", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "IRODS_ENVIRONMENT_FILE")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def written(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_without_config_json_the_environment_of_iinit_is_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings.load()
    assert found.zone.kind == "irods"
    assert found.zone.settings["environment_file"] == str(home / ".irods/irods_environment.json")
    assert (found.output, found.site, found.attributes, found.source) == ("pretty", "", None, "")
    monkeypatch.setenv("IRODS_ENVIRONMENT_FILE", "/elsewhere/env.json")
    assert settings.load().zone.settings["environment_file"] == "/elsewhere/env.json"


@pytest.mark.skipif(os.name != "posix", reason="the folders of other platforms")
def test_the_argument_overrides_the_variable_which_overrides_the_platforms_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = written(home / ".config/compute-to-data/config.json", {"output": "raw"})
    assert settings.load().source == str(usual)
    xdg = written(home / "xdg/compute-to-data/config.json", {"output": "json"})
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    assert settings.load().source == str(xdg)
    named = written(home / "named.json", {"site": "/etc/site.json"})
    monkeypatch.setenv("C2D_CONFIG_FILE", str(named))
    assert settings.load().site == "/etc/site.json"
    argument = written(home / "argument.json", {"attributes": {"prefix": "own"}})
    attributes = settings.load(str(argument)).attributes
    assert attributes is not None
    assert (attributes.state, attributes.role) == ("own::state", "COMPUTE_RESOURCE_ROLE")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"zone": {"kind": "embedded", "directory": "/z"}}, "#/zone/user"),
        ({"zone": {"kind": "embedded"}}, "#/zone/directory"),
        ({"zone": {"kind": "gateway"}}, "#/zone/url"),
        ({"zone": {"kind": "mars"}}, "#/zone"),
        ({"outptu": "raw"}, "expected output"),
        ({"output": "xml"}, "#/output"),
        ({"site": "relative.json"}, "an absolute physical path"),
        ("{", "config.json"),
        ([], "expected a user's settings, which are an object"),
    ],
)
def test_a_mistake_is_named_with_its_place(home: Path, document: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        settings.load(str(written(home / "config.json", document)))


def test_a_file_without_an_end_is_not_read_on(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds more than 1048576 bytes"):
        settings.load("/dev/zero")


def test_a_named_file_must_exist(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.json: does not exist"):
        settings.load(str(home / "missing.json"))
    monkeypatch.setenv("C2D_CONFIG_FILE", str(home / "gone.json"))
    with pytest.raises(ConfigurationError, match=r"gone\.json"):
        settings.load()


def test_only_its_owner_can_read_the_session_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load_session() == {}
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    path = settings.session_path()
    assert path == str(home / "state/compute-to-data/session.json")
    old = os.umask(0)
    try:
        settings.write_private(path, {"project": "/tempZone/home/alice/p"})
    finally:
        os.umask(old)
    assert settings.load_session() == {"project": "/tempZone/home/alice/p"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert os.listdir(os.path.dirname(path)) == ["session.json"]


def test_a_failed_write_leaves_the_file_unchanged(home: Path) -> None:
    written(home / "not-a-folder", "x")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        settings.write_private(str(home / "not-a-folder" / "session.json"), {})


@pytest.mark.parametrize(
    ("platform", "variables", "config", "state"),
    [
        ("linux", {}, ".config", ".local/state"),
        ("linux", {"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}, "/c", "/s"),
        ("linux", {"XDG_CONFIG_HOME": "relative"}, ".config", ".local/state"),  # as the specification says
        ("freebsd14", {}, ".config", ".local/state"),
        ("darwin", {"XDG_CONFIG_HOME": "/c"}, "Library/Application Support", "Library/Application Support"),
        ("win32", {"APPDATA": "/r", "LOCALAPPDATA": "/l"}, "/r", "/l"),
        ("win32", {}, "AppData/Roaming", "AppData/Local"),
    ],
)
def test_each_platform_has_its_own_folders(
    home: Path, monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], config: str, state: str
) -> None:
    for name in ("APPDATA", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert settings._folder("config", platform) == str(home / config / "compute-to-data")
    assert settings._folder("state", platform) == str(home / state / "compute-to-data")
