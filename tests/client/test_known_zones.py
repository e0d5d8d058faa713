"""``c2d zone use`` and ``c2d zone list``: every zone that a person has worked in is one command away."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compute_to_data.cli.exits import ExitCode
from compute_to_data.cli.main import main
from compute_to_data.client.session import connect
from compute_to_data.model import User
from compute_to_data.zones.embedded.entrance import EmbeddedEntrance

C2D = Callable[..., tuple[int, str, str]]


@pytest.fixture
def c2d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> C2D:
    """Type a command as a person who has nothing yet; returns the exit code, stdout and stderr."""
    for name in ("C2D_CONFIG_FILE", "C2D_SESSION_FILE", "C2D_PROJECT", "C2D_OUTPUT", "IRODS_ENVIRONMENT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)

    def typed(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return typed


def zones(c2d: C2D) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(c2d("zone", "list", "--output", "json")[1])}


def test_back_to_the_first_zone_with_its_project(c2d: C2D, tmp_path: Path) -> None:
    assert c2d("zone", "create", "A", "--user", "ann")[0] == 0
    with connect() as session:
        session.catalog.create_collection(f"{session.home}/mine")
    assert c2d("project", "set", "mine")[0] == 0
    code, _, said = c2d("zone", "create", "B", "--user", "bob")
    assert code == ExitCode.REFUSED and "c2d zone use leads back" in said
    assert c2d("zone", "create", "B", "--user", "bob", "--force")[0] == 0
    assert {name: one["in_use"] for name, one in zones(c2d).items()} == {"A": False, "B": True}
    code, out, said = c2d("zone", "use", "A")
    assert (code, out) == (0, "A\n") and "as ann, in /tempZone/home/ann/mine" in said
    with connect() as session:
        assert (session.user.name, session.project) == ("ann", "/tempZone/home/ann/mine")
    assert c2d("zone", "use", "B")[0] == 0
    with connect() as session:
        assert (session.user.name, session.project) == ("bob", "/tempZone/home/bob")


def test_a_zone_is_found_by_its_folder(c2d: C2D, tmp_path: Path) -> None:
    assert c2d("zone", "create", "A", "--user", "ann")[0] == 0
    (tmp_path / "config/compute-to-data/zones.json").unlink()
    (tmp_path / "config/compute-to-data/config.json").unlink()
    code, _, said = c2d("zone", "use", "./A")
    assert code == 0, said
    with connect() as session:
        assert session.user.name == "ann" and session.site is not None


def test_two_folders_of_one_name_get_two_names(c2d: C2D) -> None:
    assert c2d("zone", "create", "one/z", "--user", "ann")[0] == 0
    assert c2d("zone", "create", "two/z", "--user", "ann", "--force")[0] == 0
    assert set(zones(c2d)) == {"z", "z-2"} and zones(c2d)["z-2"]["in_use"]


def test_a_zone_of_irods_and_a_private_one(c2d: C2D, tmp_path: Path) -> None:
    environment = tmp_path / "home/.irods/irods_environment.json"
    environment.parent.mkdir(parents=True)
    environment.write_text(json.dumps({"irods_zone_name": "labZone", "irods_user_name": "ann", "irods_host": "x"}))
    assert zones(c2d)["labZone"]["in_use"], "iinit logged in to it"
    assert c2d("zone", "create", "A", "--user", "ann")[0] == 0
    assert not zones(c2d)["labZone"]["in_use"]
    assert c2d("zone", "use", "labZone")[0] == 0
    found = zones(c2d)
    assert found["labZone"]["in_use"] and not found["A"]["in_use"] and len(found) == 2
    assert c2d("zone", "use", "A")[0] == 0


def test_the_form_of_results_stays_the_persons(c2d: C2D, tmp_path: Path) -> None:
    assert c2d("zone", "create", "A", "--user", "ann")[0] == 0
    path = tmp_path / "config/compute-to-data/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "output": "raw"}))
    assert c2d("zone", "create", "B", "--user", "ann", "--force")[0] == 0
    assert json.loads(path.read_text())["output"] == "raw"


@pytest.mark.parametrize(
    ("given", "cause"),
    [("Aa", "Did you mean A?"), ("nowhere", "is not known here"), (".", "holds no zone"), ("A", "is gone")],
)
def test_what_is_no_zone_is_refused_and_changes_nothing(c2d: C2D, tmp_path: Path, given: str, cause: str) -> None:
    assert c2d("zone", "create", "A", "--user", "ann")[0] == 0
    assert c2d("zone", "create", "B", "--user", "ann", "--force")[0] == 0
    (tmp_path / "A").rename(tmp_path / "moved")
    code, _, said = c2d("zone", "use", given)
    assert code == ExitCode.NOT_FOUND and cause in said
    assert zones(c2d)["B"]["in_use"]


def test_settings_that_are_wrong_are_put_aside(c2d: C2D, tmp_path: Path) -> None:
    path = tmp_path / "config/compute-to-data/config.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert c2d("zone", "create", "A", "--user", "ann", "--force")[0] == 0
    assert path.with_name("config.json.old").read_text() == "{"


def test_a_registry_that_is_wrong_is_named(c2d: C2D, tmp_path: Path) -> None:
    path = tmp_path / "config/compute-to-data/zones.json"
    path.parent.mkdir(parents=True)
    path.write_text("[]")
    code, _, said = c2d("zone", "list")
    assert code == ExitCode.USAGE and str(path) in said


def test_of_several_users_one_must_be_named(c2d: C2D, tmp_path: Path) -> None:
    from compute_to_data import zones as kinds

    assert c2d("zone", "create", "A", "--user", "ann")[0] == 0
    zone = kinds.embedded_zones()(str(tmp_path / "A/zone"))
    zone.add_user("bob")
    zone.close()
    (tmp_path / "config/compute-to-data/zones.json").unlink()
    (tmp_path / "config/compute-to-data/config.json").unlink()
    code, _, said = c2d("zone", "use", "A")
    assert code == ExitCode.REFUSED and "has the users ann, bob" in said and "--user" in said
    assert c2d("zone", "use", "A", "--user", "bob")[0] == 0
    with connect() as session:
        assert session.user.name == "bob"


def test_a_new_user_with_a_password(c2d: C2D, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert c2d("zone", "create", "A", "--user", "ann")[0] == 0

    def typed(password: str, *words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        code, _, said = c2d("zone", "password", *words)
        return code, said

    code, said = typed("battery staple", "bob")
    assert code == ExitCode.NOT_FOUND and "c2d zone password --new bob" in said
    for password, name in (("short", "bob"), ("battery staple", "b/b"), ("battery staple", "bob#other")):
        assert typed(password, "--new", name)[0] not in (0, ExitCode.NOT_FOUND)
    code, said = typed("battery staple", "--new", "bob")
    assert code == 0 and "bob#tempZone is a user now" in said
    code, said = typed("another one", "--new", "bob")
    assert code != 0 and "c2d zone password bob" in said
    entrance = EmbeddedEntrance(str(tmp_path / "A" / "zone"))
    person = entrance.signed_in(User("bob", "tempZone"), "battery staple")
    assert person.stat("/tempZone/home/bob").logical_path == "/tempZone/home/bob"
    entrance.close()


@pytest.mark.parametrize(
    ("folder", "user", "said"),
    [
        ("a\nb", "ann", "has a control character"),
        ("a\udcff", "ann", "bytes that are no UTF-8"),
        ("/".join(["x" * 200] * 5), "ann", "with a shorter path"),
        ("C", "a/b", "a/b"),
    ],
)
def test_a_zone_that_cannot_be_made_leaves_nothing(c2d: C2D, tmp_path: Path, folder: str, user: str, said: str) -> None:
    code, _, error = c2d("zone", "create", folder, "--user", user)
    assert code != 0 and said in error and "internal error" not in error
    assert not (tmp_path / "config").exists()
    assert [path for path in tmp_path.rglob("*") if path.name == "zone"] == []


def test_other_files_in_the_place_of_a_zone_stay(c2d: C2D, tmp_path: Path) -> None:
    (tmp_path / "A" / "zone").mkdir(parents=True)
    (tmp_path / "A" / "zone" / "mine").write_text("mine")
    for user in ("ann", "a/b"):
        code, _, error = c2d("zone", "create", "A", "--user", user)
        assert code == ExitCode.REFUSED and "holds files that are no zone" in error
    assert (tmp_path / "A" / "zone" / "mine").read_text() == "mine"
